"""How far a row is from the one that was generated in its place, and the search for the best such row.

    score = residual + α · feature distance

The residual is the mean of |x − x̂| (L1) or (x − x̂)² (L2) over the inputs, the feature distance the mean of
(f(x) − f(x̂))² over the last hidden layer f of the discriminator (AnoGAN: Schlegl et al. 2017; f-AnoGAN: 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from streamd.scorers.adversarial.layers import Discriminating, Network

Norm = Literal["l1", "l2"]
DECAYS = (0.9, 0.999)  # of Adam's two moving averages, and
EPSILON = 1e-8  # its least denominator: its authors' own (Kingma and Ba 2015)


def weighted_sums(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(n,) and (n, rows) → (rows,), for two rows or more.

    As a product of matrices, and of two rows of weights: torch's own sum, and the product with a single row, go
    through a column in an order that depends on its place in the batch.
    """
    return torch.mm(weights.expand(2, -1).contiguous(), values)[0]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The score of (inputs, rows) against what was generated in their place.

    Attributes:
        norm: of the residual.
        alpha: weight of the feature distance; the discriminator is not asked where it is 0.
    """

    discriminator: Discriminating
    norm: Norm
    alpha: float

    def residuals(self, rows: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """(inputs, rows), input by input."""
        apart = rows - generated
        return apart.abs() if self.norm == "l1" else apart.square()

    def features(self, rows: torch.Tensor) -> torch.Tensor | None:
        """(features, rows) of rows that are compared more than once."""
        return self.discriminator.features(rows) if self.alpha else None

    def __call__(
        self, rows: torch.Tensor, generated: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(rows,) scores. `features` are those of `rows`, where they are known."""
        residuals = self.residuals(rows, generated)
        count = residuals.shape[0]
        share = rows.new_full((count,), 1 / count)
        if not self.alpha:
            return weighted_sums(share, residuals)
        known = self.discriminator.features(rows) if features is None else features
        apart = (known - self.discriminator.features(generated)).square()
        count = apart.shape[0]
        weights = torch.cat([share, rows.new_full((count,), self.alpha / count)])
        return weighted_sums(weights, torch.cat([residuals, apart]))


def search(
    generator: Network, comparison: Comparison, rows: torch.Tensor, starts: torch.Tensor, steps: int, step_size: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The generated row nearest to each of `rows`: gradient descent in the latent space (AnoGAN).

    Each row begins at that start whose generated row has the least squared distance, and goes on by itself: Adam's
    state is its own, and nothing is drawn.

    Args:
        rows: (inputs, rows).
        starts: (latent, k).
        steps: of Adam, for all rows at once.
        step_size: of Adam, in units of the latent space, whose prior is normal.

    Returns:
        (rows,) the least score on the way; (latent, rows) where it was found.
    """
    latent = starts[:, _nearest(generator(starts), rows)]
    features = comparison.features(rows)
    best, where = torch.full_like(rows[0], float("inf")), latent
    slope, curve = torch.zeros_like(latent), torch.zeros_like(latent)
    for step in range(1, steps + 2):  # one more look than steps
        with torch.enable_grad():
            asked = latent.detach().requires_grad_()
            scored = comparison(rows, generator(asked), features)
            (gradient,) = torch.autograd.grad(scored, asked, torch.ones_like(scored))
        score = scored.detach()
        where = torch.where(score < best, latent, where)
        best = torch.minimum(score, best)
        slope.lerp_(gradient, 1 - DECAYS[0])
        curve.lerp_(gradient.square(), 1 - DECAYS[1])
        rate = step_size / (1 - DECAYS[0] ** step)
        latent = latent - rate * slope / ((curve / (1 - DECAYS[1] ** step)).sqrt() + EPSILON)
    return best, where


def _nearest(candidates: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(rows,) which of (inputs, k) is nearest to each of (inputs, rows); of equal ones the first."""
    equally = rows.new_ones(len(rows))
    least = torch.full_like(rows[0], float("inf"))
    which = torch.zeros_like(least, dtype=torch.long)
    for i in range(candidates.shape[1]):
        distance = weighted_sums(equally, (rows - candidates[:, i : i + 1]).square())
        which = torch.where(distance < least, i, which)
        least = torch.minimum(distance, least)
    return which
