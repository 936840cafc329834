"""Train the dense autoencoder on a stream's reference: a pure function of the reference and the Config."""

from __future__ import annotations

import numpy as np
import torch

from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.base import Reference
from streamd.fitting.base import FitError, unwatched
from streamd.fitting.reconstruction import DenseLesson
from streamd.fitting.split import BLOCK_TIMES, BLOCKS_MAX, DEPENDENCE_ROWS, autocorrelation_time, cut
from streamd.fitting.training import one_thread, train
from streamd.scorers.bundle import Bundle, to_bytes
from streamd.scorers.dense import DenseAutoencoder, Layer, layer_widths, usual_activations
from streamd.scorers.transform import Inputs, Transform, learn_transform

BLOCKS_MIN = 4  # of so few rows as a stream's first ones


def fit(config: AutoencoderConfig, reference: Reference) -> bytes:
    """Learn to reconstruct the reference's rows; safetensors bytes that AutoencoderConfig.profile reads.

    The reference is cut into at most 20 blocks of neighbouring rows. The even ones are learned from, but for
    their last fifth, which decides when to stop; the odd ones are held out, and their errors are what live
    errors are later compared with: a network reconstructs the rows that it learned from better than any others,
    and would call all of those drift. Blocks, and not single rows in turn, because a held-out row between two
    learned neighbours that resemble it is not held out at all; so the more the rows depend on their past, the
    longer the blocks. A reference with too little to learn from gives a bundle without a network, whose note
    says why.

    Two calls on one machine give the same bytes: all that is random comes from a generator of the call's own,
    and torch computes on one thread meanwhile.
    """
    table = reference.table
    transform = learn_transform(table, config.bound, config.categories_max)
    problem = _problem(config, table.rows, transform.inputs)
    if problem is not None:
        return to_bytes(_empty(transform, problem))
    time = autocorrelation_time(transform(table.take(np.arange(min(table.rows, DEPENDENCE_ROWS)))))
    if table.rows / time < config.fit_effective_rows_min:
        return to_bytes(_empty(transform, _too_dependent(config, table.rows, time)))
    count = _block_count(table.rows, time)
    blocks, rows, validating = cut(table.rows, config.fit_rows_max, count)
    inputs = transform(table.take(rows))
    held_out = blocks % 2 == 1
    validating &= ~held_out
    with one_thread():
        try:
            layers, epochs = _train(config, inputs[:, ~held_out & ~validating], inputs[:, validating])
        except FitError as error:
            return to_bytes(_empty(transform, f"not fitted: {error}"))
        squared, errors = DenseAutoencoder(layers, "cpu").errors(np.ascontiguousarray(inputs[:, held_out]))
    learned = int(np.count_nonzero(~held_out & ~validating))
    bundle = Bundle(
        transform=transform,
        layers=layers,
        errors=errors,
        input_errors=squared.mean(axis=1, dtype=np.float64),
        row_threshold=float(np.quantile(errors, config.row_quantile)),
        note=f"fitted on {learned} of {table.rows} rows, {transform.inputs} inputs, {epochs} epochs; "
        f"mean error {errors.mean():.3g} on {len(errors)} rows held out",
    )
    return to_bytes(bundle)


def _problem(config: AutoencoderConfig, rows: int, inputs: int) -> str | None:
    if inputs == 0:
        return "not fitted: the reference has no numeric or categorical column with a value"
    if inputs > config.inputs_max:
        return f"not fitted: {inputs} inputs are over inputs_max = {config.inputs_max}"
    if rows < config.fit_rows_min:
        return f"not fitted: {rows} rows are under fit_rows_min = {config.fit_rows_min}"
    return None


def _too_dependent(config: AutoencoderConfig, rows: int, time: float) -> str:
    return (
        f"not fitted: each row resembles the {time:.0f} before it, so that {rows} rows are worth {rows / time:.0f} "
        f"independent ones, under fit_effective_rows_min = {config.fit_effective_rows_min}; send a longer reference"
    )


def _empty(transform: Transform, note: str) -> Bundle:
    nothing = np.zeros(0)
    unread = Transform((), nothing, nothing, (), transform.bound)
    return Bundle(unread, (), nothing, nothing, 0.0, note)


def _block_count(rows: int, memory: float) -> int:
    """An even number of blocks, each of at least ten autocorrelation times where the reference is long enough."""
    pairs = int(rows / (2 * BLOCK_TIMES * memory))
    return 2 * min(max(pairs, BLOCKS_MIN // 2), BLOCKS_MAX // 2)


def _train(config: AutoencoderConfig, learned: Inputs, validated: Inputs) -> tuple[tuple[Layer, ...], int]:
    """Learn to reconstruct, until `patience_epochs` bring nothing better.

    Args:
        learned: (inputs, rows).
        validated: (inputs, rows) that decide when to stop.

    Returns:
        The layers of the best epoch, and how many epochs there were.

    Raises:
        FitError: a loss is not finite.
    """
    generator = torch.Generator().manual_seed(config.seed)
    widths = layer_widths(len(learned), config.hidden)
    activations = usual_activations(len(widths) - 1)
    lesson = DenseLesson(learned, validated, widths, activations, generator, learning_rate=config.learning_rate)
    epochs = train(lesson, config, generator, unwatched)
    return lesson.layers(), epochs
