"""What the rules about summaries of tensors share: one number a tensor, and whether it is out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from streamd.model import Direction, TelemetryPoint
from streamd.rules.base import Judgement, Rule, Sign, loudest


class TensorRule(Rule):
    """Judges each tensor by itself, without a past."""

    verb: ClassVar[str]
    effect_name: ClassVar[str] = "lines_crossed"

    def value(self, tensor: Mapping[str, float]) -> float | None:
        """The number that is judged; None: the tensor has none."""
        raise NotImplementedError

    def effect(self, value: float) -> tuple[float, Direction]:
        """How many times over its line the number is: greater than 1 is out."""
        raise NotImplementedError

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, tensor in point.tensors.items():
            value = self.value(tensor)
            if value is None:
                continue
            judged = True
            effect, direction = self.effect(value)
            if effect > 1:
                signs.append(Sign(name, value, effect, direction))
        return loudest(signs, judged, self.verb, threshold=1.0, effect_name=self.effect_name)


def below(value: float, line: float) -> float:
    """How many times `value`, which is not negative, is under `line`; 0 for NaN, which is under nothing."""
    if math.isnan(value) or line <= 0:
        return 0.0
    return line / value if value > 0 else math.inf
