"""Which generator, discriminator and encoder there are, as one value that a bundle can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from streamd.scorers.adversarial.layers import Discriminator

Family = Literal["dense", "dcgan", "lstm"]
DIMENSIONS: Mapping[Family, int] = {"dense": 1, "dcgan": 3, "lstm": 2}


@dataclass(frozen=True)
class Architecture:
    """Networks of one family. All take and give matrices whose last axis is the rows of the batch.

        generator       (latent, rows) → (inputs, rows)
        encoder         (inputs, rows) → (outputs, rows)
        discriminator   (inputs, rows) → features (…, rows) → (rows,)

    No network knows the statistics of a batch: none normalises by it, so no row can see another.

    Attributes:
        family: dense layers, the convolutions of DCGAN (Radford, Metz and Chintala 2016), or LSTM cells.
        shape: of one row: (inputs,), (channels, height, width) or (channels, time).
        latent: numbers that a row is generated from.
        units: of each hidden layer, of the LSTM's state, or filters of the first convolution.
    """

    family: Family
    shape: tuple[int, ...]
    latent: int
    units: int

    def __post_init__(self) -> None:
        if len(self.shape) != DIMENSIONS[self.family] or min(*self.shape, self.latent, self.units) < 1:
            raise ValueError(f"{self} is no network")

    @property
    def inputs(self) -> int:
        product = 1
        for size in self.shape:
            product *= size
        return product

    def generator(self) -> nn.Module:
        from streamd.scorers.adversarial import convolutional, layers, recurrent

        match self.family:
            case "dense":
                return layers.Dense((self.latent, self.units, self.units, self.inputs))
            case "dcgan":
                return convolutional.Generator(self.shape, self.latent, self.units)
            case "lstm":
                return recurrent.Generator(self.shape, self.latent, self.units)

    def encoder(self, outputs: int) -> nn.Module:
        from streamd.scorers.adversarial import convolutional, layers, recurrent

        match self.family:
            case "dense":
                return layers.Dense((self.inputs, self.units, self.units, outputs))
            case "dcgan":
                return layers.Headed(convolutional.Trunk(self.shape, self.units), outputs)
            case "lstm":
                return layers.Headed(recurrent.Trunk(self.shape, self.units), outputs)

    def discriminator(self) -> Discriminator:
        from streamd.scorers.adversarial import convolutional, layers, recurrent

        match self.family:
            case "dense":
                return layers.Discriminator(layers.Trunk((self.inputs, self.units, self.units)))
            case "dcgan":
                return layers.Discriminator(convolutional.Trunk(self.shape, self.units))
            case "lstm":
                return layers.Discriminator(recurrent.Trunk(self.shape, self.units))

    def described(self) -> dict[str, Any]:
        return {"family": self.family, "shape": list(self.shape), "latent": self.latent, "units": self.units}

    @classmethod
    def from_described(cls, described: Mapping[str, Any]) -> Architecture:
        """The inverse of `described`.

        Raises:
            KeyError, TypeError, ValueError: a part is missing or impossible.
        """
        family = described["family"]
        if family not in DIMENSIONS:
            raise ValueError(f"networks of the family {family!r} are not known")
        return cls(family, tuple(described["shape"]), described["latent"], described["units"])
