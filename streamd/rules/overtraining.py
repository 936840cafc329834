"""A run that goes on although neither loss gets better any more."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import better, chosen


class OvertrainingConfig(RuleConfig):
    """Options of `overtraining` (Debugger's Overtraining).

    >>> rule = OvertrainingConfig().build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"loss": 1.0, "val/loss": 1.0}, {}) for i in range(11)]
    >>> [rule.update(point) for point in points][-1].finding
    'loss (1) no longer gets better'
    """

    type: Literal["overtraining"] = "overtraining"

    patience_train: int = Field(default=5, ge=1)
    """Measurements of the training loss without a new best."""

    patience_validation: int = Field(default=10, ge=1)
    """Measurements of the validation loss without a new best."""

    delta: float = Field(default=0.1, ge=0)
    """How much lower a new best must be."""

    def build(self) -> Overtraining:
        return Overtraining(self)


class Overtraining(Rule):
    remembered = ("best", "waited")

    def __init__(self, config: OvertrainingConfig) -> None:
        self._config = config
        self.best: dict[str, float] = {}
        self.waited: dict[str, int] = {}  # measurements since then

    def update(self, point: TelemetryPoint) -> Judgement | None:
        train = chosen(point.metrics, ("loss",))[:1]
        found = [(n, v) for n, v in chosen(point.metrics, ("evaluation",)) if better(n) == "lower" and "loss" in n]
        for role, values in (("train", train), ("validation", found[:1])):
            for _, value in values:
                self._measure(role, value)
        if not train or not {"train", "validation"} <= self.best.keys():
            return None
        patience = {"train": self._config.patience_train, "validation": self._config.patience_validation}
        over = all(self.waited[role] >= steps for role, steps in patience.items())
        name, value = train[0]
        return loudest(
            [Sign(name, value, 2.0, "changed")] if over else [], True, "no longer gets better", threshold=1.0
        )

    def _measure(self, role: str, value: float) -> None:
        if value < self.best.get(role, math.inf) - self._config.delta:
            self.best[role], self.waited[role] = value, 0
        else:
            self.waited[role] = self.waited.get(role, 0) + 1
            self.best.setdefault(role, math.inf)

    def resume(self, step: int) -> None:
        self.best.clear()
        self.waited.clear()
