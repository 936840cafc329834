"""How the autoencoder family is fitted: prepare the rows, teach, measure what error is usual. Needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamd.fitting.base import FitError, Learned, Progress
from streamd.fitting.networks import (
    ArraySettings,
    ConvolutionalSettings,
    RecurrentSettings,
    RowSettings,
    SparseSettings,
    VariationalSettings,
)
from streamd.fitting.preparation import array_transform, row_transform
from streamd.fitting.reconstruction import DenseLesson, ModuleLesson, VariationalLesson
from streamd.fitting.training import built, one_thread, train
from streamd.scorers.arrays import Reads
from streamd.scorers.dense import Activation, DenseAutoencoder, Layer, reconstruct
from streamd.scorers.ferry import chosen_device
from streamd.scorers.networks.architecture import network
from streamd.scorers.reconstruction import parts_of_rows
from streamd.scorers.transform import Inputs
from streamd.table import Table

FLOOR = 0.01  # of the inputs' mean variance: an error smaller than that is as good as none


def learn_rows(settings: RowSettings, learned: Table, validating: Table, progress: Progress) -> Learned:
    """Fit an autoencoder of columns.

    Raises:
        FitError: nothing can be learned from these rows.
    """
    transform = row_transform(learned, settings)
    rows, check = transform(learned), transform(validating)
    with one_thread():
        before, after = _principal(rows, settings.principal)
        inner, inner_check = (_applied(before, each) if before else each for each in (rows, check))
        widths = _widths(settings, len(inner))
        activations = _activations(settings, len(widths) - 1)
        lesson, epochs = _taught(settings, widths, activations, inner, inner_check, progress)
        layers = lesson.layers()
        if settings.code_within is not None:
            layers, activations = _code_kept_within(settings.code_within, layers, activations, inner)
        layers = (*before, *layers, *after)
        linear: tuple[Activation, ...] = ("linear",)
        activations = (*linear * len(before), *activations, *linear * len(after))
        precisions = _precisions(layers, activations, rows, settings)
    return Learned(
        *parts_of_rows(transform, layers, activations, precisions),
        f"{settings.type} {'-'.join(map(str, widths))} fitted on {learned.rows} rows, {epochs} epochs",  # type: ignore[attr-defined]
    )


def learn_arrays(settings: ArraySettings, learned: Table, validating: Table, progress: Progress) -> Learned:
    """Fit an autoencoder of images or windows.

    Raises:
        FitError: nothing can be learned from these rows.
    """
    reads, described = _architecture(settings)
    transform = array_transform(learned, reads, scaling=settings.scaling, bound=settings.bound, column=settings.column)
    if transform.inputs > settings.inputs_max:
        raise FitError(f"{transform.inputs} inputs are over inputs_max = {settings.inputs_max}")
    generator = torch.Generator().manual_seed(settings.seed)
    with one_thread():
        lesson = ModuleLesson(
            built(lambda: network({**described, "shape": transform.shape}), generator),
            transform(learned),
            transform(validating),
            learning_rate=settings.learning_rate,
            gradient_norm_max=settings.gradient_norm_max,
            outlying=settings.outlying,
            batch_rows=settings.batch_rows,
            device=chosen_device(settings.device),
        )
        epochs = train(lesson, settings, generator, progress)
    state = {f"network.{name}": tensor.cpu().numpy() for name, tensor in lesson.network.state_dict().items()}
    return Learned(
        {"transform": transform.described(), "network": described},
        {**transform.tensors(), **state},
        f"{settings.type} fitted on {learned.rows} rows of {transform.shape}, {epochs} epochs",  # type: ignore[attr-defined]
    )


def _architecture(settings: ArraySettings) -> tuple[Reads, dict[str, Any]]:
    """What is read, and the description that `scorers.networks.architecture` builds from."""
    common = {"code": settings.code, "bounded": settings.output == "sigmoid"}
    match settings:
        case ConvolutionalSettings():
            return settings.reads, {"network": "convolutional", "filters": list(settings.filters), **common}
        case RecurrentSettings():
            return "windows", {"network": "recurrent", "cell": settings.cell, "units": settings.units, **common}
    raise TypeError(f"nothing is known about fitting {type(settings).__name__}")


def _widths(settings: RowSettings, inputs: int) -> tuple[int, ...]:
    code = settings.code or max(1, int(np.ceil(np.sqrt(inputs))))
    return (inputs, *settings.hidden, code, *reversed(settings.hidden), inputs)


def _activations(settings: RowSettings, layers: int) -> tuple[Activation, ...]:
    activations: list[Activation] = [settings.activation] * (layers - 1)
    if isinstance(settings, VariationalSettings):
        activations[layers // 2 - 1] = "linear"  # the code's mean
    return (*activations, settings.output)


def _taught(
    settings: RowSettings,
    widths: tuple[int, ...],
    activations: tuple[Activation, ...],
    rows: Inputs,
    check: Inputs,
    progress: Progress,
) -> tuple[DenseLesson | VariationalLesson, int]:
    generator = torch.Generator().manual_seed(settings.seed)
    options: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "gradient_norm_max": settings.gradient_norm_max,
        "outlying": settings.outlying,
        "device": chosen_device(settings.device),
    }
    make: type[DenseLesson] | type[VariationalLesson] = DenseLesson
    match settings:
        case VariationalSettings():
            make = VariationalLesson
        case SparseSettings():
            options["code_l1"] = settings.code_l1
    lesson = make(rows, check, widths, activations, generator, **options)
    return lesson, train(lesson, settings, generator, progress)


def _principal(rows: Inputs, share: float | None) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """The layer that projects (inputs, rows) onto their principal components, and the one that goes back."""
    if share is None:
        return (), ()
    mean = rows.mean(axis=1, dtype=np.float64)
    centred = rows - mean[:, None]
    variances, vectors = np.linalg.eigh(centred @ centred.T)  # ascending
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    reached = np.cumsum(variances) >= share * variances.sum() * (1 - 1e-12)
    components = vectors[:, : int(np.argmax(reached)) + 1].T
    back = (components.T.astype(np.float32), mean.astype(np.float32))
    return ((components.astype(np.float32), -(components @ mean).astype(np.float32)),), (back,)


def _applied(layers: tuple[Layer, ...], rows: Inputs) -> Inputs:
    for weights, biases in layers:
        rows = weights @ rows + biases[:, None]
    return rows


def _code_kept_within(
    share: float, layers: tuple[Layer, ...], activations: tuple[Activation, ...], rows: Inputs
) -> tuple[tuple[Layer, ...], tuple[Activation, ...]]:
    """The same network, but that each number z of the code stays in the range of the central share of the rows' ones.

    As layers, so that nobody who runs a network has to know of it:

        min(max(z, lowest), highest) = highest − relu((highest − lowest) − relu(z − lowest))
    """
    middle = len(layers) // 2
    encoder = [(torch.from_numpy(weights), torch.from_numpy(biases[:, None])) for weights, biases in layers[:middle]]
    codes = reconstruct(encoder, torch.from_numpy(rows), activations[:middle]).numpy()  # (code, rows)
    lowest, highest = np.quantile(codes, [(1 - share) / 2, (1 + share) / 2], axis=1).astype(np.float32)
    unit = np.eye(len(codes), dtype=np.float32)
    weights, biases = layers[middle]
    kept = ((unit, -lowest), (-unit, highest - lowest), (-weights, biases + weights @ highest))
    rectified: tuple[Activation, ...] = ("relu", "relu")
    return (*layers[:middle], *kept, *layers[middle + 1 :]), (*activations[:middle], *rectified, *activations[middle:])


def _precisions(
    layers: tuple[Layer, ...], activations: tuple[Activation, ...], rows: Inputs, settings: RowSettings
) -> NDArray[np.float32]:
    """(inputs,) one over the usual squared error of each input: its median over the rows, with a floor."""
    if not settings.weighted:
        return np.ones(len(rows), dtype=np.float32)
    squared, _ = DenseAutoencoder(layers, "cpu", activations).errors(rows)
    usual = np.median(squared, axis=1)
    floor = FLOOR * float(rows.var(axis=1, dtype=np.float64).mean())
    return (1 / np.maximum(usual, floor or 1.0)).astype(np.float32)
