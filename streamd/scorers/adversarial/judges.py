"""What makes a score of rows on the device: an encoder, a search, or the discriminator alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from streamd.scorers.adversarial.comparison import Comparison, search
from streamd.scorers.adversarial.layers import Discriminator


class Judge(Protocol):
    """Pure functions of rows on the device, column by column."""

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        """(inputs, rows) → (rows,), the higher the stranger."""

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        """(inputs, rows) → (inputs, rows): what each input adds to the score."""


@dataclass(frozen=True, eq=False)
class EncoderJudge:
    """f-AnoGAN and VAE-GAN: a row against the one that is generated from its code.

    The encoder may give more numbers than the generator takes: a VAE's variances, which are not looked at.
    """

    encoder: nn.Module
    generator: nn.Module
    comparison: Comparison
    latent: int

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        return self.comparison(rows, self._generated(rows))

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        return self.comparison.residuals(rows, self._generated(rows))

    def _generated(self, rows: torch.Tensor) -> torch.Tensor:
        generated: torch.Tensor = self.generator(self.encoder(rows)[: self.latent])
        return generated


@dataclass(frozen=True, eq=False)
class SearchJudge:
    """AnoGAN: a row against the nearest one that a search of the latent space finds. See `comparison.search`."""

    generator: nn.Module
    comparison: Comparison
    starts: torch.Tensor
    steps: int
    step_size: float

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        return self._found(rows)[0]

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        return self.comparison.residuals(rows, self.generator(self._found(rows)[1]))

    def _found(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(False), torch.no_grad():  # in inference mode there is no slope to go down
            return self._searched(rows.clone())

    def _searched(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return search(self.generator, self.comparison, rows, self.starts, self.steps, self.step_size)


@dataclass(frozen=True, eq=False)
class DiscriminatorJudge:
    """How little the discriminator takes a row for real."""

    discriminator: Discriminator

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        judged: torch.Tensor = self.discriminator(rows)
        return -judged

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        """The slope of the score times the input's distance from 0, the mean; what speaks for the row is 0."""
        with torch.inference_mode(False), torch.enable_grad():  # in inference mode there is no slope
            asked = rows.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.score(asked).sum(), asked)
        shares: torch.Tensor = (slope * rows).clamp(min=0.0)
        return shares
