"""DCGAN's networks: strided convolutions, no pooling, leaky rectifiers (Radford, Metz and Chintala 2016).

Without their batch normalisation: a critic under a gradient penalty must not have it (Gulrajani et al. 2017), and
without it no row's result depends on the rows beside it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from streamd.scorers.adversarial.layers import SLOPE, Linear

SMALLEST = 8  # pixels of a side that is not halved any more
KERNEL, STRIDE, PADDING = 4, 2, 1  # halves exactly, and covers every pixel equally often


def halvings(height: int, width: int) -> int:
    """How often an image is halved until its longer side is at most 8 pixels, once at least.

    >>> halvings(28, 28), halvings(8, 8), halvings(64, 48)
    (2, 1, 3)
    """
    count = 1
    while -(-max(height, width) // 2**count) > SMALLEST:
        count += 1
    return count


def _sizes(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """The halvings, and the sides of the smallest picture."""
    _, height, width = shape
    count = halvings(height, width)
    return count, (-(-height // 2**count), -(-width // 2**count))


class Trunk(nn.Module):
    """(channels · height · width, rows) → (outputs, rows), with twice the filters at each halving."""

    def __init__(self, shape: tuple[int, ...], filters: int) -> None:
        super().__init__()
        self.shape = shape
        self.count, (height, width) = _sizes(shape)
        channels = [shape[0], *(filters * 2**i for i in range(self.count))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], KERNEL, STRIDE, PADDING) for i in range(self.count)
        )
        self.small = (height, width)
        self.outputs = channels[-1] * height * width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        pictures = rows.T.reshape(-1, *self.shape)
        below = self.small[0] * 2**self.count - self.shape[1]
        right = self.small[1] * 2**self.count - self.shape[2]
        if below or right:
            pictures = functional.pad(pictures, (0, right, 0, below))
        for convolution in self.convolutions:
            pictures = functional.leaky_relu(convolution(pictures), SLOPE)
        return pictures.flatten(1).T


class Generator(nn.Module):
    """(latent, rows) → (channels · height · width, rows): the trunk, backwards; what hangs over is cut off."""

    def __init__(self, shape: tuple[int, ...], latent: int, filters: int) -> None:
        super().__init__()
        self.shape = shape
        count, (height, width) = _sizes(shape)
        channels = [*(filters * 2**i for i in reversed(range(count))), shape[0]]
        self.small = (channels[0], height, width)
        self.first = Linear(latent, channels[0] * height * width)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(channels[i], channels[i + 1], KERNEL, STRIDE, PADDING) for i in range(count)
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        pictures = cast(torch.Tensor, self.first(latent)).T.reshape(-1, *self.small)
        for convolution in self.convolutions:
            pictures = convolution(functional.leaky_relu(pictures, SLOPE))
        return pictures[:, :, : self.shape[1], : self.shape[2]].flatten(1).T
