"""The level of a metric, held against numpy; and the rules on it, against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry import losses, noisy

from streamd.rules.first_max import FirstMaxConfig
from streamd.rules.level import RESIDUALS, SCALE_MIN, Level, median
from streamd.rules.level_drop import LevelDropConfig
from streamd.rules.loss_rise import LossRiseConfig
from streamd.rules.names import better, role_of
from streamd.rules.rolling import RollingConfig
from streamd.rules.spike import SpikeConfig

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=60))
def test_the_median_is_numpys(values: list[float]) -> None:
    assert median(values) == pytest.approx(float(np.median(values)), rel=1e-12, abs=1e-9)


@given(st.lists(finite, min_size=30, max_size=200))
def test_a_departure_is_that_of_a_brute_force_loop(values: list[float]) -> None:
    level = Level(25)
    residuals: list[float] = []
    for step, value in enumerate(values):
        past = values[max(0, step - 25) : step]
        if past:
            recent = np.array(residuals[-RESIDUALS:])
            residual = value - float(np.median(past))
            if len(recent) < SCALE_MIN:
                assert math.isnan(level.departure(value))
            else:
                centre = float(np.median(recent))
                scale = 1.4826 * float(np.median(np.abs(recent - centre)))
                expected = (residual - centre) / scale if scale else math.copysign(math.inf, residual - centre)
                if scale > 1e-6:
                    assert level.departure(value) == pytest.approx(expected, rel=1e-6, abs=1e-6)
            residuals.append(residual)
        level.learn(step, value)


def test_what_came_from_a_step_on_is_forgotten() -> None:
    level = Level(25)
    for step in range(40):
        level.learn(step, float(step))
    level.forget_from(30)
    assert (level.steps[0], level.steps[-1], level.known) == (15, 29, 15)


def test_without_a_usual_distance_only_what_is_beyond_a_past_of_one_sign_stands_out() -> None:
    for past, value, expected in (([2.0, 2.5], 2.7, False), ([2.0, 2.5], 2.8, True), ([-0.5, 0.5], 99.0, False)):
        level = Level(25)
        for step, known in enumerate(past):
            level.learn(step, known)
        assert level.beyond(value) is expected


def test_a_spike_is_told_at_its_third_step_and_a_single_step_never() -> None:
    values = noisy(80)
    for length in range(1, 6):
        said = losses(SpikeConfig().build(), values + [3.0] * length + values[:5])
        warned = [i for i, each in enumerate(said) if each is not None and each.signs and each.severity is None]
        assert warned == list(range(82, 80 + length))


def test_a_level_that_a_metric_left_for_good_becomes_the_new_one() -> None:
    said = losses(SpikeConfig().build(), noisy(80) + noisy(400, 5.0))
    assert said[100].signs
    assert not said[-1].signs


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_descent_is_neither_a_spike_nor_a_drop(sign: float) -> None:
    values = [sign * 5 + 6.0 * math.exp(-i / 50) + e for i, e in enumerate(noisy(600, 0.0, 0.02))]
    for config in (SpikeConfig(), LevelDropConfig(), LossRiseConfig()):
        assert not any(each and each.signs and each.severity is None for each in losses(config.build(), values))


def test_a_loss_that_rises_and_falls_back_is_no_rise() -> None:
    fallen = losses(LossRiseConfig().build(), [*noisy(60), 4.0, 3.6, 3.2, 2.9, 2.6, 2.5])
    assert not any(each and each.signs for each in fallen)
    stayed = losses(LossRiseConfig().build(), [*noisy(60), 4.0, 3.9, 4.0, 3.9, 4.0])
    assert stayed[-1].signs
    assert stayed[-1].first_step == 60


def test_a_loss_that_shot_up_and_stays_far_over_its_level_is_a_rise_however_high_it_had_been() -> None:
    """A network that has diverged: a moment of huge losses, and then it answers at random."""
    said = losses(LossRiseConfig().build(), [*noisy(60), 700.0, 90.0, 12.0, 12.5, 11.8, 12.1, 12.3])
    assert [bool(each and each.signs) for each in said[60:]] == [False] * 6 + [True]
    assert said[-1].finding == "loss (12.3) is 6.1 times its level for 7 steps"
    assert said[-1].first_step == 60


@given(st.lists(st.floats(0.1, 100.0), min_size=35, max_size=90))
def test_deviations_of_a_rolling_window_are_those_of_numpy(values: list[float]) -> None:
    said = losses(RollingConfig(window=30, deviations=3.0).build(), values)
    for i, value in enumerate(values):
        window = np.array(values[i - 30 : i]) if i >= 30 else None
        if window is None:
            assert said[i] is None
            continue
        deviation = float(window.std(ddof=1))
        if deviation > 1e-9:
            away = (value - float(window.mean())) / deviation
            if abs(away - 3.0) > 1e-6:
                assert bool(said[i].signs) == (away > 3.0)


def test_the_deviation_is_that_of_a_sample() -> None:
    window = noisy(30)
    mean, deviation = float(np.mean(window)), float(np.std(window, ddof=1))
    for away in (2.98, 3.02):
        said = losses(RollingConfig(window=30, deviations=3.0).build(), [*window, mean + away * deviation])
        assert bool(said[-1].signs) == (away > 3)


@given(st.lists(st.floats(0.1, 100.0), min_size=15, max_size=40))
def test_multiples_of_a_rolling_mean_are_those_of_numpy(values: list[float]) -> None:
    said = losses(RollingConfig(window=10, multiple=2.0).build(), values)
    for i in range(10, len(values)):
        ratio = values[i] / float(np.mean(values[i - 10 : i]))
        if abs(ratio - 2.0) > 1e-6:
            assert bool(said[i].signs) == (ratio > 2.0)


def test_ten_times_the_largest_of_the_first_hundred_is_out() -> None:
    said = losses(FirstMaxConfig().build(), [*np.linspace(9.0, 3.0, 100).tolist(), 89.9, 90.1])
    assert [bool(each and each.signs) for each in said[-2:]] == [False, True]


@pytest.mark.parametrize(
    ("name", "role", "way"),
    [
        ("loss", "loss", "lower"),
        ("train_loss", "loss", "lower"),
        ("lm loss", "loss", "lower"),
        ("train/loss", "loss", "lower"),
        ("eval_loss", "evaluation", "lower"),
        ("val_acc", "evaluation", "higher"),
        ("validation/perplexity", "evaluation", "lower"),
        ("test.auc", "evaluation", "higher"),
        ("grad_norm", "grad_norm", None),
        ("train/grad-norm", "grad_norm", None),
        ("gradient_norm", "grad_norm", None),
        ("loss_scale", "other", None),
        ("learning_rate", "learning_rate", None),
        ("lr-AdamW", "learning_rate", None),
        ("evaluate_seconds", "other", None),
    ],
)
def test_names_tell_what_a_metric_is(name: str, role: str, way: str | None) -> None:
    assert (role_of(name), better(name)) == (role, way)
