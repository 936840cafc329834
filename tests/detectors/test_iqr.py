"""`iqr`: rows outside the reference's fences, against numpy's quartiles and scipy's binomial test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from streamd.detectors.base import Reference
from streamd.detectors.iqr import IqrConfig
from streamd.detectors.shares import DOUBT
from streamd.model import FeatureBatch, Verdict
from streamd.table import FloatArray, Table


def detect(reference: FloatArray, window: FloatArray, **options: object) -> list[Verdict]:
    config = IqrConfig.model_validate(options)
    profile = config.profile(Reference(Table(len(reference), {"x": reference}), "", "batches"), None)
    return list(config.build("iqr", profile).update(FeatureBatch("s", 0, 7, Table(len(window), {"x": window}))))  # type: ignore[arg-type]


def loud(verdict: Verdict) -> bool:
    assert verdict.adjusted is not None
    return bool(((verdict.adjusted <= 0.001) & (verdict.effects > verdict.effect_threshold)).any())


def test_the_statistic_is_the_share_outside_tukeys_fences() -> None:
    rng = np.random.default_rng(1)
    reference, window = rng.normal(size=500), rng.normal(size=1000) * 1.5
    q1, q3 = np.percentile(reference, [25, 75])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    expected = sum(1 for value in window if value < low or value > high) / 1000
    assert detect(reference, window)[0].statistics == pytest.approx([expected], rel=1e-12)


def test_the_p_value_is_the_exact_binomial_at_the_references_upper_limit() -> None:
    rng = np.random.default_rng(2)
    reference, window = rng.normal(size=500), rng.normal(size=1000) * 1.5
    q1, q3 = np.percentile(reference, [25, 75])
    count = [int(np.sum((x < q1 - 1.5 * (q3 - q1)) | (x > q3 + 1.5 * (q3 - q1)))) for x in (reference, window)]
    limit = stats.binomtest(count[0], 500, 0.5, alternative="less").proportion_ci(1 - DOUBT, method="exact").high
    expected = stats.binomtest(count[1], 1000, limit, alternative="greater").pvalue + DOUBT
    assert detect(reference, window, dependence="none")[0].p_values == pytest.approx([expected], rel=1e-6)


def test_twice_the_spread_is_loud_and_the_same_spread_is_not() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=2000)
    assert loud(detect(reference, 2 * rng.normal(size=1000))[0])
    assert not loud(detect(reference, rng.normal(size=1000))[0])


def test_a_shift_is_named_by_its_side() -> None:
    rng = np.random.default_rng(4)
    reference = rng.normal(size=2000)
    assert detect(reference, rng.normal(size=1000) + 2)[0].directions == ("up",)
    assert detect(reference, rng.normal(size=1000) - 2)[0].directions == ("down",)


def test_a_sure_but_trifling_rise_is_not_loud() -> None:
    """From no row in 20,000 to eight in a thousand: not chance, but less than one in a hundred."""
    reference, window = np.tile([0.0, 1.0], 10_000), np.tile([0.0, 1.0], 500)
    window[::125] = 99.0
    [verdict] = detect(reference, window)
    assert verdict.adjusted is not None
    assert verdict.adjusted[0] < 0.001
    assert not loud(verdict)


def test_windows_do_not_overlap_and_carry_their_offsets() -> None:
    rng = np.random.default_rng(5)
    config = IqrConfig(window_rows=100)
    profile = config.profile(Reference(Table(500, {"x": rng.normal(size=500)}), "", "batches"), None)
    detector = config.build("iqr", profile)
    windows = []
    for offset in range(7):
        batch = FeatureBatch("s", 0, offset, Table(60, {"x": rng.normal(size=60)}))
        windows += [outcome.window for outcome in detector.update(batch)]  # type: ignore[union-attr]
    assert [(w.first_offset, w.last_offset, w.rows) for w in windows] == [
        (0, 1, 100),
        (1, 3, 100),
        (3, 4, 100),
        (5, 6, 100),
    ]


def test_missing_values_are_in_no_share_and_infinities_lie_outside() -> None:
    reference, window = np.arange(100.0), np.full(1000, 50.0)
    window[:500] = np.nan
    window[500:505] = np.inf
    assert detect(reference, window)[0].statistics == pytest.approx([0.01])
    [verdict] = detect(reference, np.full(1000, np.nan))
    assert np.isnan(verdict.statistics).all()


def test_a_constant_reference_is_judged_and_finite() -> None:
    [verdict] = detect(np.zeros(500), np.ones(1000))
    assert loud(verdict)
    assert np.isfinite(verdict.effects).all()


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.9, 0.97])
def test_healthy_autocorrelated_columns_are_never_loud(rho: float) -> None:
    rng = np.random.default_rng(6)
    values = lfilter([1], [1, -rho], rng.standard_t(5, size=(16, 62_500)), axis=1)[:, 500:]
    names = [f"c{i}" for i in range(16)]
    config = IqrConfig()
    table = Table(2000, dict(zip(names, values[:, :2000], strict=True)))
    detector = config.build("iqr", config.profile(Reference(table, "", "batches"), None))
    batch = FeatureBatch("s", 0, 0, Table(60_000, dict(zip(names, values[:, 2000:], strict=True))))
    verdicts = detector.update(batch)
    assert len(verdicts) == 60
    assert sum(loud(v) for v in verdicts) == 0  # type: ignore[arg-type]
