"""The dense autoencoder: what a row looks like after it was squeezed through a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamd.scorers.transform import Inputs
from streamd.table import FloatArray

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Layer = tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.float32]]]
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


def reconstruct(layers: Sequence[tuple[torch.Tensor, torch.Tensor]], inputs: torch.Tensor) -> torch.Tensor:
    """The network's output for (inputs, rows). Of each layer: weights (out, in), biases (out, 1)."""
    import torch

    hidden = inputs
    for i, (weights, biases) in enumerate(layers):
        hidden = torch.addmm(biases, weights, hidden)
        if i + 1 < len(layers):
            hidden = torch.nn.functional.leaky_relu(hidden, SLOPE, inplace=True)
    return hidden


class DenseAutoencoder:
    """A fitted network on its device. Immutable but for the buffer through which rows travel to a GPU.

    Rows are columns of the matrices, (inputs, rows): it is the faster layout for so narrow a network, and in it
    the sums of a row are made in the same order whatever else is in the batch. (A matrix of one column is
    multiplied by another routine, so a single row is sent twice.)

    Args:
        layers: weights (out, in) and biases (out,) of each, float32.
        device: `auto` is CUDA where there is one.

    Raises:
        RuntimeError: `cuda` is asked for and there is none.
    """

    def __init__(self, layers: Sequence[Layer], device: Device = "auto") -> None:
        import torch

        wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.device = torch.device(wanted)
        self._layers = [
            (torch.tensor(weights, device=self.device), torch.tensor(biases[:, None], device=self.device))
            for weights, biases in layers
        ]
        self._forward = torch.inference_mode()(self._outputs)
        self._pinned: torch.Tensor | None = None

    def errors(self, inputs: Inputs) -> tuple[Inputs, FloatArray]:
        """How far rows are from their reconstructions.

        Args:
            inputs: (inputs, rows) float32, one row or more.

        Returns:
            (inputs, rows) squared errors, float32; (rows,) their means, the reconstruction errors.
        """
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        rows = inputs.shape[1]
        outputs: Inputs = self._forward(inputs if rows > 1 else np.repeat(inputs, 2, axis=1))
        squared = outputs if rows > 1 else np.ascontiguousarray(outputs[:, :1])
        means = np.empty(rows)
        kernels.squared_errors(inputs, squared, means)
        return squared, means

    def _outputs(self, inputs: Inputs) -> Inputs:
        import torch

        # The one place that waits for the device.
        return reconstruct(self._layers, self._sent(torch.from_numpy(inputs))).cpu().numpy()

    def _sent(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows on the device, through pinned memory, from which a GPU copies while the processor goes on."""
        if self.device.type != "cuda":
            return rows
        import torch

        if self._pinned is None or self._pinned.numel() < rows.numel():
            self._pinned = torch.empty(rows.numel(), dtype=torch.float32, pin_memory=True)
        staged = self._pinned[: rows.numel()].view(rows.shape)
        staged.copy_(rows)  # free to overwrite: whoever used it last has waited for the result
        return staged.to(self.device, non_blocking=True)
