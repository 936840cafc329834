"""GPUs of one run that do not do the same work."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class LoadBalancingConfig(RuleConfig):
    """Options of `load_balancing` (Debugger's LoadBalancing). Debugger clusters histograms; here the means of the
    GPUs are compared, which is what a person can check.

    >>> rule = LoadBalancingConfig(patience=3).build()
    >>> busy = {"gpu_util_percent/0": 90.0, "gpu_util_percent/1": 40.0}
    >>> [rule.update(TelemetryPoint("bert", 0, i, None, busy, {})) for i in range(3)][-1].finding
    'gpu_util_percent/1 (40) works less than the others'
    """

    type: Literal["load_balancing"] = "load_balancing"

    metrics: tuple[str, ...] = ("gpu_util_percent/*",)
    """Utilisation in percent, one metric a GPU."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Share of the busiest one's load by which another one's is lower."""

    patience: int = Field(default=10, ge=1)
    """Measurements that one judgement is over."""

    def build(self) -> LoadBalancing:
        return LoadBalancing(self)


class LoadBalancing(Rule):
    remembered = ("steps", "total")

    def __init__(self, config: LoadBalancingConfig) -> None:
        self._config = config
        self.steps = 0
        self.total: dict[str, float] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        loads = [(n, v) for n, v in chosen(point.metrics, self._config.metrics)[:1024] if math.isfinite(v)]
        if len(loads) < 2:
            return None
        self.steps += 1
        for name, value in loads:
            self.total[name] = self.total.get(name, 0.0) + value
        if self.steps < self._config.patience:
            return None
        most, line = max(self.total.values()), self._config.threshold
        lag = {name: (most - total) / most for name, total in self.total.items()} if most > 0 else {}
        signs = [Sign(n, self.total[n] / self.steps, lower, "down") for n, lower in lag.items() if lower > line]
        self.steps = 0
        self.total.clear()
        return loudest(signs, True, "works less than the others", threshold=line, effect_name="relative_lag")
