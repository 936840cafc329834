"""Train the dense autoencoder on a stream's reference: a pure function of the reference and the Config."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.base import Reference
from streamd.fitting.base import FitError, unwatched
from streamd.fitting.learning import scored_rows, usual_shares
from streamd.fitting.reconstruction import DenseLesson
from streamd.fitting.split import BLOCK_TIMES, BLOCKS_MAX, DEPENDENCE_ROWS, autocorrelation_time, cut
from streamd.fitting.training import one_thread, train
from streamd.scorers.dense import Layer, layer_widths, usual_activations
from streamd.scorers.fitted import Fitted, to_bytes
from streamd.scorers.reconstruction import load, parts_of_rows
from streamd.scorers.transform import Inputs, Transform, learn_transform
from streamd.seasons import HOUR_MS
from streamd.table import Table

KIND = "reconstruction"
DAY_MS = 24 * HOUR_MS
BLOCKS_MIN = 4  # of so few rows as a stream's first ones


def fit(config: AutoencoderConfig, reference: Reference) -> bytes:
    """Learn to reconstruct the reference's rows: bytes of a Fitted, which AutoencoderConfig.profile reads.

    The reference is cut into at most 20 blocks of neighbouring rows. The even ones are learned from, but for
    their last fifth, which decides when to stop; the odd ones are held out, and their errors are what live
    errors are later compared with: a network reconstructs the rows that it learned from better than any others,
    and would call all of those drift. Blocks, and not single rows in turn, because a held-out row between two
    learned neighbours that resemble it is not held out at all; so the more the rows depend on their past, the
    longer the blocks. A reference with too little to learn from gives a Fitted that is empty, whose note says why.

    Two calls on one machine give the same bytes: all that is random comes from a generator of the call's own,
    and torch computes on one thread meanwhile.
    """
    try:
        return to_bytes(_fitted(config, reference.table))
    except FitError as error:
        return to_bytes(Fitted(KIND, {}, {}, np.zeros(0), 0.0, f"not fitted: {error}"))


def _fitted(config: AutoencoderConfig, table: Table) -> Fitted:
    """Raises FitError where there is too little to learn from, or it could not be learned."""
    transform = learn_transform(table, config.bound, config.categories_max)
    _check(config, table.rows, transform.inputs)
    time = _memory(transform, table.take(np.arange(min(table.rows, DEPENDENCE_ROWS))))
    if table.rows / time < config.fit_effective_rows_min:
        raise FitError(
            f"each row resembles the {time:.0f} before it, so that {table.rows} rows are worth {table.rows / time:.0f} "
            f"independent ones, under fit_effective_rows_min = {config.fit_effective_rows_min}; send a longer reference"
        )
    blocks, rows, validating = _cut(config, table, time)
    held_out = blocks % 2 == 1
    learned = ~held_out & ~validating
    with one_thread():
        inputs = transform(table.take(rows))
        layers, epochs = _train(config, inputs[:, learned], inputs[:, ~held_out & validating])
        unweighted = np.ones(transform.inputs, np.float32)
        parts = parts_of_rows(transform, layers, usual_activations(len(layers)), unweighted)
        fitted = Fitted(KIND, *parts, np.zeros(0), 0.0, "")
        scores = load(fitted, "cpu").score(table.take(rows[held_out]))
        known = scored_rows(scores)
        usual = usual_shares(scores, known)
    errors = scores.values[known]
    return replace(
        fitted,
        calibration=errors,
        usual=usual,
        places=None if table.times_ms is None else rows[held_out][known],
        row_threshold=float(np.quantile(errors, config.row_quantile)),
        note=f"fitted on {np.count_nonzero(learned)} of {table.rows} rows, {transform.inputs} inputs, {epochs} epochs; "
        f"mean error {errors.mean():.3g} on {len(errors)} rows held out",
    )


def _check(config: AutoencoderConfig, rows: int, inputs: int) -> None:
    if inputs == 0:
        raise FitError("the reference has no numeric or categorical column with a value")
    if inputs > config.inputs_max:
        raise FitError(f"{inputs} inputs are over inputs_max = {config.inputs_max}")
    if rows < config.fit_rows_min:
        raise FitError(f"{rows} rows are under fit_rows_min = {config.fit_rows_min}")


def _memory(transform: Transform, table: Table) -> float:
    """The autocorrelation time of the rows, where they have times within each hour of the day: a season is no
    dependence."""
    inputs = transform(table)
    if table.times_ms is None:
        return autocorrelation_time(inputs)
    hours = table.times_ms // HOUR_MS % 24
    parts = [inputs[:, hours == hour] for hour in np.unique(hours)]
    return float(np.average([autocorrelation_time(p) for p in parts], weights=[p.shape[1] for p in parts]))


def _cut(
    config: AutoencoderConfig, table: Table, time: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """See split.cut. Where the rows have times every hour is learned and held out: rows are taken evenly, and a day
    has an odd number of blocks, so that what is learned on one day is held out on the next."""
    count = _block_count(table.rows, time)
    days = 0 if table.times_ms is None else round(float(np.ptp(table.times_ms)) / DAY_MS)
    if days < 2:
        return cut(table.rows, config.fit_rows_max, count)
    taken = min(table.rows, config.fit_rows_max)
    evenly = np.arange(taken) * table.rows // taken
    of_a_day = max(1, count // days)
    blocks, rows, validating = cut(taken, None, days * (of_a_day - 1 + of_a_day % 2))
    return blocks, evenly[rows], validating


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
