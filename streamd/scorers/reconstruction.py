"""The scorer of the autoencoder family: how far a row is from what a network makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamd.scorers import kernels
from streamd.scorers.arrays import ArrayTransform
from streamd.scorers.dense import Activation, DenseAutoencoder, Device, Layer
from streamd.scorers.ferry import Ferry
from streamd.scorers.fitted import Fitted
from streamd.scorers.networks.architecture import network
from streamd.scorers.transform import Inputs, Transform
from streamd.table import FloatArray, Table

ROWS = 64  # images or windows of one pass


class RowErrors:
    """The reconstruction errors of one batch of columns. See `base.Scores`."""

    def __init__(self, transform: Transform, squared: Inputs, values: FloatArray) -> None:
        self.values = values
        self._transform = transform
        self._squared = squared  # (inputs, rows)

    def explain(self, rows: NDArray[np.int64]) -> FloatArray:
        added = np.zeros((len(self._transform.features), len(rows)))
        kernels.by_owner(self._squared, self._transform.owners, rows, added)
        return added


class ArrayErrors:
    """The reconstruction errors of one batch of images or windows: they have but one feature."""

    def __init__(self, values: FloatArray) -> None:
        self.values = values

    def explain(self, rows: NDArray[np.int64]) -> FloatArray:
        return np.nan_to_num(self.values[None, rows])


class RowReconstruction:
    """Reads columns. See `base.Scorer`.

    The score is the mean squared error over the inputs, each divided by the one that is usual for it.
    """

    def __init__(self, transform: Transform, network: DenseAutoencoder) -> None:
        self.features = transform.features
        self.network = network
        self._transform = transform

    @property
    def shrunk(self) -> bool:
        """Whether batches are scored in parts, because the device's memory was exhausted."""
        return self.network.shrunk

    def score(self, table: Table) -> RowErrors:
        if not table.rows:
            return RowErrors(self._transform, np.empty((self._transform.inputs, 0), np.float32), np.empty(0))
        squared, values = self.network.errors(self._transform(table))
        unknown = self._transform.unknown_rows(table)
        if unknown is not None:
            values[unknown] = np.nan
        return RowErrors(self._transform, squared, values)


class ArrayReconstruction:
    """Reads one column of images or windows. See `base.Scorer`. The score is the mean squared error of a row."""

    def __init__(self, transform: ArrayTransform, network: torch.nn.Module, device: Device) -> None:
        self._ferry = Ferry(device, rows_axis=0, rows_max=ROWS, filled=True)
        self.features = transform.features
        self._transform = transform
        self._network = network.to(self._ferry.device).eval()

    @property
    def shrunk(self) -> bool:
        """Whether batches are scored in parts, because the device's memory was exhausted."""
        return self._ferry.shrunk

    def score(self, table: Table) -> ArrayErrors:
        if not table.rows:
            return ArrayErrors(np.empty(0))
        values = self._ferry.carry(self._errors, self._transform(table)).astype(np.float64)
        unknown = self._transform.unknown_rows(table)
        if unknown is not None:
            values[unknown] = np.nan
        return ArrayErrors(values)

    def _errors(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, channels, …) → (rows,)"""
        left: torch.Tensor = self._network(rows) - rows
        return left.square_().flatten(1).mean(dim=1)


def load(fitted: Fitted, device: Device = "auto") -> RowReconstruction | ArrayReconstruction:
    """The scorer of what `fitting.networks` learned.

    Raises:
        ValueError: its parts do not fit each other.
    """
    described, tensors = fitted.described, fitted.tensors
    try:
        if described["network"]["network"] == "dense":
            return _rows(described, tensors, device)
        return _arrays(described, tensors, device)
    except (KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and device == "cuda" and not torch.cuda.is_available():
            raise  # it is the machine's fault, not the weights'
        raise ValueError(f"these weights lack a part, or their parts do not fit each other: {error}") from error


def parts_of_rows(
    transform: Transform,
    layers: Sequence[Layer],
    activations: Sequence[Activation],
    precisions: NDArray[np.float32],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """`described` and `tensors` of a dense network, which `load` reads.

    Args:
        precisions: (inputs,) what squared errors are multiplied by.
    """
    tensors: dict[str, NDArray[Any]] = {**transform.tensors(), "precisions": precisions}
    for i, (weights, biases) in enumerate(layers):
        tensors[f"weights.{i}"], tensors[f"biases.{i}"] = weights, biases
    network = {"network": "dense", "activations": list(activations)}
    return {"transform": transform.described(), "network": network}, tensors


def _rows(described: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], device: Device) -> RowReconstruction:
    transform = Transform.from_parts(described["transform"], tensors)
    activations = described["network"]["activations"]
    layers: list[Layer] = [(tensors[f"weights.{i}"], tensors[f"biases.{i}"]) for i in range(len(activations))]
    width = transform.inputs
    for i, (weights, biases) in enumerate(layers):
        if weights.ndim != 2 or weights.shape[1] != width or biases.shape != weights.shape[:1]:
            raise ValueError(f"layer {i} of these weights is {weights.shape} with {biases.shape} biases, after {width}")
        width = weights.shape[0]
    precisions = tensors["precisions"]
    if not layers or width != transform.inputs or precisions.shape != (width,):
        raise ValueError(f"these weights give {width} outputs for {transform.inputs} inputs")
    return RowReconstruction(transform, DenseAutoencoder(layers, device, activations, precisions))


def _arrays(described: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], device: Device) -> ArrayReconstruction:
    transform = ArrayTransform.from_parts(described["transform"], tensors)
    with torch.device("meta"):  # no weights yet: torch would draw them from the global generator
        empty = network({**described["network"], "shape": transform.shape})
    state = {name: torch.tensor(tensors[f"network.{name}"]) for name in empty.state_dict()}
    empty.load_state_dict(state, assign=True)
    return ArrayReconstruction(transform, empty, device)
