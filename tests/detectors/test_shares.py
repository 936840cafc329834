"""Shares against a reference's: held against scipy's exact binomial test and confidence limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from streamd.detectors.shares import at_least, largest_shares


@pytest.mark.parametrize(("count", "rows", "share"), [(0, 10, 0.1), (3, 10, 0.1), (10, 10, 0.5), (40, 1000, 0.007)])
def test_with_no_doubt_it_is_scipys_exact_binomial_test(count: int, rows: int, share: float) -> None:
    expected = stats.binomtest(count, rows, share, alternative="greater").pvalue
    actual = at_least(np.array([float(count)]), np.array([float(rows)]), np.array([share]), 0.0)
    assert actual == pytest.approx([expected], rel=1e-12)


@pytest.mark.parametrize(("count", "rows"), [(0, 2000), (14, 2000), (1999, 2000), (2000, 2000), (0, 1)])
def test_the_limit_is_clopper_and_pearsons(count: int, rows: int) -> None:
    interval = stats.binomtest(count, rows, 0.5, alternative="less").proportion_ci(1 - 1e-4, method="exact")
    actual = largest_shares(np.array([float(count)]), np.array([float(rows)]), 1e-4)
    assert actual == pytest.approx([interval.high], rel=1e-9)


def test_an_empty_reference_allows_every_share() -> None:
    assert largest_shares(np.zeros(1), np.zeros(1), 1e-4) == [1.0]


@pytest.mark.parametrize("share", [0.002, 0.05, 0.5])
def test_false_alarms_stay_under_the_level_though_the_reference_is_short(share: float) -> None:
    rng = np.random.default_rng(0)
    reference, window = 200, 1000
    doubt = 1e-3
    limits = largest_shares(rng.binomial(reference, share, 20_000) * 1.0, np.full(20_000, 1.0 * reference), doubt)
    p_values = at_least(rng.binomial(window, share, 20_000) * 1.0, np.full(20_000, 1.0 * window), limits, doubt)
    assert np.mean(p_values <= 0.01) <= 0.01


def test_no_p_value_is_smaller_than_the_doubt() -> None:
    assert at_least(np.array([1000.0]), np.array([1000.0]), np.array([0.01]), 1e-6) == pytest.approx([1e-6])
