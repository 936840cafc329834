"""Updates that are too large or too small for their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from streamd.model import Direction
from streamd.rules.base import RuleConfig
from streamd.rules.tensor_rule import TensorRule, below


class WeightUpdateRatioConfig(RuleConfig):
    """Options of `weight_update_ratio` (Debugger's WeightUpdateRatio).

    >>> from streamd.model import TelemetryPoint
    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"update_ratio": 12.0}})
    >>> WeightUpdateRatioConfig().build().update(point).finding
    'encoder.0 (12) is updated too much or too little'
    """

    type: Literal["weight_update_ratio"] = "weight_update_ratio"

    large_threshold: float = Field(default=10.0, gt=0)
    """Update over weight, sent as `update_ratio`, that is too large."""

    small_threshold: float = Field(default=1e-8, ge=0)
    """And too small."""

    def build(self) -> WeightUpdateRatio:
        return WeightUpdateRatio(self)


class WeightUpdateRatio(TensorRule):
    verb = "is updated too much or too little"

    def __init__(self, config: WeightUpdateRatioConfig) -> None:
        self._config = config

    def value(self, tensor: Mapping[str, float]) -> float | None:
        return tensor.get("update_ratio")

    def effect(self, value: float) -> tuple[float, Direction]:
        if value > self._config.large_threshold:
            return value / self._config.large_threshold, "up"
        return below(value, self._config.small_threshold), "down"
