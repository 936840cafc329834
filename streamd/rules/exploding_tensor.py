"""A tensor, or a loss, with values that are not finite."""

from __future__ import annotations

import math
from typing import Literal

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class ExplodingTensorConfig(RuleConfig):
    """Options of `exploding_tensor` (Debugger's ExplodingTensor).

    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"nonfinite": 3.0}})
    >>> ExplodingTensorConfig().build().update(point).finding
    'encoder.0 (3) has values that are not finite'
    """

    type: Literal["exploding_tensor"] = "exploding_tensor"

    only_nan: bool = False
    """Infinite values are left alone. A tensor's count `nonfinite` is of both, and counts."""

    metrics: tuple[str, ...] = ("loss", "grad_norm")
    """Roles, names or patterns of metrics that are judged beside the tensors."""

    def build(self) -> ExplodingTensor:
        return ExplodingTensor(self)


class ExplodingTensor(Rule):
    def __init__(self, config: ExplodingTensorConfig) -> None:
        self._config = config

    def update(self, point: TelemetryPoint) -> Judgement | None:
        watched = chosen(point.metrics, self._config.metrics)
        signs = [Sign(name, value, 1.0, "changed") for name, value in watched if self._is_bad(value)]
        for name, tensor in point.tensors.items():
            count = max(tensor.get("nonfinite", 0.0), float(sum(map(self._is_bad, tensor.values()))))
            if count > 0:
                signs.append(Sign(name, count, 1.0, "changed"))
        judged = bool(watched or point.tensors)
        return loudest(signs, judged, "has values that are not finite", effect_name="nonfinite")

    def _is_bad(self, value: float) -> bool:
        return math.isnan(value) or (not self._config.only_nan and math.isinf(value))
