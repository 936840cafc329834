from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from streamd.fitting.adversarial_losses import Game, divergence, energy_distance, gradient_penalty


class LinearCritic(nn.Module):
    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.weights @ rows


class HalfSquare(nn.Module):
    """½‖x‖²: its slope at x is x."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return 0.5 * rows.square().sum(dim=0)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_penalty_of_a_linear_critic_is_that_of_its_weights_and_so_is_its_slope() -> None:
    critic = LinearCritic([3.0, 4.0])  # of slope 5 everywhere: (5 − 1)² = 16
    penalty = gradient_penalty(critic, rows(2, 7), rows(2, 7, seed=1), torch.rand(1, 7))
    assert penalty.item() == pytest.approx(16.0)
    penalty.backward()
    # d(‖w‖ − 1)²/dw = 2·(‖w‖ − 1)·w/‖w‖ = 8·(0.6, 0.8)
    np.testing.assert_allclose(critic.weights.grad, [4.8, 6.4], rtol=1e-6)


def test_the_penalty_is_taken_between_the_pairs_where_the_mixture_says() -> None:
    real, fake = rows(3, 5), rows(3, 5, seed=1)
    mixture = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]])
    between = mixture.numpy() * real.numpy() + (1 - mixture.numpy()) * fake.numpy()
    expected = np.mean((np.linalg.norm(between, axis=0) - 1) ** 2)
    assert gradient_penalty(HalfSquare(), real, fake, mixture).item() == pytest.approx(expected, rel=1e-5)


def test_wasserstein_losses_are_the_mean_values_under_the_penalty() -> None:
    critic, real, fake = LinearCritic([1.0, 0.0]), rows(2, 50), rows(2, 50, seed=1)
    game = Game("wgan-gp", 10.0)  # of slope 1: no penalty
    expected = fake[0].mean() - real[0].mean()
    assert game.critic_loss(critic, real, fake, torch.rand(1, 50)).item() == pytest.approx(expected.item(), abs=1e-5)
    assert game.generator_loss(critic(fake)).item() == pytest.approx(-fake[0].mean().item())


def test_cross_entropy_losses_are_those_of_torch() -> None:
    critic, real, fake = LinearCritic([0.7, -2.0]), rows(2, 50), rows(2, 50, seed=1)
    entropy = nn.functional.binary_cross_entropy_with_logits
    expected = entropy(critic(real), torch.ones(50)) + entropy(critic(fake), torch.zeros(50))
    game = Game("bce", 10.0)
    assert game.critic_loss(critic, real, fake, torch.rand(1, 50)).item() == pytest.approx(expected.item(), rel=1e-5)
    expected = entropy(critic(fake), torch.ones(50))
    assert game.generator_loss(critic(fake)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_energy_distance_is_that_of_all_pairs_and_nothing_between_equal_samples() -> None:
    first, second = rows(4, 30), 2 * rows(4, 40, seed=1) + 1
    x, y = first.T.numpy(), second.T.numpy()
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert energy_distance(first, second) == pytest.approx(expected, rel=1e-4)
    assert energy_distance(first, first) == pytest.approx(0.0, abs=1e-5)


def test_the_divergence_is_that_of_normal_distributions() -> None:
    means, log_variances = rows(3, 6), rows(3, 6, seed=1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(means, (log_variances / 2).exp()), normal(0.0, 1.0)).sum(0)
    np.testing.assert_allclose(divergence(means, log_variances), expected, rtol=1e-4)
