"""The dense autoencoder: what a row looks like after it was squeezed through a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.transform import Inputs
from streamd.table import FloatArray

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Activation = Literal["leaky_relu", "relu", "tanh", "sigmoid", "linear"]
Layer = tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.float32]]]
Step = tuple["torch.Tensor", "torch.Tensor", Callable[["torch.Tensor"], object] | None]  # see `prepared`
ROWS_MAX = 1 << 20  # of one pass: the memory that a batch takes has a bound
SLOPE = 0.01  # of the leaky rectifier below zero: narrow layers of a plain one die


def layer_widths(inputs: int, hidden: Sequence[int]) -> tuple[int, ...]:
    """The sizes of all layers, input and output included.

    The i-th hidden layer of the encoder has at most ⌈inputs / 2ⁱ⌉ units, so that few inputs are squeezed too:
    32-16-8 becomes 16-8-4 for 16 inputs and 5-3-2 for 5. The decoder mirrors the encoder.

    >>> layer_widths(40, (32, 16, 8))
    (40, 32, 16, 8, 16, 32, 40)
    >>> layer_widths(5, (32, 16, 8))
    (5, 5, 3, 2, 3, 5, 5)
    """
    encoder = [min(width, -(-inputs // 2**i)) for i, width in enumerate(hidden)]
    return (inputs, *encoder, *encoder[-2::-1], inputs)


def usual_activations(layers: int) -> tuple[Activation, ...]:
    """Leaky rectifiers, and nothing after the last layer."""
    rectified: tuple[Activation, ...] = ("leaky_relu",)
    return (*rectified * (layers - 1), "linear")


def prepared(layers: Sequence[tuple[torch.Tensor, torch.Tensor]], activations: Sequence[Activation]) -> list[Step]:
    """What `passed` goes through. Of each layer: weights (out, in), biases (out, 1)."""
    import torch
    from torch.nn.functional import leaky_relu_

    in_place: dict[Activation, Callable[[torch.Tensor], object] | None] = {
        "leaky_relu": lambda hidden: leaky_relu_(hidden, SLOPE),
        "relu": torch.relu_,
        "tanh": torch.tanh_,
        "sigmoid": torch.sigmoid_,
        "linear": None,
    }
    return [
        (weights, biases, in_place[activation])
        for (weights, biases), activation in zip(layers, activations, strict=True)
    ]


def passed(steps: Sequence[Step], inputs: torch.Tensor) -> torch.Tensor:
    """The network's output for (inputs, rows)."""
    from torch import addmm

    hidden = inputs
    for weights, biases, activate in steps:
        hidden = addmm(biases, weights, hidden)
        if activate is not None:
            activate(hidden)
    return hidden


def reconstruct(
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
    inputs: torch.Tensor,
    activations: Sequence[Activation] | None = None,
) -> torch.Tensor:
    """The network's output for (inputs, rows), once. Of each layer: weights (out, in), biases (out, 1)."""
    return passed(prepared(layers, activations or usual_activations(len(layers))), inputs)


class DenseAutoencoder:
    """A fitted network on its device. Immutable but for the ferry that brings rows there.

    Rows are columns of the matrices, (inputs, rows): it is the faster layout for so narrow a network, and in it
    the sums of a row are made in the same order whatever else is in the batch.

    Args:
        layers: weights (out, in) and biases (out,) of each, float32.
        device: `auto` is CUDA where there is one.
        activations: of each layer; see `usual_activations`.
        weights: (inputs,) float32 that the squared errors are multiplied by; 1 when left out.

    Raises:
        RuntimeError: `cuda` is asked for and there is none.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        device: Device = "auto",
        activations: Sequence[Activation] | None = None,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        import torch

        from streamd.scorers.ferry import Ferry

        self._ferry = Ferry(device, rows_axis=1, rows_max=ROWS_MAX)
        there = [
            (torch.tensor(matrix, device=self.device), torch.tensor(biases[:, None], device=self.device))
            for matrix, biases in layers
        ]
        # Not a method: the ferry holds on to what it has captured, and would keep all of this alive.
        self._outputs = partial(passed, prepared(there, activations or usual_activations(len(layers))))
        self._weights = np.ones(len(layers[-1][1]), dtype=np.float32) if weights is None else weights

    @property
    def device(self) -> torch.device:
        return self._ferry.device

    @property
    def shrunk(self) -> bool:
        """Whether batches are scored in parts, because the device's memory was exhausted."""
        return self._ferry.shrunk

    def errors(self, inputs: Inputs) -> tuple[Inputs, FloatArray]:
        """How far rows are from their reconstructions.

        Args:
            inputs: (inputs, rows) float32, one row or more.

        Returns:
            (inputs, rows) squared errors, weighted, float32; (rows,) their means, the reconstruction errors.
        """
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        squared = self._ferry.carry(self._outputs, inputs)
        means = np.empty(inputs.shape[1])
        kernels.squared_errors(inputs, squared, self._weights, means)
        return squared, means
