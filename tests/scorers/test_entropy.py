from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from streamd.scorers.entropy import entropies_and_winners, softmax_entropy

LOG2 = math.log(2)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_entropy_is_that_of_scipy(classes: int) -> None:
    logits = np.random.default_rng(classes).normal(scale=5, size=(300, classes))
    probabilities = softmax(logits, axis=1)
    expected = entropy(probabilities, axis=1)
    np.testing.assert_allclose(softmax_entropy(logits, "logits"), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(softmax_entropy(probabilities, "probabilities"), expected, rtol=1e-12, atol=1e-14)


def test_the_winner_is_the_first_of_the_most_likely_classes() -> None:
    logits = np.random.default_rng(0).integers(0, 3, size=(200, 4)).astype(float)
    assert np.argmax(logits, axis=1).tolist() == entropies_and_winners(logits, "logits")[1].tolist()
    shares = logits[logits.sum(axis=1) > 0]
    assert np.argmax(shares, axis=1).tolist() == entropies_and_winners(shares, "probabilities")[1].tolist()


def test_probabilities_that_do_not_sum_to_1_are_divided_by_their_sum() -> None:
    values = np.array([[2.0, 6.0], [0.25, 0.75]])
    first, second = softmax_entropy(values, "probabilities")
    assert first == second


@pytest.mark.parametrize("shift", [1e300, -1e300, 5e307])
def test_huge_logits_neither_overflow_nor_lose_the_answer(shift: float) -> None:
    assert softmax_entropy(np.array([[shift, shift], [shift, -shift]]), "logits").tolist() == [LOG2, 0.0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([math.inf, 0.0, 0.0], 0.0),
        ([math.inf, math.inf, 0.0], LOG2),
        ([-math.inf, 1.0, 1.0], LOG2),
        ([-math.inf, -math.inf, -math.inf], math.nan),
        ([math.nan, 1.0, 2.0], math.nan),
        ([math.nan, math.nan, math.nan], math.nan),
        ([1e-320, 1e-320, -800.0], LOG2),
    ],
)
def test_logits_that_are_not_finite_mean_what_their_limit_means(row: list[float], expected: float) -> None:
    values, winners = entropies_and_winners(np.array([row]), "logits")
    np.testing.assert_allclose(values, [expected], atol=1e-15)
    assert (winners[0] == -1) == math.isnan(expected)


@pytest.mark.parametrize("row", [[-0.1, 1.1], [math.nan, 1.0], [0.0, 0.0], [math.inf, 1.0], [1e308, 1e308]])
def test_a_row_of_what_are_no_probabilities_is_missing(row: list[float]) -> None:
    values, winners = entropies_and_winners(np.array([row]), "probabilities")
    assert math.isnan(values[0])
    assert winners.tolist() == [-1]


def test_one_column_stands_for_two_classes() -> None:
    p = np.array([[0.1], [0.5], [1.0], [1.5], [-0.5], [math.nan]])
    values, winners = entropies_and_winners(p, "probabilities")
    np.testing.assert_allclose(values, [entropy([0.9, 0.1]), LOG2, 0.0, math.nan, math.nan, math.nan])
    assert winners.tolist() == [0, 0, 1, -1, -1, -1]
    z = np.array([[-2.0], [0.0], [3.0]])
    values, winners = entropies_and_winners(z, "logits")
    np.testing.assert_allclose(values, entropy(softmax(np.column_stack([0 * z, z]), axis=1), axis=1))
    assert winners.tolist() == [0, 0, 1]


def test_views_of_any_layout_and_buffers_nobody_may_write_to_are_read() -> None:
    logits = np.random.default_rng(1).normal(size=(4, 50))
    expected = softmax_entropy(np.ascontiguousarray(logits.T), "logits")
    frozen = np.frombuffer(logits.T.copy().tobytes()).reshape(50, 4)
    assert expected.tolist() == softmax_entropy(logits.T, "logits").tolist()
    assert expected.tolist() == softmax_entropy(frozen, "logits").tolist()


def test_no_rows_and_no_classes_have_no_entropy() -> None:
    assert softmax_entropy(np.empty((0, 3)), "logits").shape == (0,)
    assert np.isnan(softmax_entropy(np.empty((2, 0)), "logits")).all()
    assert np.isnan(softmax_entropy(np.empty((2, 0)), "probabilities")).all()
