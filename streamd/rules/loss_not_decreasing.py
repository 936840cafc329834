"""A loss that does not go down."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class LossNotDecreasingConfig(RuleConfig):
    """Options of `loss_not_decreasing` (Debugger's LossNotDecreasing).

    >>> rule = LossNotDecreasingConfig().build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"loss": 2.0}, {}) for i in range(11)]
    >>> [rule.update(point) for point in points][-1].finding
    'loss (2) did not decrease for 10 steps'
    """

    type: Literal["loss_not_decreasing"] = "loss_not_decreasing"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    num_steps: int = Field(default=10, ge=1)
    """The loss is compared every so many steps, with the one before."""

    diff_percent: float = Field(default=0.0, ge=0, lt=100)
    """The least by which it must have gone down, in percent. 0: at all."""

    def build(self) -> LossNotDecreasing:
        return LossNotDecreasing(self)


class LossNotDecreasing(Rule):
    remembered = ("steps", "values")

    def __init__(self, config: LossNotDecreasingConfig) -> None:
        self._config = config
        self.steps: dict[str, int] = {}  # of the last comparison
        self.values: dict[str, float] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, value in chosen(point.metrics, self._config.metrics)[:64]:
            if not math.isfinite(value):
                continue
            if name not in self.steps:
                self.steps[name], self.values[name] = point.step, value
            if point.step - self.steps[name] < self._config.num_steps:
                continue
            judged = True
            before = self.values[name]
            fell = 100 * (before - value) / abs(before) if before else 0.0
            if not fell > self._config.diff_percent and not (before == 0 and value < 0):
                signs.append(Sign(name, value, 2.0 - fell / 100))
            self.steps[name], self.values[name] = point.step, value
        return loudest(signs, judged, f"did not decrease for {self._config.num_steps} steps", threshold=1.0)

    def resume(self, step: int) -> None:
        self.steps.clear()
        self.values.clear()
