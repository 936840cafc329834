"""A validation loss well over the training loss."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import better, chosen


class OverfitConfig(RuleConfig):
    """Options of `overfit` (Debugger's Overfit).

    >>> point = TelemetryPoint("bert", 0, 9, None, {"loss": 1.0, "val/loss": 1.3}, {})
    >>> OverfitConfig().build().update(point).finding
    'val/loss (1.3) over the training loss'
    """

    type: Literal["overfit"] = "overfit"

    start_step: int = Field(default=0, ge=0)
    """The first step to compare at."""

    patience: int = Field(default=1, ge=1)
    """Evaluations in a row."""

    ratio_threshold: float = Field(default=0.1, gt=0)
    """Mean validation loss minus mean training loss, over the latter. The means are over the steps since the
    evaluation before."""

    def build(self) -> Overfit:
        return Overfit(self)


class Overfit(Rule):
    remembered = ("total", "count", "mean", "in_a_row")

    def __init__(self, config: OverfitConfig) -> None:
        self._config = config
        self.total, self.count = 0.0, 0  # training losses since the last evaluation
        self.mean = math.nan  # of the training losses before it
        self.in_a_row = 0

    def update(self, point: TelemetryPoint) -> Judgement | None:
        for _, value in chosen(point.metrics, ("loss",))[:1]:
            if math.isfinite(value):
                self.total, self.count = self.total + value, self.count + 1
        evaluated = [(n, v) for n, v in chosen(point.metrics, ("evaluation",)) if better(n) == "lower" and "loss" in n]
        if not evaluated:
            return None
        if self.count:
            self.mean = self.total / self.count
            self.total, self.count = 0.0, 0
        name, value = evaluated[0]
        if point.step < self._config.start_step or not self.mean > 0 or not math.isfinite(value):
            return None
        ratio = (value - self.mean) / self.mean
        self.in_a_row = self.in_a_row + 1 if ratio > self._config.ratio_threshold else 0
        signs = [Sign(name, value, ratio)] if self.in_a_row >= self._config.patience else []
        return loudest(
            signs, True, "over the training loss", threshold=self._config.ratio_threshold, effect_name="relative_excess"
        )

    def resume(self, step: int) -> None:
        self.total, self.count, self.mean, self.in_a_row = 0.0, 0, math.nan, 0
