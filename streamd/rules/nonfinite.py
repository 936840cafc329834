"""A loss or a gradient that is NaN or infinite: critical, at once."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from streamd.model import Severity, TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, RunAction, Sign, loudest
from streamd.rules.names import chosen, role_of

_SCALES = ("loss_scale", "amp_scale", "grad_scale", "loss scale")


class NonfiniteConfig(RuleConfig):
    """Options of `nonfinite`.

    >>> rule = NonfiniteConfig().build()
    >>> rule.update(TelemetryPoint("bert", 0, 7, None, {"loss": math.nan}, {})).finding
    'loss (nan) is not a number any more'
    """

    type: Literal["nonfinite"] = "nonfinite"
    any_order: ClassVar[bool] = True

    severity: Literal["info", "warning", "critical"] = "critical"
    """Nothing that is computed from it is worth anything."""

    actions: tuple[RunAction, ...] = ("checkpoint", "pause")
    """Keep what there is, and stop spending."""

    metrics: tuple[str, ...] = ("loss", "grad_norm")
    """Roles (`loss`, `evaluation`, `grad_norm`), names or patterns of what must be finite. Tensors always must."""

    scaled_in_a_row: int = Field(default=3, ge=1)
    """Steps in a row of a non-finite gradient, while a loss scale is sent beside it: dynamic loss scaling looks for
    the largest scale by overflowing now and then, and skips those steps. Fewer are `info`."""

    def build(self) -> Rule:
        return Nonfinite(self)


class Nonfinite(Rule):
    remembered = ("in_a_row", "first_step")

    def __init__(self, config: NonfiniteConfig) -> None:
        self._config = config
        self.in_a_row = 0
        self.first_step = 0

    def update(self, point: TelemetryPoint) -> Judgement | None:
        watched = chosen(point.metrics, self._config.metrics)
        signs = [Sign(name, value, 1.0) for name, value in watched if not math.isfinite(value)]
        lost = any(role_of(sign.name) != "grad_norm" for sign in signs)
        for name, tensor in point.tensors.items():
            worst = next((value for value in tensor.values() if not math.isfinite(value)), None)
            if worst is not None or tensor.get("nonfinite", 0.0) > 0:
                signs.append(Sign(name, worst if worst is not None else tensor["nonfinite"], 1.0))
        if not signs:
            if watched or point.tensors:
                self.in_a_row = 0
            return loudest(signs, bool(watched or point.tensors), "")
        if not self.in_a_row:
            self.first_step = point.step
        self.in_a_row += 1
        probing = not lost and any(scale in point.metrics for scale in _SCALES)
        mild = probing and self.in_a_row < self._config.scaled_in_a_row
        verb = "is not a number any more" if lost else "overflowed"
        return loudest(
            signs,
            True,
            verb,
            first_step=self.first_step,
            severity=Severity.INFO if mild else None,
            effect_name="nonfinite",
        )
