"""What every rule promises: each Config of the registry goes through all of these."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, RuleConfig
from streamd.rules.registry import RULE_TYPES
from streamd.state import pack, unpack

NAMES = ("loss", "val/loss", "val/f1", "grad_norm", "lr", "gpu_util_percent", "gpu_util_percent/0", "gpu_mem_percent")
MORE = ("gpu_util_percent/1", "cpu_percent", "step_seconds", "data_wait_seconds", "other/loss", "reward")
STATISTICS = ("grad_mean_abs", "zero_fraction", "nonfinite", "update_ratio", "variance", "dead_fraction", "samples")
TENSORS = ("encoder.0", "class/cat", "class/dog", "confusion/cat", "confusion/dog")
ODD = (0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324)

every_rule = pytest.mark.parametrize("config_type", RULE_TYPES.values(), ids=lambda config_type: config_type.__name__)


def points(count: int, seed: int = 0, first: int = 0, odd: float = 0.05) -> list[TelemetryPoint]:
    """A run with everything that a rule may look at; now and then a number that is none."""
    rng = np.random.default_rng([seed, first])

    def values(names: Iterable[str]) -> dict[str, float]:
        drawn = {name: float(rng.choice(ODD) if rng.random() < odd else rng.lognormal(0.0, 1.0)) for name in names}
        return {name: value for name, value in drawn.items() if rng.random() < 0.9}

    return [
        TelemetryPoint(
            "bert", 1000 * i, i, None, values((*NAMES, *MORE)), {tensor: values(STATISTICS) for tensor in TENSORS}
        )
        for i in range(first, first + count)
    ]


def said(judgements: Iterable[Judgement | None]) -> list[str]:
    return [repr(judgement) for judgement in judgements]


@every_rule
def test_what_it_says_is_whole(config_type: type[RuleConfig]) -> None:
    rule = config_type().build()
    for point in points(150):
        judgement = rule.update(point)
        if judgement is None or not judgement.signs:
            continue
        assert judgement.finding
        assert all(sign.name and not math.isnan(sign.effect) for sign in judgement.signs)
        assert all(sign.effect > judgement.threshold for sign in judgement.signs), judgement
        assert judgement.first_step is None or 0 <= judgement.first_step <= point.step
        assert [s.effect for s in judgement.signs] == sorted((s.effect for s in judgement.signs), reverse=True)


@every_rule
def test_a_restart_anywhere_changes_nothing(config_type: type[RuleConfig]) -> None:
    run = points(90)
    whole = config_type().build()
    expected = said(whole.update(point) for point in run)
    for cut in (1, 30, 61):
        before, after = config_type().build(), config_type().build()
        for point in run[:cut]:
            before.update(point)
        after.restore(unpack(pack(before.snapshot())))
        assert said(after.update(point) for point in run[cut:]) == expected[cut:]
        assert pack(after.snapshot()) == pack(whole.snapshot())


@every_rule
def test_a_snapshot_shares_no_memory_with_the_rule(config_type: type[RuleConfig]) -> None:
    rule = config_type().build()
    for point in points(40):
        rule.update(point)
    saved = rule.snapshot()
    frozen = pack(saved)
    for point in points(40, first=40):
        rule.update(point)
    rule.resume(10)
    assert pack(saved) == frozen


@every_rule
def test_its_state_stops_growing(config_type: type[RuleConfig]) -> None:
    rule = config_type().build()
    sizes = []
    for first in (0, 1000, 2000):
        for point in points(1000, first=first, odd=0.0):
            rule.update(point)
        sizes.append(rule.nbytes)
    assert sizes[2] <= 1.1 * sizes[1] + 200
    assert sizes[2] < 200_000


@every_rule
def test_its_input_is_not_changed(config_type: type[RuleConfig]) -> None:
    rule = config_type().build()
    run = points(60, odd=0.0)
    known = copy.deepcopy(run)
    for point in run:
        rule.update(point)
    assert run == known


@every_rule
def test_nothing_to_judge_is_not_calm(config_type: type[RuleConfig]) -> None:
    rule = config_type().build()
    assert rule.update(TelemetryPoint("bert", 0, 0, None, {"unknown": 1.0}, {})) is None or config_type.__name__ in (
        "PoorWeightInitializationConfig",  # which looks at a run's first steps, whatever they bring
    )


@every_rule
def test_a_resume_at_step_zero_leaves_it_able_to_judge(config_type: type[RuleConfig]) -> None:
    rule = config_type().build()
    for point in points(60):
        rule.update(point)
    rule.resume(0)
    for point in points(60):
        rule.update(point)


metrics = st.dictionaries(st.sampled_from((*NAMES, *MORE)), st.floats(allow_nan=True, allow_infinity=True), max_size=6)
tensors = st.dictionaries(
    st.sampled_from(TENSORS), st.dictionaries(st.sampled_from(STATISTICS), st.floats(), max_size=4), max_size=3
)
steps = st.lists(st.tuples(metrics, tensors), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_no_numbers_make_a_rule_raise(run: list[tuple[dict[str, float], dict[str, dict[str, float]]]]) -> None:
    rules: list[Any] = [config_type().build() for config_type in RULE_TYPES.values()]
    for step, (of_metrics, of_tensors) in enumerate(run * 3):
        for rule in rules:
            rule.update(TelemetryPoint("bert", step, step, None, of_metrics, of_tensors))
    for rule in rules:
        unpack(pack(rule.snapshot()))
