"""What makes a score of rows on the device: an encoder, a search, or the discriminator alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from streamd.scorers.adversarial.comparison import Comparison, search
from streamd.scorers.adversarial.layers import Discriminating, Network

HIDDEN_ROWS = 4096  # of one pass of an explanation: the memory that it takes has a bound


class Judge(Protocol):
    """Pure functions of rows on the device, column by column."""

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        """(inputs, rows) → (rows,), the higher the stranger."""

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        """(inputs, rows) → (inputs, rows): what each input adds to the score, 0 or more."""


def falls(score: Network, generated: Network, rows: torch.Tensor) -> torch.Tensor:
    """(inputs, rows): how far the score falls when one input is replaced by what should be there, 0 or more.

    What should be there is what is generated where this one input is hidden, that is 0, its mean: an input that is
    far out also spoils what is generated of all the others, so what is left of a row as it is would blame them too.

    Args:
        score: (inputs, n) → (n,).
        generated: (inputs, n) → (inputs, n), in their place.
    """
    inputs, count = rows.shape
    scores = score(rows)
    found = []
    most = max(1, HIDDEN_ROWS // count)
    for first in range(0, inputs, most):
        copies = min(most, inputs - first)
        changed = rows[:, None].repeat(1, copies, 1)  # (inputs, copies, rows): in each copy, one input changes
        places = changed[first : first + copies].diagonal(dim1=0, dim2=1)  # (rows, copies)
        places.zero_()
        again = generated(changed.flatten(1)).view_as(changed)
        places.copy_(again[first : first + copies].diagonal(dim1=0, dim2=1))
        found.append(scores - score(changed.flatten(1)).view(copies, count))
    return torch.cat(found).clamp_(min=0.0)


@dataclass(frozen=True, eq=False)
class EncoderJudge:
    """f-AnoGAN and VAE-GAN: a row against the one that is generated from its code.

    The encoder may give more numbers than the generator takes: a VAE's variances, which are not looked at.
    """

    encoder: Network
    generator: Network
    comparison: Comparison
    latent: int

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        return self.comparison(rows, self._generated(rows))

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        return falls(self.score, self._generated, rows)

    def _generated(self, rows: torch.Tensor) -> torch.Tensor:
        generated: torch.Tensor = self.generator(self.encoder(rows)[: self.latent])
        return generated


@dataclass(frozen=True, eq=False)
class SearchJudge:
    """AnoGAN: a row against the nearest one that a search of the latent space finds. See `comparison.search`."""

    generator: Network
    comparison: Comparison
    starts: torch.Tensor
    steps: int
    step_size: float

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        return self._found(rows)[0]

    def shares(self, rows: torch.Tensor) -> torch.Tensor:
        return falls(self.score, self._generated, rows)

    def _generated(self, rows: torch.Tensor) -> torch.Tensor:
        return self.generator(self._found(rows)[1])

    def _found(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(False), torch.no_grad():  # in inference mode there is no slope to go down
            return self._searched(rows.clone())

    def _searched(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return search(self.generator, self.comparison, rows, self.starts, self.steps, self.step_size)


@dataclass(frozen=True, eq=False)
class DiscriminatorJudge:
    """How little the discriminator takes a row for real."""

    discriminator: Discriminating

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
