"""The loops of the scorers against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from streamd.scorers import kernels


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_the_highest_rows_are_those_of_a_stable_sort(limit: int) -> None:
    rng = np.random.default_rng(limit)
    for rows in (0, 1, 5, 40):
        scores = rng.integers(0, 6, rows).astype(float)  # many are equal
        scores[rng.random(rows) < 0.2] = np.nan
        over = np.flatnonzero(scores > 1.0)
        expected = over[np.argsort(-scores[over], kind="stable")][:limit]
        found = np.empty(limit, np.int64)
        assert found[: kernels.highest(scores, 1.0, found)].tolist() == expected.tolist()


def test_confidence_is_the_largest_probability() -> None:
    logits = np.random.default_rng(0).normal(scale=5, size=(50, 4))
    odd = np.array([[1.0, np.nan], [np.nan, 1.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.inf, np.inf], [1e308, -1e308]])
    for values, expected in ((logits, softmax(logits, axis=1).max(axis=1)), (odd, [np.nan, np.nan, np.nan, 1, 0.5, 1])):
        found = np.empty(len(values))
        kernels.confidences(values, True, found)
        np.testing.assert_allclose(found, expected)


def test_the_confidence_of_probabilities_is_the_largest_share_of_them() -> None:
    values = np.array([[0.2, 0.6], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [-1.0, -1.0]])
    found = np.empty(5)
    kernels.confidences(values, False, found)
    np.testing.assert_allclose(found, [0.75, np.nan, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("cut", [0, 7, 20])
def test_rows_counted_in_two_parts_are_those_counted_at_once(cut: int) -> None:
    rng = np.random.default_rng(1)
    scores, sure = rng.random((2, 20))
    scores[[2, 6, 17]] = sure[[3, 17]] = np.nan
    over, known = scores > 0.5, ~np.isnan(sure)
    counts, sums, chosen = np.zeros(5, np.int64), np.zeros(2), []
    for start, stop in ((0, cut), (cut, 20)):
        places = np.empty(20, np.int64)
        count = kernels.tally(scores[start:stop], over[start:stop], sure[start:stop], 3, counts, sums, places)
        chosen += (start + places[:count]).tolist()
    assert counts.tolist() == [20, 17, over.sum(), (known & ~over).sum(), (known & over).sum()]
    np.testing.assert_allclose(sums, [sure[known & ~over].sum(), sure[known & over].sum()])
    assert chosen == [0, 3, 9, 12, 15, 18]


def test_of_a_model_that_said_nothing_no_confidence_is_counted() -> None:
    counts, sums = np.zeros(5, np.int64), np.zeros(2)
    kernels.tally(np.array([0.1, 0.9]), np.array([False, True]), np.empty(0), 9, counts, sums, np.empty(1, np.int64))
    assert (counts.tolist(), sums.tolist()) == ([2, 2, 1, 0, 0], [0, 0])


def test_shares_are_each_row_s_own_and_rows_without_any_are_passed_over() -> None:
    parts = np.array([[1.0, 0.0, 300.0, 9.0], [3.0, 0.0, -100.0, 9.0]])
    sums = np.zeros(2)
    assert kernels.add_shares(parts, 3, sums) == 2
    assert sums.tolist() == [0.25 + 0.75, 0.75 - 0.25]


def test_the_inputs_of_the_rows_asked_for_are_added_to_the_features_that_own_them() -> None:
    values = np.random.default_rng(2).integers(0, 9, (5, 6)).astype(np.float32)
    owners, rows = np.array([1, 0, 1, 1, 2]), np.array([4, 0, 4])
    expected, found = np.zeros((2, 3, 3))
    np.add.at(expected, owners, values[:, rows])
    kernels.by_owner(values, owners, rows, found)
    assert expected.tolist() == found.tolist()


def test_the_largest_shares_are_those_of_a_stable_sort() -> None:
    parts = np.random.default_rng(3).integers(-2, 5, (6, 9)).astype(float)
    parts[:, 7] = 0.0
    named, shares = np.zeros((7, 3), np.int64), np.empty((7, 3))
    kernels.largest_shares(parts, 2, named, shares)
    for k, row in enumerate(parts[:, 2:].T):
        expected = np.argsort(-row, kind="stable")[:3]
        assert named[k].tolist() == expected.tolist()
        np.testing.assert_allclose(shares[k], row[expected] / max(np.abs(row).sum(), 1.0))
