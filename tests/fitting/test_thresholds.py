"""Thresholds: what each method means, how sure it is, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy.stats import median_abs_deviation
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score, roc_curve

from streamd.fitting.base import FitError
from streamd.fitting.intervals import quantile_interval
from streamd.fitting.thresholds import (
    AnyThreshold,
    BestF1Threshold,
    CostThreshold,
    EvtThreshold,
    MadThreshold,
    PrecisionThreshold,
    QuantileThreshold,
    RecallThreshold,
    SigmaThreshold,
    Threshold,
    YoudenThreshold,
    choose,
)

NORMAL = np.random.default_rng(0).exponential(size=3_000)
labelled = np.round(np.concatenate([NORMAL[:1_000], NORMAL[:100] + 3.0]), 2)  # rounded: there are ties
LABELS = np.arange(1_100) >= 1_000
ALL = [QuantileThreshold(), SigmaThreshold(), MadThreshold(), EvtThreshold()]
OF_LABELLED = [
    BestF1Threshold(),
    RecallThreshold(recall=0.8),
    PrecisionThreshold(precision=0.4),
    CostThreshold(),
    YoudenThreshold(),
]


def test_the_methods_without_labels_are_what_they_say():
    assert choose(QuantileThreshold(level=0.9), NORMAL).value == np.quantile(NORMAL, 0.9)
    assert choose(SigmaThreshold(), NORMAL).value == pytest.approx(NORMAL.mean() + 3 * NORMAL.std(ddof=1))
    spread = median_abs_deviation(NORMAL, scale="normal")
    assert choose(MadThreshold(deviations=4), NORMAL).value == pytest.approx(np.median(NORMAL) + 4 * spread)
    assert choose(EvtThreshold(rate=1e-3), NORMAL).value == pytest.approx(-np.log(1e-3), rel=0.15)


def test_the_best_f1_is_that_of_scikit_learn():
    precision, recall, _ = precision_recall_curve(LABELS, labelled)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    found = choose(BestF1Threshold(), labelled, LABELS)
    assert f1_score(LABELS, found.value < labelled) == pytest.approx(best)


def test_a_chosen_recall_is_reached_and_no_higher_threshold_reaches_it():
    value = choose(RecallThreshold(recall=0.8), labelled, LABELS).value
    higher = labelled[value < labelled].min()
    assert recall_score(LABELS, value < labelled) >= 0.8
    assert recall_score(LABELS, higher < labelled) < 0.8


def test_a_chosen_precision_is_reached_and_no_lower_threshold_reaches_it():
    value = choose(PrecisionThreshold(precision=0.4), labelled, LABELS).value
    assert precision_score(LABELS, value < labelled) >= 0.4
    for lower in np.unique(labelled[value > labelled]):
        assert precision_score(LABELS, lower <= labelled) < 0.4


def test_no_threshold_costs_less_than_the_one_of_least_cost():
    def cost(value: float) -> float:
        return float(np.sum(~LABELS & (value < labelled)) + 25 * np.sum(LABELS & (value >= labelled)))

    found = choose(CostThreshold(miss_cost=25), labelled, LABELS).value
    assert cost(found) == min(cost(value) for value in [-1.0, *np.unique(labelled)])


def test_youdens_point_is_that_of_scikit_learns_curve():
    rates, recalls, _ = roc_curve(LABELS, labelled)
    value = choose(YoudenThreshold(), labelled, LABELS).value
    alarms = value < labelled
    assert alarms[LABELS].mean() - alarms[~LABELS].mean() == pytest.approx((recalls - rates).max())


@pytest.mark.parametrize("settings", [*ALL, *OF_LABELLED], ids=lambda s: s.method)
def test_every_threshold_has_an_interval_around_it_and_a_sentence_and_is_json(settings):
    found = choose(settings, labelled, LABELS)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    assert found.method == settings.method
    assert f"between {found.low:.4g} and {found.high:.4g} at 95 % confidence" in found.sentence
    assert Threshold.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert choose(settings, labelled, LABELS) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "truth"),
    [
        (QuantileThreshold(level=0.95), -np.log(0.05)),
        (SigmaThreshold(deviations=2.0), 3.0),
        (MadThreshold(deviations=3.0), np.log(2) + 3 * 1.4826022 * 0.4812118),
        (EvtThreshold(rate=1e-3), -np.log(1e-3)),
    ],
    ids=lambda value: getattr(value, "method", ""),
)
def test_of_100_samples_about_95_intervals_hold_the_truth(settings, truth):
    generator = np.random.default_rng(8)
    held = 0
    for _ in range(100):
        found = choose(settings, generator.exponential(size=600))
        assert found.low is not None
        held += found.low <= truth and (found.high is None or truth <= found.high)
    assert held >= 86  # of a binomial with 0.93, one in a hundred is lower


def test_the_order_statistics_interval_is_the_binomials():
    low, high = quantile_interval(np.arange(1.0, 101.0), 0.5)
    assert (low, high) == (40.0, 61.0)  # tables of the sign test: the 40th and the 61st of 100


def test_rows_that_resemble_each_other_widen_the_interval():
    generator = np.random.default_rng(0)
    independent = generator.normal(size=4_000)
    walking = np.empty(4_000)
    walking[0] = 0.0
    for i in range(1, 4_000):
        walking[i] = 0.95 * walking[i - 1] + np.sqrt(1 - 0.95**2) * independent[i]

    def width(scores: np.ndarray) -> float:
        found = choose(QuantileThreshold(), scores)
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    assert width(walking) > 3 * width(independent)


def test_a_quantile_that_few_rows_support_has_no_upper_end_and_says_so():
    found = choose(QuantileThreshold(), NORMAL[:30])
    assert found.high is None
    assert found.low is not None
    assert "so many rows give it no upper end" in found.sentence


def test_a_tail_beyond_all_rows_says_so():
    assert "lies beyond all of them" in choose(EvtThreshold(rate=1e-4), NORMAL).sentence


@pytest.mark.parametrize(
    ("settings", "scores", "labels", "sentence"),
    [
        (EvtThreshold(rate=1e-6), NORMAL[:500], None, "500 scores say nothing of one row in 1,000,000"),
        (QuantileThreshold(level=0.999), NORMAL[:100], None, "it takes 1000 or more"),
        (SigmaThreshold(), NORMAL[:7], None, "7 normal scores are too few"),
        (QuantileThreshold(), np.full(50, np.nan), None, "0 normal scores are too few"),
        (EvtThreshold(), np.ones(2_000), None, "a tail needs 20 different scores"),
        (BestF1Threshold(), NORMAL, None, "needs labels"),
        (BestF1Threshold(), NORMAL, np.zeros(3_000, bool), "all 3000 labelled rows are normal"),
        (YoudenThreshold(), NORMAL, np.ones(3_000, bool), "all 3000 labelled rows are abnormal"),
        (PrecisionThreshold(precision=0.999), -labelled, LABELS, "no threshold has a precision of 0.999"),
    ],
)
def test_what_the_rows_cannot_give_is_refused_with_a_sentence(settings, scores, labels, sentence):
    with pytest.raises(FitError, match=sentence):
        choose(settings, scores, labels)


def test_with_a_handful_of_abnormal_rows_the_threshold_has_no_interval_and_says_why():
    found = choose(BestF1Threshold(), labelled[:1_004], LABELS[:1_004])
    assert (found.low, found.high) == (None, None)
    assert "4 of a kind are too few" in found.sentence


def test_rows_without_a_score_are_left_out_and_told():
    found = choose(QuantileThreshold(), np.append(NORMAL, [np.nan, np.inf]))
    assert found.value == np.quantile(NORMAL, 0.95)
    assert "2 rows without a finite score were left out" in found.sentence


def test_what_needs_no_labels_is_chosen_from_the_normal_rows():
    assert choose(QuantileThreshold(), labelled, LABELS).value == np.quantile(labelled[~LABELS], 0.95)


def test_constant_scores_have_a_threshold_at_them():
    assert choose(QuantileThreshold(), np.ones(100)).value == 1.0


def test_a_drifting_threshold_stands_where_the_last_rows_are():
    drifting = NORMAL + np.linspace(0, 50, 3_000)
    found = choose(EvtThreshold(rate=1e-3, depth_rows=100), drifting)
    assert found.value > 50
    assert found.tail is not None
    assert found.tail.depth_rows == 100


def test_the_settings_are_told_apart_by_their_method():
    adapter = TypeAdapter(AnyThreshold)
    assert adapter.validate_python({"method": "evt", "rate": "1e-4"}) == EvtThreshold(rate=1e-4)
    with pytest.raises(ValidationError, match="best_f1"):
        adapter.validate_python({"method": "bestf1"})
