"""The loops of the scorers against numpy."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_the_largest_features_are_those_whose_inputs_add_up_to_most() -> None:
    rng = np.random.default_rng(0)
    squared = rng.integers(0, 4, (9, 30)).astype(np.float32)
    starts = np.array([0, 1, 5, 6])
    totals = np.add.reduceat(squared, starts, axis=0)
    rows = np.array([3, 0, 29])
    named = np.zeros((3, 2), np.int64)
    kernels.largest_features(squared, starts, rows, named)
    assert named.tolist() == np.argsort(-totals[:, rows], axis=0, kind="stable")[:2].T.tolist()


def test_rows_added_in_two_parts_are_those_added_at_once() -> None:
    rng = np.random.default_rng(1)
    squared, errors = rng.random((4, 20)).astype(np.float32), rng.random(20)
    errors[[2, 17]] = np.nan
    sums, parts = np.zeros(4), np.zeros(4)
    known, over = kernels.add_up(squared, errors, 0, 20, 0.5, sums)
    counts = [kernels.add_up(squared, errors, *part, 0.5, parts) for part in ((0, 7), (7, 20))]
    assert (known, over) == (18, np.count_nonzero(errors > 0.5))
    assert np.sum(counts, axis=0).tolist() == [known, over]
    np.testing.assert_allclose(sums, squared.sum(axis=1, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(parts, sums, rtol=1e-12)
