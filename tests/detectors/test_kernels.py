"""The compiled loops, against numpy and scipy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstwo

from streamd.detectors import kernels
from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.detectors.kernels_dependence import category_time
from streamd.detectors.kernels_tails import kolmogorov_tail, paths_outside
from streamd.detectors.kolmogorov import _needs_scipy
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


@pytest.mark.parametrize("n", [20, 141, 667, 5000])
def test_the_tail_is_scipys_kstwo_to_twelve_digits_wherever_it_is_used_for_the_textbook_test(n: int) -> None:
    rng = np.random.default_rng(n)
    distances = [d for d in np.exp(rng.uniform(-1, 2, 60)) / np.sqrt(n) if d < 1 and not _needs_scipy(d, n)]
    assert len(distances) > 10
    ours = [kolmogorov_tail(n, d) for d in distances]
    np.testing.assert_allclose(ours, kstwo.sf(distances, n), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20, 50, 140])
def test_the_quick_tail_is_near_kstwo_for_small_samples_and_nearest_where_it_matters(n: int) -> None:
    distances = np.linspace(0.001, 0.999, 400)
    error = np.abs([kolmogorov_tail(n, d) for d in distances] - kstwo.sf(distances, n))
    assert error.max() < (0.05 if n < 10 else 0.002)
    assert error[kstwo.sf(distances, n) < 0.05].max() < 0.0003


def test_the_tail_is_one_at_zero_and_zero_at_one() -> None:
    assert kolmogorov_tail(100, 0.0) == 1.0
    assert kolmogorov_tail(100, 1.0) == 0.0


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
    for loop in (kernels.push, kernels.distances, kernels.centred_ranks, kernels.count, paths_outside):
        assert not loop._can_compile
