"""Dense layers over matrices whose columns are rows of the batch, and what every discriminator is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional

SLOPE = 0.2  # of the leaky rectifier below zero, as in DCGAN


class Linear(nn.Module):
    """(in, rows) → (out, rows). In this layout a row's sums are made in one order whatever else is in the batch.

    (A matrix of one row is multiplied by another routine, so a single output is made twice.)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if len(self.weight) == 1:
            return torch.addmm(self.bias[:, None], self.weight.repeat(2, 1), rows)[:1]
        return torch.addmm(self.bias[:, None], self.weight, rows)


class Trunk(nn.Module):
    """Layers each of which ends in a leaky rectifier: (sizes[0], rows) → (sizes[-1], rows).

    Attributes:
        outputs: sizes[-1].
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.outputs = sizes[-1]
        self.layers = nn.ModuleList(Linear(wide, narrow) for wide, narrow in pairwise(sizes))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            rows = functional.leaky_relu(layer(rows), SLOPE, inplace=True)
        return rows


class Headed(nn.Module):
    """A trunk and one layer without a rectifier: (inputs, rows) → (outputs, rows)."""

    def __init__(self, trunk: nn.Module, outputs: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = Linear(cast(int, trunk.outputs), outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.trunk(rows)))


class Dense(Headed):
    """(sizes[0], rows) → (sizes[-1], rows)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(Trunk(sizes[:-1]), sizes[-1])


class Discriminator(Headed):
    """One number for each row: the logit of being real, or the critic's value. Its features are the trunk's output."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__(trunk, 1)

    def features(self, rows: torch.Tensor) -> torch.Tensor:
        """(features, rows): what the last hidden layer makes of (inputs, rows)."""
        return cast(torch.Tensor, self.trunk(rows))

    def judged(self, features: torch.Tensor) -> torch.Tensor:
        """(rows,): what comes of these features."""
        return cast(torch.Tensor, self.head(features))[0]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.judged(self.features(rows))
