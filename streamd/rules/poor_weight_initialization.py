"""Weights that were initialised badly, seen in a run's first steps."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class PoorWeightInitializationConfig(RuleConfig):
    """Options of `poor_weight_initialization` (Debugger's PoorWeightInitialization).

    >>> rule = PoorWeightInitializationConfig().build()
    >>> layers = {"a": {"variance": 1.0}, "b": {"variance": 50.0}}
    >>> rule.update(TelemetryPoint("bert", 0, 0, None, {}, layers)).finding
    'variance across layers (50) is a sign of poor initialisation'
    """

    type: Literal["poor_weight_initialization"] = "poor_weight_initialization"

    threshold: float = Field(default=10.0, gt=1)
    """Largest over smallest `variance` of the tensors of one step."""

    distribution_range: float = Field(default=0.001, gt=0)
    """Smallest distance of the gradients' quantiles, sent as `grad_p95` and `grad_p05`."""

    patience: int = Field(default=5, ge=1)
    """Steps in a row in which the loss does not go down."""

    steps: int = Field(default=10, ge=1)
    """Steps of a run that are looked at."""

    def build(self) -> PoorWeightInitialization:
        return PoorWeightInitialization(self)


class PoorWeightInitialization(Rule):
    remembered = ("seen", "best", "stuck")

    def __init__(self, config: PoorWeightInitializationConfig) -> None:
        self._config = config
        self.seen = 0
        self.best = math.inf
        self.stuck = 0

    def update(self, point: TelemetryPoint) -> Judgement | None:
        self.seen = min(self.seen + 1, self._config.steps + 1)
        if self.seen > self._config.steps:
            return None
        signs = [*self._variances(point), *self._gradients(point), *self._loss(point)]
        return loudest(signs, True, "is a sign of poor initialisation", threshold=1.0)

    def _variances(self, point: TelemetryPoint) -> list[Sign]:
        variances = [t["variance"] for t in point.tensors.values() if t.get("variance", 0.0) > 0]
        ratio = max(variances) / min(variances) if variances else 1.0
        effect = ratio / self._config.threshold
        return [Sign("variance across layers", ratio, effect)] if effect > 1 else []

    def _gradients(self, point: TelemetryPoint) -> list[Sign]:
        ranges = [t["grad_p95"] - t["grad_p05"] for t in point.tensors.values() if {"grad_p95", "grad_p05"} <= t.keys()]
        if not ranges or not min(ranges) < self._config.distribution_range:
            return []
        narrow = max(min(ranges), 1e-300)
        return [Sign("range of the gradients", min(ranges), self._config.distribution_range / narrow, "down")]

    def _loss(self, point: TelemetryPoint) -> list[Sign]:
        for name, value in chosen(point.metrics, ("loss",))[:1]:
            self.stuck = 0 if value < self.best else self.stuck + 1
            self.best = min(self.best, value)
            if self.stuck >= self._config.patience:
                return [Sign(name, value, 1.0 + self.stuck / self._config.patience)]
        return []
