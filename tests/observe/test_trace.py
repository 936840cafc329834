"""How near a stream was to an alarm of late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from streamd.model import Severity
from streamd.observe.trace import EVERY_SECONDS, POINTS, THRESHOLD, Trace

Make = Callable[..., Any]


def test_a_point_is_the_worst_reading_over_its_threshold(reading: Make) -> None:
    trace = Trace()
    trace.add([reading("ks", value=0.1), reading("chi2", value=0.4)], [], 0.0)
    assert trace.last == 2 * THRESHOLD  # 0.4 over 0.2


def test_points_come_as_often_as_is_allowed_and_the_oldest_go(reading: Make) -> None:
    trace = Trace()
    for i in range(4 * POINTS):
        trace.add([reading(value=0.2)], [], i * EVERY_SECONDS / 2)
    assert len(trace.points) == POINTS
    short = Trace()
    for i in range(10):
        short.add([reading(value=0.2)], [], i * EVERY_SECONDS / 5)
    assert len(short.points) == 2


def test_a_loud_verdict_between_two_points_raises_the_last(reading: Make, verdict: Make) -> None:
    trace = Trace()
    trace.add([reading(value=0.02)], [], 0.0)
    trace.add([verdict(effect=0.4)], [Severity.WARNING], 0.1)
    trace.add([verdict(effect=0.3)], [Severity.WARNING], 0.2)
    assert list(trace.points) == [2 * THRESHOLD]


def test_a_verdict_that_is_not_loud_is_no_point_however_large(verdict: Make) -> None:
    trace = Trace()
    trace.add([verdict(effect=9.0)], [Severity.INFO], 0.0)
    assert trace.last == 0


def test_a_loud_verdict_is_at_its_threshold_at_least(verdict: Make) -> None:
    trace = Trace()
    trace.add([verdict(effect=0.0, effect_threshold=0.0)], [Severity.CRITICAL], 0.0)
    assert trace.last == THRESHOLD


def test_what_cannot_be_judged_is_no_point_and_what_is_huge_is_the_highest(reading: Make) -> None:
    trace = Trace()
    trace.add([reading(value=np.nan)], [], 0.0)
    assert not trace.points
    trace.add([reading(value=np.inf), reading(value=np.nan)], [], 10.0)
    assert list(trace.points) == [255]
