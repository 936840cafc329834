"""SPOT: its false alarms are those that were asked for, and cutting rows into batches changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import expon, lognorm, norm, t

from streamd.scorers.spot import Spot

LAWS = {"normal": norm(), "exponential": expon(), "lognormal": lognorm(1.0), "t5": t(5)}


def scores(law: str, rows: int, seed: int) -> np.ndarray:
    return np.asarray(LAWS[law].rvs(size=rows, random_state=seed))


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("rate", "factor"), [(1e-2, 1.3), (1e-3, 2.0), (1e-4, 4.0)])
def test_a_million_rows_alarm_as_often_as_was_asked_within_a_factor(law, rate, factor):
    # 10,000 rows of calibration: at 1e-4 the threshold lies beyond all but one of them.
    for seed in range(2):
        alarms, _ = Spot(scores(law, 10_000, seed), rate).judge(scores(law, 1_000_000, 100 + seed))
        assert rate / factor < alarms.mean() < rate * factor


@pytest.mark.slow
def test_learning_does_not_run_away():
    alarms, _ = Spot(scores("normal", 10_000, 0), 1e-3).judge(scores("normal", 1_000_000, 1))
    quarters = alarms.reshape(4, -1).mean(axis=1)
    assert quarters[-1] < 1.5 * quarters[0]


def test_the_batches_do_not_matter():
    rows = scores("lognormal", 20_000, 2)
    for depth in (0, 50):
        whole, parts = (Spot(scores("lognormal", 5_000, 1), 1e-3, depth) for _ in range(2))
        at_once = whole.judge(rows)
        pieces = [parts.judge(piece) for piece in np.split(rows, [1, 7, 300, 301, 9_999])]
        for i in range(2):
            np.testing.assert_array_equal(at_once[i], np.concatenate([piece[i] for piece in pieces]))
        assert whole.threshold == parts.threshold


def test_a_restart_anywhere_changes_nothing():
    rows = scores("t5", 12_000, 2)
    calibration = scores("t5", 5_000, 1)
    for depth in (0, 50):
        unbroken, before, after = (Spot(calibration, 2e-3, depth) for _ in range(3))
        expected = unbroken.judge(rows)
        before.judge(rows[:7_001])
        snapshot = before.snapshot()
        before.judge(rows[:500])  # a snapshot shares no memory
        after.restore(snapshot)
        np.testing.assert_array_equal(after.judge(rows[7_001:])[1], expected[1][7_001:])
        assert after.nbytes == before.nbytes


def test_what_alarms_is_not_learned():
    rows = scores("normal", 5_000, 1)
    spiked = np.insert(rows, np.arange(0, 5_000, 50), 1e6)
    alone, beside = (Spot(scores("normal", 5_000, 0), 1e-3) for _ in range(2))
    alone.judge(rows)
    alarms, _ = beside.judge(spiked)
    assert alarms[spiked == 1e6].all()
    assert beside.threshold == alone.threshold


def test_rows_without_a_finite_score_teach_nothing():
    spot = Spot(scores("normal", 5_000, 0), 1e-3, 20)
    before = spot.snapshot()
    alarms, _ = spot.judge(np.array([np.nan, -np.inf, np.inf]))
    assert alarms.tolist() == [False, False, True]
    for name, value in spot.snapshot().items():
        np.testing.assert_array_equal(value, before[name])


def test_it_learns_that_the_tail_grew_heavier():
    spot = Spot(scores("normal", 5_000, 0), 1e-3)
    before = spot.threshold
    spot.judge(1.15 * scores("normal", 100_000, 1))
    assert spot.threshold > before


def test_a_drift_that_moves_the_mean_pages_without_the_moving_average_and_not_with_it():
    noise = np.random.default_rng(0).normal(size=60_000)
    drifting = noise + np.arange(60_000) * 2e-4  # 12 standard deviations in all
    plain, levelled = Spot(drifting[:10_000], 1e-3), Spot(drifting[:10_000], 1e-3, depth_rows=200)
    assert plain.judge(drifting[10_000:])[0].mean() > 0.5
    assert levelled.judge(drifting[10_000:])[0].mean() < 3e-3


def test_the_moving_average_is_that_of_the_last_rows_that_did_not_alarm():
    rows = np.random.default_rng(0).normal(size=3_000)
    spot = Spot(rows[:1_000], 1e-2, depth_rows=30)
    alarms, thresholds = spot.judge(rows[1_000:1_100])
    past = list(rows[:1_000])
    for row, alarm, threshold in zip(rows[1_000:1_100], alarms, thresholds, strict=True):
        assert threshold - np.mean(past[-30:]) == pytest.approx(spot.tail.threshold, abs=1e-9)
        if not alarm:
            past.append(row)
