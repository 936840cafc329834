from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from streamd.scorers.adversarial.comparison import Comparison, Norm, search, weighted_sums
from streamd.scorers.adversarial.layers import SLOPE, Discriminator, Trunk


class Times(nn.Module):
    """A linear generator, whose codes can be worked out by hand."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.matrix @ latent


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def discriminator(inputs: int, units: int = 6) -> Discriminator:
    made = Discriminator(Trunk((inputs, units, units)))
    generator = torch.Generator().manual_seed(7)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made.requires_grad_(False)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_score_is_that_of_a_plain_loop(norm: Norm, alpha: float) -> None:
    critic, x, again = discriminator(3), rows(3, 4), rows(3, 4, seed=1)

    def features(row: list[float]) -> list[float]:
        for layer in critic.trunk.layers:
            sums = [
                sum(w * v for w, v in zip(weights, row, strict=True)) + bias
                for weights, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
            ]
            row = [value if value > 0 else SLOPE * value for value in sums]
        return row

    expected = []
    for row, other in zip(x.T.tolist(), again.T.tolist(), strict=True):
        residual = [abs(a - b) if norm == "l1" else (a - b) ** 2 for a, b in zip(row, other, strict=True)]
        apart = [(a - b) ** 2 for a, b in zip(features(row), features(other), strict=True)]
        expected.append(sum(residual) / len(residual) + alpha * sum(apart) / len(apart))
    np.testing.assert_allclose(Comparison(critic, norm, alpha)(x, again), expected, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 32, 93, 784])
def test_the_weighted_sum_of_a_column_knows_nothing_of_the_columns_beside_it(count: int) -> None:
    values, weights = rows(count, 70), rows(count, seed=1)
    sums = weighted_sums(weights, values)
    np.testing.assert_allclose(sums, weights.double() @ values.double(), rtol=1e-4, atol=1e-4)
    for first, length in ((0, 2), (7, 3), (1, 69), (30, 17)):
        alone = weighted_sums(weights, values[:, first : first + length].contiguous())
        assert alone.tolist() == sums[first : first + length].tolist()


def test_the_search_finds_the_known_code_of_a_linear_generator() -> None:
    generator = Times(rows(8, 3, seed=2))
    codes = rows(3, 20, seed=3)
    comparison = Comparison(discriminator(8), "l2", 0.0)
    score, found = search(generator, comparison, generator(codes), rows(3, 16, seed=4), steps=400, step_size=0.05)
    np.testing.assert_allclose(found, codes, atol=0.01)
    assert score.max() < 1e-3


def test_what_no_code_gives_is_scored_by_its_distance_from_the_generator() -> None:
    matrix = torch.eye(4)[:, :2]  # generates the first two inputs, and never the others
    x = torch.tensor([[0.3, -0.8], [0.5, 0.1], [0.0, 2.0], [0.0, 0.0]])
    score, _ = search(Times(matrix), Comparison(discriminator(4), "l2", 0.0), x, rows(2, 8), steps=400, step_size=0.05)
    np.testing.assert_allclose(score, [0.0, 2.0**2 / 4], atol=1e-3)


def test_a_row_begins_at_the_nearest_start_and_more_steps_find_no_worse() -> None:
    generator, starts, x = Times(rows(6, 3, seed=5)), rows(3, 10, seed=6), rows(6, 12)
    comparison = Comparison(discriminator(6), "l2", 0.1)
    _, at_once = search(generator, comparison, x, starts, steps=0, step_size=0.1)
    apart = np.linalg.norm(x.numpy()[:, :, None] - generator(starts).numpy()[:, None, :], axis=0)
    np.testing.assert_array_equal(at_once, starts[:, apart.argmin(axis=1)])
    least = [search(generator, comparison, x, starts, steps, 0.1)[0].sum().item() for steps in (0, 5, 20, 80)]
    assert least == sorted(least, reverse=True)
    assert least[-1] < least[0]
    assert all(math.isfinite(value) for value in least)


def test_a_rows_search_is_its_own() -> None:
    generator, starts, x = Times(rows(6, 3, seed=5)), rows(3, 10, seed=6), rows(6, 40)
    comparison = Comparison(discriminator(6), "l2", 0.1)
    together = search(generator, comparison, x, starts, 20, 0.1)[0].tolist()
    for count in (2, 3, 17, 39):
        assert (
            search(generator, comparison, x[:, 1 : 1 + count].contiguous(), starts, 20, 0.1)[0].tolist()
            == together[1 : 1 + count]
        )
