"""A run that takes long before its first step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import CALM, Judgement, Rule, RuleConfig, Sign, loudest


class MaxInitializationTimeConfig(RuleConfig):
    """Options of `max_initialization_time` (Debugger's MaxInitializationTime): event time from a run's first point to
    its first later step, or what the job itself sends as `initialization_seconds`.

    >>> rule = MaxInitializationTimeConfig().build()
    >>> points = [TelemetryPoint("bert", 1_500_000 * i, i, None, {"loss": 1.0}, {}) for i in range(2)]
    >>> [rule.update(point) for point in points][-1].finding
    'initialization_seconds (1500) before the first step'
    """

    type: Literal["max_initialization_time"] = "max_initialization_time"

    threshold: float = Field(default=20.0, gt=0)
    """Minutes."""

    def build(self) -> MaxInitializationTime:
        return MaxInitializationTime(self)


class MaxInitializationTime(Rule):
    remembered = ("first_step", "began_ms", "judged")

    def __init__(self, config: MaxInitializationTimeConfig) -> None:
        self._config = config
        self.first_step, self.began_ms, self.judged = -1, 0, False

    def update(self, point: TelemetryPoint) -> Judgement | None:
        if self.judged:
            return CALM
        if self.first_step < 0:
            self.first_step, self.began_ms = point.step, point.event_time_ms
        seconds = point.metrics.get("initialization_seconds")
        if seconds is None:
            if point.step == self.first_step:
                return None
            seconds = max(0, point.event_time_ms - self.began_ms) / 1000
        self.judged = True
        limit = 60 * self._config.threshold
        signs = [Sign("initialization_seconds", seconds, seconds / limit)] if seconds > limit else []
        return loudest(signs, True, "before the first step", threshold=1.0)
