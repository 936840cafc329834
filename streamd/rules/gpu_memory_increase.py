"""GPU memory that grows from step to step: something is kept that should not be."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class GpuMemoryIncreaseConfig(RuleConfig):
    """Options of `gpu_memory_increase` (Debugger's GPUMemoryIncrease).

    >>> rule = GpuMemoryIncreaseConfig(patience=10, window=2).build()
    >>> used = [100.0] * 10 + [120.0] * 4
    >>> said = [rule.update(TelemetryPoint("b", 0, i, None, {"gpu_mem_percent": u}, {})) for i, u in enumerate(used)]
    >>> [each.finding for each in said if each and each.signs]
    ['gpu_mem_percent (120) more than before']
    """

    type: Literal["gpu_memory_increase"] = "gpu_memory_increase"

    metrics: tuple[str, ...] = ("gpu_mem_allocated_bytes", "gpu_mem_percent", "gpu_mem_percent/*")
    """Memory in use."""

    increase: float = Field(default=10.0, gt=0)
    """Percent by which the mean of a window is over that of the lowest one before."""

    patience: int = Field(default=100, ge=0)
    """Measurements before the first judgement: a run fills its memory once."""

    window: int = Field(default=500, ge=1, le=1000)
    """Measurements of one mean, so that a peak is none."""

    def build(self) -> GpuMemoryIncrease:
        return GpuMemoryIncrease(self)


class GpuMemoryIncrease(Rule):
    remembered = ("seen", "total", "base")

    def __init__(self, config: GpuMemoryIncreaseConfig) -> None:
        self._config = config
        self.seen: dict[str, int] = {}
        self.total: dict[str, float] = {}  # of the window under way
        self.base: dict[str, float] = {}  # mean of the window that later ones are held against

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, value in chosen(point.metrics, self._config.metrics)[:64]:
            if not math.isfinite(value):
                continue
            seen = self.seen[name] = self.seen.get(name, 0) + 1
            self.total[name] = self.total.get(name, 0.0) + value
            if seen % self._config.window:
                continue
            mean, self.total[name] = self.total[name] / self._config.window, 0.0
            base = self.base.get(name)
            if base is None or seen <= self._config.patience or mean < base:
                self.base[name] = mean
                continue
            judged = True
            grown = 100 * (mean - base) / base if base > 0 else 0.0
            if grown > self._config.increase:
                signs.append(Sign(name, mean, grown))
                self.base[name] = mean  # the next finding is of new growth
        return loudest(signs, judged, "more than before", threshold=self._config.increase, effect_name="percent_more")
