"""The convolutional autoencoder, of images (two dimensions) and of windows of a series (one).

Masci et al. 2011. No batch normalisation: without it no row's result depends on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional

from streamd.scorers.dense import SLOPE

KERNEL = 3


class ConvolutionalAutoencoder(nn.Module):
    """Halve each side at every layer, squeeze what is left into a code, and back.

    Args:
        shape: of one row: (channels, height, width) or (channels, time).
        filters: of each layer of the encoder; the decoder mirrors them.
        code: numbers that a row is squeezed into.
        bounded: whether the output is between 0 and 1 (sigmoid).
    """

    def __init__(self, shape: Sequence[int], filters: Sequence[int], code: int, bounded: bool) -> None:
        super().__init__()
        dimensions = len(shape) - 1
        convolution: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv1d if dimensions == 1 else nn.Conv2d
        channels = [shape[0], *filters]
        self.sides = [tuple(shape[1:])]  # of the image before each layer
        for _ in filters:
            self.sides.append(tuple(-(-side // 2) for side in self.sides[-1]))
        self.small = (channels[-1], *self.sides[-1])
        self.bounded = bounded
        self.down = nn.ModuleList(
            convolution(channels[i], channels[i + 1], KERNEL, stride=2, padding=1) for i in range(len(filters))
        )
        self.squeeze = nn.Linear(prod(self.small), code)
        self.widen = nn.Linear(code, prod(self.small))
        self.up = nn.ModuleList(
            convolution(channels[i + 1], channels[i], KERNEL, padding=1) for i in reversed(range(len(filters)))
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, channels, …) → the same shape."""
        hidden = rows
        for layer in self.down:
            hidden = functional.leaky_relu(layer(hidden), SLOPE)
        hidden = self.widen(self.squeeze(hidden.flatten(1)))  # (rows, code) between the two
        hidden = functional.leaky_relu(hidden, SLOPE).reshape(-1, *self.small)
        for i, layer in enumerate(self.up):
            sides = self.sides[-2 - i]
            hidden = layer(functional.interpolate(hidden, size=sides))  # nearest: doubles, and fits odd sides
            if i + 1 < len(self.up):
                hidden = functional.leaky_relu(hidden, SLOPE)
        return torch.sigmoid(hidden) if self.bounded else hidden
