"""What a healthy past says of thresholds and of alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from streamd.calibration import Advice, Calibration, advise, advised, expected, overrides, poisson_range, threshold_path
from streamd.config import Config
from streamd.engine_settings import StreamSettings
from streamd.model import BatchJudged, Kind, Severity, Verdict, Window

DAY_MS = 86_400_000
SETTINGS = Config().for_stream("s")


def judged(place: int, effect: float, severity: Severity = Severity.NONE, **more: Any) -> BatchJudged:
    verdict = Verdict(
        **{
            "detector": "ks",
            "test": "ks_2samp",
            "kind": Kind.FEATURES,
            "columns": ("a", "b"),
            "statistics": np.array([effect, np.nan]),
            "p_values": np.array([1e-9, np.nan]),
            "adjusted": np.array([1e-9, np.nan]),
            "effects": np.array([effect, np.nan]),
            "effect_name": "ks_distance",
            "effect_threshold": 0.2,
            "directions": ("up", "up"),
            "window": Window(place, place, 1000),
            "finding": "",
            **more,
        }
    )
    return BatchJudged("s", place * DAY_MS // 10, 1000, (verdict,), (severity,))


def past_of(effects: Any, opened: int = 0) -> Calibration:
    calibration = Calibration()
    for place, effect in enumerate(effects):
        loud = Severity.WARNING if effect > 0.2 else Severity.NONE
        calibration.observe([judged(place, float(effect), loud)], 1e-3)
    calibration.pasts["s"].judges["ks/features/ks_2samp"].opened = opened
    return calibration


def advice_of(calibration: Calibration, settings: StreamSettings = SETTINGS) -> Advice | str | None:
    past = calibration.pasts["s"]
    return advise(past, past.judges["ks/features/ks_2samp"], settings)


def test_judgements_are_counted_by_column_and_what_was_not_judged_is_not() -> None:
    (judge,) = past_of([0.1, 0.3, 0.05]).pasts["s"].judges.values()
    assert (len(judge.effects), judge.loud, list(judge.columns)) == (3, 1, ["a"])
    assert (judge.columns["a"].judged, judge.columns["a"].loud, judge.columns["a"].largest) == (3, 1, 0.3)


def test_what_is_expected_is_the_share_of_the_budget_in_the_time_of_the_past() -> None:
    past = past_of(np.full(301, 0.1)).pasts["s"]  # 30 days
    (judge,) = past.judges.values()
    judges = sum(config.judges for config in SETTINGS.detectors.values())
    assert expected(past, judge, SETTINGS) == pytest.approx((1 + 1 / 720) / judges)


@pytest.mark.parametrize("mean", [0.1, 0.5, 3.0, 40.0])
def test_the_range_is_the_middle_95_percent_of_poisson(mean: float) -> None:
    low, high = poisson_range(mean)
    assert stats.poisson.cdf(high, mean) >= 0.975 > stats.poisson.cdf(high - 1, mean)
    assert low == 0 or stats.poisson.cdf(low - 1, mean) < 0.025


def test_a_threshold_far_over_all_healthy_effects_is_too_loose_and_the_offer_holds() -> None:
    """The effects' own distribution is the oracle: the offer is over its quantile, and not far over."""
    effects = stats.halfnorm(scale=0.02).rvs(2000, random_state=0)
    advice = advice_of(past_of(effects))
    assert isinstance(advice, Advice)
    assert (advice.word, advice.path) == ("too loose", ("effect_threshold",))
    exact = stats.halfnorm(scale=0.02).ppf(1 - advice.rate)
    low, high = advice.interval
    assert low is not None
    assert high is not None
    assert low < advice.estimate < high <= advice.value
    assert exact == pytest.approx(advice.estimate, rel=0.15)
    assert 0.95 * exact < advice.value < 1.5 * exact
    assert advice.rate >= 1 / len(effects)  # no rarer than once in the past


def test_a_threshold_that_alarms_too_often_is_too_tight() -> None:
    effects = stats.halfnorm(scale=0.08).rvs(2000, random_state=0)
    advice = advice_of(past_of(effects, opened=9))
    assert isinstance(advice, Advice)
    assert (advice.word, advice.value > 0.25) == ("too tight", True)


def test_a_past_too_short_for_a_tail_gives_no_threshold_and_says_so_where_one_is_needed() -> None:
    assert advice_of(past_of(np.linspace(0.01, 0.02, 30))) is None
    told = advice_of(past_of(np.linspace(0.1, 0.3, 30), opened=9))
    assert isinstance(told, str)
    assert "30 judgements say as much as" in told
    assert "50 are needed" in told


def both_kinds(features: float, predictions: float) -> Calibration:
    """`ks` of features and of predictions, whose healthy effects are that large."""
    calibration, rng = Calibration(), np.random.default_rng(0)
    for place, (one, other) in enumerate(np.abs(rng.normal(size=(2000, 2)))):
        calibration.observe([judged(place, features * one)], 1e-3)
        calibration.observe([judged(place, predictions * other, kind=Kind.PREDICTIONS)], 1e-3)
    return calibration


def test_a_threshold_that_two_judges_share_fits_both() -> None:
    """The larger offer, whichever comes first; none where one of them needs what there is."""
    for features, predictions in ((0.01, 0.03), (0.03, 0.01)):
        past = both_kinds(features, predictions).pasts["s"]
        ([advice], troubles) = advised(past, SETTINGS)
        assert troubles == ()
        assert advice.value > max(max(judge.effects) for judge in past.judges.values()) * 0.8
    assert advised(both_kinds(0.01, 0.06).pasts["s"], SETTINGS) == ((), ())


def test_each_test_of_a_detector_has_its_own_threshold() -> None:
    detectors = SETTINGS.detectors
    assert threshold_path(detectors["chi2"], "chi2") == ("effect_threshold",)
    assert threshold_path(detectors["chi2"], "new_category") == ("new_effect_threshold",)
    assert threshold_path(detectors["entropy"], "t") == ("past_effect_threshold",)
    assert threshold_path(detectors["entropy"], "ks_2samp") == ("judge", "effect_threshold")
    assert threshold_path(detectors["zscore"], "t") == ("effect_threshold",)
    assert threshold_path(detectors["quality"], "binomial") is None


def test_a_rule_without_p_values_is_promised_nothing() -> None:
    calibration = Calibration()
    calibration.observe([judged(0, 0.3, adjusted=None, p_values=None)], 1e-3)
    past = calibration.pasts["s"]
    (judge,) = past.judges.values()
    assert expected(past, judge, SETTINGS) is None
    assert advise(past, judge, SETTINGS) is None


def test_overrides_are_a_rule_that_the_configuration_accepts_for_that_stream_alone() -> None:
    both = [
        Advice("entropy", "ks_2samp", "too loose", ("judge", "effect_threshold"), 0.2, 0.1, 0.09, (0.08, 0.1), 1e-3),
        Advice("entropy", "t", "too loose", ("past_effect_threshold",), 0.5, 0.3, 0.2, (0.1, 0.3), 1e-3),
    ]
    config = Config.model_validate({"streams": [overrides("fraud/[7]", both)]})
    entropy: Any = config.for_stream("fraud/[7]").detectors["entropy"]
    assert (entropy.judge.effect_threshold, entropy.past_effect_threshold, entropy.judge.window_rows) == (
        0.1,
        0.3,
        1000,
    )
    assert config.for_stream("fraud/7").detectors["entropy"] == Config().for_stream("x").detectors["entropy"]
