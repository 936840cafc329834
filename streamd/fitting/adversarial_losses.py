"""What a generator and a discriminator play for: binary cross-entropy, or Wasserstein's distance under a penalty."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn.functional import softplus

Loss = Literal["bce", "wgan-gp"]


class Game(NamedTuple):
    """The two losses.

    Attributes:
        loss: `bce` (Goodfellow et al. 2014, the generator's in its non-saturating form), or `wgan-gp` (Gulrajani et
            al. 2017).
        penalty: λ, the weight of the gradient penalty; `bce` has none.
    """

    loss: Loss
    penalty: float

    @property
    def betas(self) -> tuple[float, float]:
        """Of Adam, as the authors of each have it (DCGAN: Radford et al. 2016)."""
        return (0.5, 0.999) if self.loss == "bce" else (0.0, 0.9)

    def critic_loss(
        self, critic: nn.Module, real: torch.Tensor, fake: torch.Tensor, mixture: torch.Tensor
    ) -> torch.Tensor:
        """() of what the critic says of (inputs, rows) twice. `mixture` (1, rows), of 0 … 1, places the penalty."""
        if self.loss == "bce":
            return softplus(-critic(real)).mean() + softplus(critic(fake)).mean()
        distance: torch.Tensor = critic(real).mean() - critic(fake).mean()
        return self.penalty * gradient_penalty(critic, real, fake, mixture) - distance

    def generator_loss(self, judged: torch.Tensor) -> torch.Tensor:
        """() of what the critic says of generated rows, (rows,)."""
        return softplus(-judged).mean() if self.loss == "bce" else -judged.mean()


def gradient_penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    """E (‖∇ D(x̂)‖₂ − 1)² at x̂ = m·real + (1 − m)·fake: a critic of slope 1 measures Wasserstein's distance.

    Args:
        real, fake: (inputs, rows).
        mixture: (1, rows) m of each pair.
    """
    between = (mixture * real + (1 - mixture) * fake).detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: torch.Tensor = (slope.norm(dim=0) - 1).square().mean()
    return penalty


def energy_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """2·E|x − y| − E|x − x'| − E|y − y'| of two samples, (inputs, rows): 0 where they are of one distribution, and
    nowhere else (Székely and Rizzo 2013)."""

    def apart(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.cdist(left.T, right.T).mean()

    return float(2 * apart(first, second) - apart(first, first) - apart(second, second))


def divergence(means: torch.Tensor, log_variances: torch.Tensor) -> torch.Tensor:
    """(rows,) KL(N(μ, σ²) ‖ N(0, 1)), summed over the (latent, rows) codes (Kingma and Welling 2014)."""
    return 0.5 * (means.square() + log_variances.exp() - 1 - log_variances).sum(dim=0)
