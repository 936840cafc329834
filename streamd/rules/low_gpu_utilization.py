"""A GPU that has too little to do, or now and then nothing."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class LowGpuUtilizationConfig(RuleConfig):
    """Options of `low_gpu_utilization` (Debugger's LowGPUUtilization).

    >>> rule = LowGpuUtilizationConfig(patience=0, window=5).build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"gpu_util_percent": 30.0}, {}) for i in range(5)]
    >>> [rule.update(point) for point in points][-1].finding
    'gpu_util_percent (30) is low'
    """

    type: Literal["low_gpu_utilization"] = "low_gpu_utilization"

    metrics: tuple[str, ...] = ("gpu_util_percent", "gpu_util_percent/*")
    """Utilisation in percent, one metric a GPU."""

    threshold_p95: float = Field(default=70.0, gt=0, le=100)
    """A 95 % quantile under it: the GPU is too large for the work."""

    threshold_p5: float = Field(default=10.0, gt=0, le=100)
    """A 5 % quantile under it, with the other one over its line: the GPU waits now and then."""

    patience: int = Field(default=1000, ge=0)
    """Measurements before the first judgement."""

    window: int = Field(default=500, ge=2, le=5000)
    """Measurements that the quantiles are of, judged each time that so many new ones are there."""

    def build(self) -> LowGpuUtilization:
        return LowGpuUtilization(self)


class LowGpuUtilization(Rule):
    remembered = ("values", "seen")

    def __init__(self, config: LowGpuUtilizationConfig) -> None:
        self._config = config
        self.values: dict[str, list[float]] = {}
        self.seen: dict[str, int] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, value in chosen(point.metrics, self._config.metrics)[:64]:
            if not math.isfinite(value):
                continue
            self.seen[name] = self.seen.get(name, 0) + 1
            values = self.values.setdefault(name, [])
            values.append(value)
            if len(values) < self._config.window:
                continue
            ordered = sorted(values)
            values.clear()
            if self.seen[name] <= self._config.patience:
                continue
            judged = True
            high, low = ordered[int(0.95 * (len(ordered) - 1))], ordered[int(0.05 * (len(ordered) - 1))]
            if high < self._config.threshold_p95:
                signs.append(Sign(name, high, self._config.threshold_p95 / max(high, 0.01), "down"))
            elif low < self._config.threshold_p5:
                signs.append(Sign(name, low, self._config.threshold_p5 / max(low, 0.01), "down"))
        return loudest(signs, judged, "is low", threshold=1.0)
