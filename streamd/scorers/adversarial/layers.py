"""Dense layers over matrices whose columns are rows of the batch, and what every discriminator is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import nn
from torch.nn import functional

SLOPE = 0.2  # of the leaky rectifier below zero, as in DCGAN
Network = Callable[[torch.Tensor], torch.Tensor]


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

    trunk: Trunk

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


class Discriminating(Protocol):
    """A discriminator as those who ask it see it. See `Discriminator`."""

    def features(self, rows: torch.Tensor) -> torch.Tensor: ...

    def __call__(self, rows: torch.Tensor) -> torch.Tensor: ...


class Plain:
    """What dense layers make of rows, bit for bit, without a module around each: a third of a small batch's time.

    Args:
        layers: whose weights stay as they are now.
        rectified: how many of them, from the first, end in a leaky rectifier.
    """

    def __init__(self, layers: Iterable[Linear], rectified: int) -> None:
        self._layers = [
            (weight.repeat(2, 1) if len(weight) == 1 else weight, layer.bias.detach()[:, None], len(weight) == 1)
            for layer in layers
            for weight in (layer.weight.detach(),)
        ]
        self._rectified = rectified

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        for i, (weight, bias, single) in enumerate(self._layers):
            rows = torch.addmm(bias, weight, rows)
            if single:
                rows = rows[:1]  # made twice: see `Linear`
            if i < self._rectified:
                functional.leaky_relu(rows, SLOPE, inplace=True)
        return rows


class PlainDiscriminator:
    """A discriminator of dense layers. See `Plain`."""

    def __init__(self, discriminator: Discriminator, trunk: Trunk) -> None:
        self.features: Network = Plain(cast(Iterable[Linear], trunk.layers), len(trunk.layers))
        self._head = Plain([discriminator.head], 0)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self._head(self.features(rows))[0]


def plain(network: nn.Module) -> Network:
    """The network without modules where it is of dense layers, else as it is."""
    if not isinstance(network, Dense):
        return network
    layers = cast(Iterable[Linear], network.trunk.layers)
    return Plain([*layers, network.head], len(network.trunk.layers))


def plain_discriminator(discriminator: Discriminator) -> Discriminating:
    """See `plain`."""
    trunk = discriminator.trunk
    return PlainDiscriminator(discriminator, trunk) if isinstance(trunk, Trunk) else discriminator
