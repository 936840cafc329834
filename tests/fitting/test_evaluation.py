"""Evaluations against scikit-learn, and what they say where a figure is not defined."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from streamd.fitting.base import FitError
from streamd.fitting.curves import count_over
from streamd.fitting.evaluation import CURVE_POINTS, evaluate

GENERATOR = np.random.default_rng(0)
some = np.round(np.concatenate([GENERATOR.normal(size=2_000), GENERATOR.normal(1.5, 1, 150)]), 1)  # ties
LABELS = np.arange(2_150) >= 2_000


def test_the_figures_are_those_of_scikit_learn():
    found, alarms = evaluate(some, LABELS, 1.2), some > 1.2
    assert found.auroc.value == pytest.approx(roc_auc_score(LABELS, some))
    assert found.average_precision.value == pytest.approx(average_precision_score(LABELS, some))
    assert found.at.precision.value == pytest.approx(precision_score(LABELS, alarms))
    assert found.at.recall.value == pytest.approx(recall_score(LABELS, alarms))
    assert found.at.f1 == pytest.approx(f1_score(LABELS, alarms))
    counted = confusion_matrix(LABELS, alarms).ravel().tolist()
    assert [found.at.quiet, found.at.false_alarms, found.at.missed, found.at.caught] == counted


def test_thresholds_give_the_counts_that_belong_to_them():
    counts = count_over(some, LABELS)
    for threshold, caught, false in zip(counts.thresholds, counts.caught, counts.false, strict=True):
        assert (caught, false) == (np.sum(LABELS & (threshold < some)), np.sum(~LABELS & (threshold < some)))


def test_neighbours_without_a_number_between_them_and_infinities_are_told_apart():
    scores = np.array([1.0, np.nextafter(1.0, 2.0), np.inf, -np.inf])
    counts = count_over(scores, np.array([False, True, True, False]))
    assert counts.caught.tolist() == [0, 1, 2, 2, 2]
    assert [int(np.sum(scores > threshold)) for threshold in counts.thresholds[:4]] == [0, 1, 2, 3]


def test_other_thresholds_do_what_they_are_named_for():
    by_name = {at.what: at for at in evaluate(some, LABELS, 1.2).others}
    assert by_name["1 % false alarms"].false_alarm_rate.value <= 0.01
    assert by_name["90 % recall"].recall.value >= 0.9
    assert by_name["the best F1"].f1 == max(at.f1 for at in by_name.values())


def test_the_aurocs_interval_is_delongs():
    over = (some[LABELS][:, None] > some[~LABELS]) + 0.5 * (some[LABELS][:, None] == some[~LABELS])
    by_abnormal, by_normal = over.mean(axis=1), over.mean(axis=0)
    deviation = np.sqrt(by_abnormal.var(ddof=1) / 150 + by_normal.var(ddof=1) / 2_000)
    found = evaluate(some, LABELS, 1.2).auroc
    assert (found.low, found.high) == pytest.approx((over.mean() - 1.96 * deviation, over.mean() + 1.96 * deviation))


@pytest.mark.slow
def test_of_200_samples_about_95_in_a_hundred_auroc_intervals_hold_the_truth():
    truth, held = 0.8556, 0  # Φ(1.5 / √2)
    generator = np.random.default_rng(4)
    for _ in range(200):
        scores = np.concatenate([generator.normal(size=150), generator.normal(1.5, 1, 60)])
        auroc = evaluate(scores, np.arange(210) >= 150, 0.0).auroc
        held += auroc.low <= truth <= auroc.high
    assert 178 <= held <= 200


def test_labels_of_one_kind_leave_figures_undefined_and_say_so():
    found = evaluate(some, np.zeros(2_150, bool), 1.2)
    assert found.auroc.value is None
    assert found.average_precision.value is None
    assert found.at.recall.value is None
    assert found.at.f1 is None
    assert found.at.false_alarm_rate.value == pytest.approx(np.mean(some > 1.2))
    assert found.roc == ()
    assert found.notes[0].startswith("No row is labelled abnormal")
    assert evaluate(some, np.ones(2_150, bool), 1.2).notes[0].startswith("No row is labelled normal")


def test_rows_without_a_score_are_left_out_and_told():
    scores = some.copy()
    scores[:7] = np.nan
    found = evaluate(scores, LABELS, 1.2)
    assert (found.rows, found.unscored) == (2_143, 7)
    assert found.auroc.value == pytest.approx(roc_auc_score(LABELS[7:], some[7:]))
    assert any("7 rows have no score" in note for note in found.notes)


def test_without_any_score_there_is_nothing_to_evaluate():
    with pytest.raises(FitError, match="none of 2 labelled rows has a score"):
        evaluate(np.full(2, np.nan), np.array([True, False]), 0.0)


def test_a_threshold_that_nothing_reaches_has_a_recall_of_zero_and_no_precision():
    at = evaluate(some, LABELS, math.inf).at
    assert (at.recall.value, at.precision.value, at.f1) == (0.0, None, 0.0)


def test_curves_are_thinned_to_what_a_picture_can_show_and_keep_their_ends_and_area():
    scores = np.concatenate([GENERATOR.normal(size=30_000), GENERATOR.normal(1, 1, 3_000)])
    found = evaluate(scores, np.arange(33_000) >= 30_000, 0.0)
    assert len(found.roc) <= CURVE_POINTS
    assert (found.roc[0], found.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    x, y = np.array(found.roc).T
    assert np.trapezoid(y, x) == pytest.approx(found.auroc.value, abs=1e-3)


def test_every_row_is_in_the_histogram_whatever_its_score():
    scores = np.concatenate([some[:-2], [1e9, np.inf]])
    histogram = evaluate(scores, LABELS, 1.2).histogram
    assert (sum(histogram.normal), sum(histogram.abnormal)) == (2_000, 150)


def test_all_of_it_is_json():
    told = json.loads(json.dumps(evaluate(some, LABELS, 1.2).to_json()))
    assert told["at"]["caught"] + told["at"]["missed"] == 150
