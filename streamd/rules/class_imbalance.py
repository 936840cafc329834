"""Classes that a run sees too seldom, or gets wrong too often."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest

_CLASSES_MAX = 10_000
_PREFIX = "class/"


class ClassImbalanceConfig(RuleConfig):
    """Options of `class_imbalance` (Debugger's ClassImbalance). Send each class of a step as a tensor `class/<name>`
    with its `samples` and, where predictions are known, its `mispredictions`.

    >>> rule = ClassImbalanceConfig().build()
    >>> classes = {"class/cat": {"samples": 580.0}, "class/dog": {"samples": 20.0}}
    >>> rule.update(TelemetryPoint("pets", 0, 1, None, {}, classes)).finding
    'class/dog (29) times rarer than the largest class'
    """

    type: Literal["class_imbalance"] = "class_imbalance"

    threshold_imbalance: float = Field(default=10.0, gt=1)
    """Samples of the largest class over those of the smallest."""

    threshold_misprediction: float = Field(default=0.7, gt=0, le=1)
    """Share of a class that may be mispredicted."""

    samples: int = Field(default=500, ge=1)
    """Labels that must have been seen before anything is judged."""

    def build(self) -> ClassImbalance:
        return ClassImbalance(self)


class ClassImbalance(Rule):
    remembered = ("counts", "wrong")

    def __init__(self, config: ClassImbalanceConfig) -> None:
        self._config = config
        self.counts: dict[str, float] = {}
        self.wrong: dict[str, float] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        classes = [(name, tensor) for name, tensor in point.tensors.items() if name.startswith(_PREFIX)]
        for name, tensor in classes:
            if name in self.counts or len(self.counts) < _CLASSES_MAX:
                self.counts[name] = self.counts.get(name, 0.0) + max(0.0, tensor.get("samples", 0.0))
                self.wrong[name] = self.wrong.get(name, 0.0) + max(0.0, tensor.get("mispredictions", 0.0))
        if not classes or not sum(self.counts.values()) >= self._config.samples:
            return None
        largest = max(self.counts.values())
        rare, bad = self._config.threshold_imbalance, self._config.threshold_misprediction
        signs, wrong = [], []
        for name, count in self.counts.items():
            ratio = largest / max(count, 1e-9)
            if ratio > rare:
                signs.append(Sign(name, ratio, ratio / rare, "down"))
            if count > 0 and self.wrong[name] / count > bad:
                wrong.append(Sign(name, self.wrong[name] / count, self.wrong[name] / count / bad))
        if signs:
            return loudest(signs, True, "times rarer than the largest class", threshold=1.0)
        return loudest(wrong, True, "of its samples mispredicted", threshold=1.0)
