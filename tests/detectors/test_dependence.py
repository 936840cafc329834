"""Autocorrelation times, against a plain loop and against what theory says of AR(1)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import rankdata

from streamd.detectors.dependence import PAIRS_SUMMED, SHORT_ROWS_MAX, autocorrelation_times, centred_ranks
from streamd.table import FloatArray


def geyer(values: FloatArray) -> float:
    """The initial monotone sequence, line by line from the paper."""
    x = values - values.mean()
    n = len(x)
    if not x.any():
        return 1.0
    gamma = [float(x[: n - lag] @ x[lag:]) for lag in range(n - n % 2)]
    pairs = [gamma[2 * t] + gamma[2 * t + 1] for t in range(len(gamma) // 2)]
    total, before = 0.0, np.inf
    for pair in pairs:
        if pair <= 1e-6:  # a sum of whole numbers, in floating point
            break
        before = min(before, pair)
        total += before
    return max(2 * total / gamma[0] - 1, 1.0)


def ar1(rng: np.random.Generator, rho: float, rows: int) -> FloatArray:
    noise = rng.normal(size=rows + 200)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise))[200:]


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("rows", [4, 5, 77, 1000])
def test_the_time_is_that_of_a_plain_loop(rho: float, rows: int) -> None:
    columns = np.stack([ar1(np.random.default_rng(seed), rho, rows) for seed in range(5)])
    ranks = np.stack([centred_ranks(column) for column in columns])
    np.testing.assert_allclose(autocorrelation_times(ranks), [geyer(rankdata(c)) for c in columns], rtol=1e-9)


def test_ranks_of_sixteen_bits_have_the_same_time_as_wider_ones() -> None:
    extreme = np.repeat([-1.0, 1.0], SHORT_ROWS_MAX // 2)  # the largest sums of products that there are
    columns = np.stack([np.arange(SHORT_ROWS_MAX), extreme, ar1(np.random.default_rng(3), 0.5, SHORT_ROWS_MAX)])
    ranks = np.stack([centred_ranks(column) for column in columns])
    assert autocorrelation_times(ranks.astype(np.int16)).tolist() == autocorrelation_times(ranks).tolist()


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_a_long_column_has_the_time_that_theory_gives(rho: float) -> None:
    column = ar1(np.random.default_rng(1), rho, 200_000)
    [time] = autocorrelation_times(centred_ranks(column)[None])
    assert time == pytest.approx((1 + rho) / (1 - rho), rel=0.1)


def test_sums_that_end_late_are_the_same_by_transform_as_by_loop() -> None:
    column = np.sin(np.arange(1000) / 200)
    assert geyer(rankdata(column)) > 2 * PAIRS_SUMMED
    [time] = autocorrelation_times(centred_ranks(column)[None])
    assert time == pytest.approx(geyer(rankdata(column)), rel=1e-9)


def test_a_constant_column_and_one_of_alternating_values_have_time_one() -> None:
    ranks = np.stack([centred_ranks(np.full(100, 3.0)), centred_ranks(np.arange(100.0) % 2)])
    assert autocorrelation_times(ranks).tolist() == [1.0, 1.0]


def test_few_rows_have_time_one() -> None:
    assert autocorrelation_times(np.zeros((2, 0), np.int32)).tolist() == [1.0, 1.0]
    assert autocorrelation_times(centred_ranks(np.array([1.0, 2.0, 3.0]))[None]).tolist() == [1.0]


def test_columns_do_not_see_each_other() -> None:
    rng = np.random.default_rng(2)
    ranks = np.stack([centred_ranks(ar1(rng, rho, 500)) for rho in (0.0, 0.99, 0.5, 0.97)])
    alone = [autocorrelation_times(ranks[i : i + 1])[0] for i in range(4)]
    assert autocorrelation_times(ranks).tolist() == alone


def test_centred_ranks_are_doubled_scipy_ranks_about_zero_and_missing_values_are_zero() -> None:
    values = np.array([3.0, np.nan, 1.0, 3.0, -np.inf, np.inf])
    present = ~np.isnan(values)
    expected = 2 * rankdata(values[present]) - (present.sum() + 1)
    ranks = centred_ranks(values)
    assert ranks[present].tolist() == expected.tolist()
    assert ranks[1] == 0
