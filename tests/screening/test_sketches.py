"""The mergeable summaries against scipy, numpy and plain loops."""

from __future__ import annotations

import pickle
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streamd.screening import kernels
from streamd.screening.quantiles import Quantiles
from streamd.screening.runs import Runs
from streamd.screening.sketches import Distinct, Extremes, Moments, hashed


def moments_of(values: np.ndarray) -> Moments:
    found = kernels.fold(values, np.full(len(values), -1), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    return Moments.of(int(found[kernels.COUNT]), *found[kernels.MEAN :].tolist())


@pytest.mark.parametrize("cuts", [(5, 900), (1, 2), (500, 500)])
def test_moments_of_parts_are_those_of_scipy_of_the_whole(cuts: tuple[int, int]) -> None:
    values = np.random.default_rng(0).lognormal(size=1000)
    whole = Moments()
    for part in np.split(values, cuts):
        whole.merge(moments_of(part))
    assert whole.count == 1000
    np.testing.assert_allclose(whole.mean, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(whole.deviation, values.std(), rtol=1e-12)
    np.testing.assert_allclose(whole.skewness, stats.skew(values), rtol=1e-10)
    np.testing.assert_allclose(whole.excess_kurtosis, stats.kurtosis(values), rtol=1e-10)


def test_the_fold_counts_what_is_not_finite_and_leaves_it_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, -np.inf, np.nan])
    rows, means, m2 = np.zeros(2, np.int64), np.zeros(2), np.zeros(2)
    found = kernels.fold(values, np.array([0, 0, 1, 1, -1, -1]), rows, means, m2)
    assert (found[kernels.COUNT], found[kernels.NANS], found[kernels.MEAN]) == (2, 2, 2.0)
    assert (rows.tolist(), means.tolist()) == ([1, 1], [1.0, 3.0])


def test_few_distinct_values_are_counted_exactly_and_by_their_rows() -> None:
    values = np.random.default_rng(1).integers(0, 50, 1000).astype(float)
    distinct = Distinct(100)
    distinct.add(hashed(values[:400]), np.arange(400))
    later = Distinct(100)
    later.add(hashed(values[400:]), np.arange(400, 1000))
    distinct.merge(later)
    assert distinct.exact
    assert distinct.estimate == len(np.unique(values))
    assert sorted(distinct.counts) == sorted(np.unique(values, return_counts=True)[1])
    assert sorted(distinct.firsts) == sorted(np.unique(values, return_index=True)[1])


def test_many_distinct_values_are_estimated_to_a_few_percent_whatever_the_parts() -> None:
    values = np.random.default_rng(2).random(300_000)
    distinct = Distinct(4096)
    for first in range(0, 300_000, 70_000):
        part = Distinct(4096)
        part.add(hashed(values[first : first + 70_000]), np.arange(first, min(first + 70_000, 300_000)))
        distinct.merge(part)
    assert not distinct.exact
    assert abs(distinct.estimate / 300_000 - 1) < 4 * 1.2 / np.sqrt(4096)


def test_zero_and_minus_zero_are_one_value_and_so_are_all_nans() -> None:
    odd_nan = np.array([0x7FF8000000000123], np.uint64).view(np.float64)
    assert len(set(hashed(np.array([0.0, -0.0])).tolist())) == 1
    assert len(set(hashed(np.array([np.nan, odd_nan[0]])).tolist())) == 1


@given(st.lists(st.integers(-5, 5), min_size=1), st.lists(st.integers(-5, 5)))
def test_quantiles_of_few_values_are_those_of_numpy(one: list[int], other: list[int]) -> None:
    quantiles, later = Quantiles(100, 1, 200), Quantiles(100, 1, 200)
    quantiles.add_sorted(np.sort(np.array(one, float)))
    later.add_sorted(np.sort(np.array(other, float)))
    quantiles.merge(later)
    shares = np.linspace(0, 1, 13)
    np.testing.assert_allclose(quantiles.at(shares), np.quantile(one + other, shares), atol=1e-12)


@pytest.mark.parametrize("stride", [1, 16])
def test_quantiles_of_many_values_have_the_right_rank(stride: int) -> None:
    rng = np.random.default_rng(3)
    parts = [rng.lognormal(size=n) for n in (50_000, 333, 70_001, 5)]
    quantiles = Quantiles(1000, stride, 2000)
    for values in parts:
        part = Quantiles(1000, stride, 2000)
        part.add_sorted(np.sort(values))
        quantiles.merge(pickle.loads(pickle.dumps(part)))
    every = np.sort(np.concatenate(parts))
    shares = np.array([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
    ranks = np.searchsorted(every, quantiles.at(shares)) / len(every)
    np.testing.assert_allclose(ranks, shares, atol=0.003)
    assert (quantiles.at(np.array([0.0, 1.0])) == every[[0, -1]]).all()
    assert quantiles.count == len(every)
    assert abs(quantiles.share_up_to(float(every[60_000])) - 60_001 / len(every)) < 0.003


def test_extremes_are_the_smallest_and_largest_values_with_their_first_rows() -> None:
    values = np.random.default_rng(4).integers(0, 30, 500).astype(float)
    whole = Extremes(7)
    for first in (0, 200, 210):
        stop = {0: 200, 200: 210, 210: 500}[first]
        part = Extremes(7)
        part.add(values[first:stop], np.arange(first, stop), np.sort(values[first:stop]))
        whole.merge(part)
    rising = sorted((value, row) for row, value in enumerate(values.tolist()))
    falling = sorted((-value, row) for row, value in enumerate(values.tolist()))
    assert list(zip(whole.low_values, whole.low_rows, strict=True)) == rising[:7]
    assert list(zip(-whole.high_values, whole.high_rows, strict=True)) == falling[:7]


@given(st.lists(st.lists(st.integers(0, 2), max_size=8), max_size=6))
def test_the_longest_run_is_found_across_the_borders_of_parts(parts: list[list[int]]) -> None:
    runs, first = Runs(), 0
    for values in parts:
        part = Runs()
        part.add(np.array(values, np.int64), first)
        runs.merge(part, first)
        first += len(values)
    every = [value for values in parts for value in values]
    lengths, start = [], 0
    for value, group in groupby(every):
        length = len(list(group))
        lengths.append((length, start, value))
        start += length
    if not lengths:
        assert runs.rows == 0
        return
    best = max(lengths, key=lambda each: (each[0], -each[1]))
    assert runs.longest == best[0]
    assert every[runs.longest_start : runs.longest_start + runs.longest] == [runs.longest_value] * runs.longest
    assert runs.changes == len(lengths) - 1


@pytest.mark.parametrize("edges", [(-1.0, 1.0), (0.3, 0.30001), (-1e300, 1e300)])
def test_what_lies_beyond_limits_and_in_bars_is_counted_as_numpy_counts_it(edges: tuple[float, float]) -> None:
    rng = np.random.default_rng(6)
    steps = np.linspace(0, 1, 61)
    bounds = edges[0] * (1 - steps) + edges[1] * steps
    values = np.concatenate([rng.normal(size=5000), bounds, np.nextafter(bounds, -np.inf), [np.nan, np.inf, -np.inf]])
    limits = np.array([-1.0, 1.0, -2.0, 2.0, bounds[3], bounds[9]])
    bars = np.zeros(60, np.int64)
    found = kernels.beyond(values, limits, bounds, bars)
    finite = np.sort(values[np.isfinite(values)])
    assert found.tolist() == [int(((finite < a) | (finite > b)).sum()) for a, b in limits.reshape(3, 2)]
    below = np.searchsorted(finite, bounds[1:-1], "left")
    assert bars.tolist() == np.diff([0, *below, len(finite)]).tolist()


def test_rows_have_one_hash_when_they_are_equal() -> None:
    numbers, codes = np.array([0.0, -0.0, 1.0, 0.0, np.nan, -np.nan]), np.array([0, 0, 0, 1, -1, -1], np.int32)
    hashes = np.zeros(6, np.uint64)
    kernels.combine_numbers(numbers, hashes)
    kernels.combine_codes(codes, np.array([7, 8, 9], np.uint64), hashes)
    assert len(set(hashes.tolist())) == 4
    assert (hashes[0], hashes[4]) == (hashes[1], hashes[5])
