"""Steps that take far longer than the others."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest

_STEPS_MIN = 30  # before the deviation is known well enough


class StepOutlierConfig(RuleConfig):
    """Options of `step_outlier` (Debugger's StepOutlier).

    >>> rule = StepOutlierConfig(n_outliers=1).build()
    >>> seconds = [1.0 + 0.01 * (i % 5) for i in range(60)] + [9.0]
    >>> points = [TelemetryPoint("b", 0, i, None, {"step_seconds": s}, {}) for i, s in enumerate(seconds)]
    >>> [rule.update(point) for point in points][-1].finding
    'step_seconds (9) far from the mean, 1 times by now'
    """

    type: Literal["step_outlier"] = "step_outlier"

    metrics: tuple[str, ...] = ("step_seconds", "step_time")
    """Names of what a step took."""

    stddev: float = Field(default=3.0, gt=0)
    """Standard deviations from the mean of all steps before that make a step an outlier."""

    n_outliers: int = Field(default=10, ge=1)
    """Outliers that make a finding; then so many more."""

    def build(self) -> StepOutlier:
        return StepOutlier(self)


class StepOutlier(Rule):
    remembered = ("count", "mean", "squares", "outliers")

    def __init__(self, config: StepOutlierConfig) -> None:
        self._config = config
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # Welford
        self.outliers = 0

    def update(self, point: TelemetryPoint) -> Judgement | None:
        name = next((name for name in self._config.metrics if math.isfinite(point.metrics.get(name, math.nan))), None)
        if name is None:
            return None
        value, away = point.metrics[name], 0.0
        judged = self.count >= _STEPS_MIN
        if judged:
            deviation = math.sqrt(self.squares / (self.count - 1))
            away = abs(value - self.mean) / deviation if deviation > 0 else 0.0
        self.count += 1
        before, self.mean = self.mean, self.mean + (value - self.mean) / self.count
        self.squares += (value - before) * (value - self.mean)
        signs = []
        if away > self._config.stddev:
            self.outliers += 1
            if self.outliers % self._config.n_outliers == 0:
                signs.append(Sign(name, value, away, "up" if value > before else "down"))
        verb = f"far from the mean, {self.outliers} times by now"
        return loudest(signs, judged, verb, threshold=self._config.stddev, effect_name="deviations")
