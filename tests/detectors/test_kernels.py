"""The compiled loops, against numpy and scipy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import smirnov
from scipy.stats import ks_2samp, kstwo

from streamd.detectors import kernels, kernels_compare, kolmogorov
from streamd.detectors.dependence import centred_ranks
from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.detectors.kernels_compare import NARROW_ROWS_MAX
from streamd.detectors.kernels_dependence import category_time
from streamd.detectors.kernels_tails import FEW, kolmogorov_tail, paths_outside, textbook_tail
from streamd.model import Kind
from streamd.table import FloatArray

VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.7e308, -1.7e308]),
)
SHAPES = {
    "normal": lambda rng, rows: rng.normal(size=rows),
    "far_normal": lambda rng, rows: rng.normal(1e9, 1.0, rows),
    "lognormal": lambda rng, rows: rng.lognormal(0, 3, rows),
    "cauchy": lambda rng, rows: rng.standard_cauchy(rows),
    "ten_valued": lambda rng, rows: rng.integers(0, 10, rows).astype(float),
    "constant": lambda rng, rows: np.full(rows, 7.0),
    "tiny": lambda rng, rows: rng.normal(size=rows) * 1e-310,
    "huge": lambda rng, rows: rng.uniform(-1.0, 1.0, rows) * 1.7e308,
    "zeros_and_tail": lambda rng, rows: np.where(rng.random(rows) < 0.9, 0.0, rng.lognormal(0, 5, rows)),
    "infinities": lambda rng, rows: rng.choice([-np.inf, 0.0, 1.0, np.inf], rows),
}


def bins_of(reference: FloatArray, values: FloatArray) -> list[int | None]:
    """The bins that the judge keeps of one column; None is missing."""
    profile = TwoSampleProfile(("x",), reference[None], TwoSampleSettings(window_rows=max(2, len(values))))
    judge = TwoSampleJudge("ks", Kind.FEATURES, profile)
    judge.update(values[None].copy(), 0)
    missing = np.iinfo(profile.bin_type).max
    return [None if b == missing else int(b) for b in judge.ring[0, : len(values)]]


def bins_by_numpy(reference: FloatArray, values: FloatArray) -> list[int | None]:
    distinct = np.unique(reference[~np.isnan(reference)])
    below, upto = np.searchsorted(distinct, values, "left"), np.searchsorted(distinct, values, "right")
    return [None if np.isnan(v) else int(a + b) for v, a, b in zip(values, below, upto, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_value_falls_into_the_bin_that_a_binary_search_finds(shape: str) -> None:
    rng = np.random.default_rng(0)
    reference = SHAPES[shape](rng, 2000)
    values = np.concatenate([SHAPES[shape](rng, 500), reference[:300], rng.normal(size=100), [np.nan, np.inf, -np.inf]])
    assert bins_of(reference, values) == bins_by_numpy(reference, values)


@settings(max_examples=150, deadline=None)
@given(reference=st.lists(VALUES, max_size=60), values=st.lists(VALUES, min_size=1, max_size=30))
def test_any_doubles_at_all_fall_into_the_bin_that_a_binary_search_finds(
    reference: list[float], values: list[float]
) -> None:
    assert bins_of(np.array(reference), np.array(values)) == bins_by_numpy(np.array(reference), np.array(values))


def test_heavy_tails_leave_few_candidates_in_a_cell() -> None:
    rng = np.random.default_rng(1)
    values = np.stack([SHAPES[shape](rng, 2000) for shape in ("normal", "lognormal", "cauchy", "far_normal")])
    profile = TwoSampleProfile(("a", "b", "c", "d"), values, TwoSampleSettings())
    candidates = (np.diff(profile.cells.astype(float), axis=1) ** 2).sum(axis=1) / 2000
    assert (candidates < 6).all(), candidates


@pytest.mark.parametrize(("m", "n"), [(5, 5), (7, 12), (30, 20), (100, 100), (64, 300)])
def test_path_counting_is_scipys_exact_p_value(m: int, n: int) -> None:
    rng = np.random.default_rng(m * n)
    for shift in (0.0, 0.3, 1.0, 3.0):
        result = ks_2samp(rng.normal(size=m), rng.normal(shift, 1.0, n), method="exact")
        ours = paths_outside(m, n, round(result.statistic * m * n))
        assert ours == pytest.approx(result.pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [1, 20, 140, 141, 200, 323, 400, 640, 659, 667, 1000, 1279, 5000, 100_000, 200_000])
def test_the_tail_of_the_textbook_test_is_scipys_kstwo_to_twelve_digits(n: int) -> None:
    """Of few rows scipy's own values under 0.1 have a digit less, being one less something near one."""
    rng = np.random.default_rng(n)
    distances = np.concatenate([[0.3 / n, 1 / n, 2 / n], np.exp(rng.uniform(-3, 2, 200)) / np.sqrt(n)])
    distances = distances[distances < 1]
    ours = [textbook_tail(n, d) for d in distances]
    np.testing.assert_allclose(ours, kstwo.sf(distances, n), rtol=1e-12, atol=1e-13 if n <= FEW else 0)


@pytest.mark.parametrize("n", [141, 427, 700, 1280, 1479, 30_000])
def test_the_tail_is_right_to_twelve_digits_however_small_it_is(n: int) -> None:
    distances = np.sqrt(np.linspace(2.21, 300, 100) / n)
    distances = distances[distances < 1]
    ours = [textbook_tail(n, d) for d in distances]
    np.testing.assert_allclose(ours, 2 * smirnov(n, distances), rtol=2e-12, atol=1e-300)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20, 50, 140])
def test_the_quick_tail_is_near_kstwo_for_small_samples_and_nearest_where_it_matters(n: int) -> None:
    distances = np.linspace(0.001, 0.999, 400)
    error = np.abs([kolmogorov_tail(n, d) for d in distances] - kstwo.sf(distances, n))
    assert error.max() < (0.05 if n < 10 else 0.002)
    assert error[kstwo.sf(distances, n) < 0.05].max() < 0.0003


def test_the_tail_is_one_at_zero_and_zero_at_one() -> None:
    assert kolmogorov_tail(100, 0.0) == 1.0
    assert kolmogorov_tail(100, 1.0) == 0.0


@pytest.mark.parametrize(("window_rows", "dtype"), [(50, np.int16), (50, np.int32), (NARROW_ROWS_MAX + 1, np.int32)])
def test_the_ranks_of_a_ring_are_those_of_its_rows_in_order_and_its_distances_those_of_scipy(
    window_rows: int, dtype: type
) -> None:
    rng = np.random.default_rng(window_rows)
    reference = np.tile(np.arange(20.0), (2, 3))  # all values that occur: others would share a bin
    values = rng.integers(0, 20, (2, window_rows + 7)).astype(float)
    values[1, rng.random(window_rows + 7) < 0.3] = np.nan
    judge = TwoSampleJudge(
        "ks", Kind.FEATURES, TwoSampleProfile(("x", "y"), reference, TwoSampleSettings(window_rows=window_rows))
    )
    judge.update(values, 0)
    ranks = np.empty((2, window_rows), dtype)
    present, (distances, above, below) = judge._compare(ranks)
    for i, window in enumerate(values[:, 7:]):
        assert ranks[i].tolist() == centred_ranks(window).tolist()
        window = window[~np.isnan(window)]
        assert present[i] == len(window)
        assert distances[i] == pytest.approx(ks_2samp(reference[i], window).statistic, abs=1e-12)
        assert above[i] == pytest.approx(ks_2samp(window, reference[i], "greater").statistic, abs=1e-12)
        assert below[i] == pytest.approx(ks_2samp(window, reference[i], "less").statistic, abs=1e-12)


def agreement_time(codes: list[int], categories: int) -> float:
    """Geyer's sum over the autocovariances of the categories' indicators, by matrices."""
    x = np.zeros((len(codes), categories))
    for row, code in enumerate(codes):
        if code < categories:
            x[row, code] = 1.0
    present = np.array(codes) < categories
    x[present] -= x[present].mean(axis=0)
    n = len(codes)
    gamma = [float((x[: n - lag] * x[lag:]).sum()) for lag in range(n - n % 2)]
    if gamma[0] <= 1e-9:
        return 1.0
    total, before = 0.0, np.inf
    for even, odd in zip(gamma[::2], gamma[1::2], strict=True):
        if even + odd <= 1e-9:
            break
        before = min(before, even + odd)
        total += before
    return max(2 * total / gamma[0] - 1, 1.0)


def test_the_time_of_a_categorical_column_is_that_of_its_indicators() -> None:
    rng = np.random.default_rng(3)
    for stay in (0.0, 0.5, 0.95):
        codes = [0]
        for _ in range(400):
            codes.append(codes[-1] if rng.random() < stay else int(rng.integers(0, 5)))  # 4: missing
        ours = category_time(np.array(codes, np.uint16), 4, len(codes))
        assert ours == pytest.approx(agreement_time(codes, 4), rel=1e-9)
    assert category_time(np.zeros(100, np.uint16), 3, 100) == 1.0


@pytest.mark.slow
def test_an_installation_that_cannot_be_written_to_still_works(tmp_path: object) -> None:
    """No cache folder at all: numba raises, and the loops are compiled without one."""
    script = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from streamd.detectors import kernels_tails\n"
        "print(kernels_tails.kolmogorov_tail(100, 1.0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "0.0\n", done.stderr


def test_warming_up_leaves_nothing_to_compile() -> None:
    kernels.warm_up()
    for loop in (kernels.push, kernels_compare.compare, kernels.count, paths_outside):
        assert not loop._can_compile


@pytest.mark.parametrize(("m", "n"), [(3, 3), (8, 8), (15, 10), (30, 15), (2000, 4), (60, 30), (500, 30), (500, 250)])
def test_quick_p_values_are_at_least_two_thirds_of_the_two_sample_test_down_to_what_budgets_need(
    m: int, n: int
) -> None:
    distances = np.linspace(0.05, 1.0, 39)
    sizes = np.full(len(distances), float(m)), np.full(len(distances), float(n))
    quick = kolmogorov.p_values(distances, *sizes, exact=False)
    exact = np.array([paths_outside(m, n, int(np.ceil(d * m * n - 1e-9))) for d in distances])
    needed = (exact < 0.05) & (exact > 1e-9)
    assert (quick[needed] >= exact[needed] * 2 / 3).all()
    assert quick[-1] > 0 or exact[-1] < 1e-9  # of three rows against three, nothing is sure
