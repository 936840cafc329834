"""An evaluation that is clearly worse than the last few."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.detectors.base import State
from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, RunAction, Sign, loudest
from streamd.rules.names import better, chosen

_METRICS_MAX = 64


class ValidationDropConfig(RuleConfig):
    """Options of `validation_drop`.

    >>> rule = ValidationDropConfig().build()
    >>> scores = [0.80, 0.82, 0.81, 0.70]
    >>> [rule.update(TelemetryPoint("bert", 0, i, None, {"val/f1": x}, {})) for i, x in enumerate(scores)][-1].finding
    'val/f1 (0.7) is worse by more than 0.08 than the mean of the last 3 evaluations'
    """

    type: Literal["validation_drop"] = "validation_drop"

    actions: tuple[RunAction, ...] = ("reduce_lr",)
    """A learning rate that is too high for this part of the run is the usual cause."""

    metrics: tuple[str, ...] = ("evaluation",)
    """Roles, names or patterns. Those whose name does not say whether more is better are left alone."""

    drop: float = Field(default=0.08, gt=0)
    """How much worse than the mean. Times that mean where it is greater than 1: of a score in percent, of a loss."""

    evaluations: int = Field(default=3, ge=1)
    """Evaluations that the mean is taken over."""

    def build(self) -> ValidationDrop:
        return ValidationDrop(self)


class ValidationDrop(Rule):
    def __init__(self, config: ValidationDropConfig) -> None:
        self._config = config
        self._past: dict[str, list[tuple[int, float]]] = {}  # metric -> (step, value) of the last evaluations

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, value in chosen(point.metrics, self._config.metrics):
            way = better(name)
            if way is None or not math.isfinite(value) or (name not in self._past and len(self._past) >= _METRICS_MAX):
                continue
            past = self._past.setdefault(name, [])
            if len(past) == self._config.evaluations:
                judged = True
                mean = sum(known for _, known in past) / len(past)
                worse = (mean - value if way == "higher" else value - mean) / max(1.0, abs(mean))
                if worse > self._config.drop:
                    signs.append(Sign(name, value, worse, "down" if way == "higher" else "up"))
            past.append((point.step, value))
            del past[: -self._config.evaluations]
        verb = f"is worse by more than {self._config.drop:g} than the mean of the last {self._config.evaluations}"
        return loudest(signs, judged, f"{verb} evaluations", threshold=self._config.drop, effect_name="worsening")

    def resume(self, step: int) -> None:
        self._past = {name: [known for known in past if known[0] < step] for name, past in self._past.items()}

    def snapshot(self) -> State:
        return {"past": [[name, [list(known) for known in past]] for name, past in self._past.items()]}

    def restore(self, state: State) -> None:
        self._past = {name: [(step, value) for step, value in past] for name, past in state["past"]}

    @property
    def nbytes(self) -> int:
        return sum(100 + 80 * len(past) for past in self._past.values())
