"""How near a stream was to an alarm of late: a byte a point, so that 10,000 streams remember for a megabyte."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from streamd.model import Outcome, Severity, Verdict

POINTS = 120
EVERY_SECONDS = 2.0  # at most a point in so long: four minutes of a busy stream, longer of a slow one
THRESHOLD = 64  # the byte that means "as large as the threshold"; 255 is nearly four times that, or more


class Trace:
    """The largest statistic of a stream over its threshold, at the latest moments. Oldest first."""

    __slots__ = ("due", "points")

    def __init__(self) -> None:
        self.points = bytearray()
        self.due = 0.0

    @property
    def last(self) -> int:
        """The latest point; 0 where there is none."""
        return self.points[-1] if self.points else 0

    def add(self, outcomes: Iterable[Outcome], severities: Iterable[Severity], now: float) -> None:
        """Remember a batch's outcomes. Between two points only one that is loud is: all others cost nothing."""
        loud = [severity >= Severity.WARNING for severity in severities]
        if now < self.due and not any(loud):
            return
        point = _nearest(outcomes, loud)
        if point is None:
            return
        if now < self.due and self.points:  # a loud one in between raises the last point
            self.points[-1] = max(self.points[-1], point)
            return
        self.due = now + EVERY_SECONDS
        self.points.append(point)
        del self.points[:-POINTS]


def _nearest(outcomes: Iterable[Outcome], loud: Iterable[bool]) -> int | None:
    """The worst of the readings and of the loud verdicts; a verdict that is not loud may be large by chance."""
    ratios = []
    is_loud = iter(loud)
    for outcome in outcomes:
        if isinstance(outcome, Verdict):
            if next(is_loud):
                ratios.append(max(1.0, _ratio(outcome.effects, outcome.effect_threshold)))
        elif outcome.statistics.size:
            ratios.append(_ratio(outcome.statistics, outcome.threshold))
    known = [ratio for ratio in ratios if ratio >= 0.0]  # of NaN this is not true
    return min(255, round(THRESHOLD * min(max(known), 4.0))) if known else None


def _ratio(statistics: np.ndarray[tuple[int], np.dtype[np.float64]], threshold: float) -> float:
    largest = float(np.fmax.reduce(statistics))  # ignores NaN, without a warning where all are
    return largest / threshold if threshold > 0.0 else 0.0
