"""A loss far over the largest of the run's first steps (Megatron's check for a spike)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class FirstMaxConfig(RuleConfig):
    """Options of `first_max`.

    >>> rule = FirstMaxConfig(points=2).build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"loss": x}, {}) for i, x in enumerate((8.0, 9.0, 91.0))]
    >>> [rule.update(point) for point in points][-1].finding
    'loss (91) over 10 times the largest of the first 2'
    """

    type: Literal["first_max"] = "first_max"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    points: int = Field(default=100, ge=1)
    """Measurements that the largest is taken of."""

    multiple: float = Field(default=10.0, gt=1)
    """A step is out when it is more than this many times as large."""

    def build(self) -> FirstMax:
        return FirstMax(self)


class FirstMax(Rule):
    remembered = ("counts", "largest")

    def __init__(self, config: FirstMaxConfig) -> None:
        self._config = config
        self.counts: dict[str, int] = {}
        self.largest: dict[str, float] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, value in chosen(point.metrics, self._config.metrics)[:64]:
            if not math.isfinite(value):
                continue
            count = self.counts.get(name, 0)
            if count < self._config.points:
                self.counts[name] = count + 1
                self.largest[name] = max(value, self.largest.get(name, value))
                continue
            judged = True
            if value > self._config.multiple * self.largest[name] > 0:
                signs.append(Sign(name, value, value / self.largest[name]))
        verb = f"over {self._config.multiple:g} times the largest of the first {self._config.points}"
        return loudest(signs, judged, verb, threshold=self._config.multiple, effect_name="multiple_of_largest")
