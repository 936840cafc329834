"""A tensor whose variance is out of bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from streamd.model import Direction
from streamd.rules.base import RuleConfig
from streamd.rules.tensor_rule import TensorRule, below


class TensorVarianceConfig(RuleConfig):
    """Options of `tensor_variance` (Debugger's TensorVariance).

    >>> from streamd.model import TelemetryPoint
    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"variance": 12.0}})
    >>> TensorVarianceConfig(max_threshold=10.0).build().update(point).finding
    'encoder.0 (12) has a variance out of bounds'
    """

    type: Literal["tensor_variance"] = "tensor_variance"

    max_threshold: float | None = Field(default=None, gt=0)
    """The largest variance, sent as `variance`. None, which is Debugger's default, sets no bound."""

    min_threshold: float | None = Field(default=None, gt=0)
    """The smallest."""

    def build(self) -> TensorVariance:
        return TensorVariance(self)


class TensorVariance(TensorRule):
    verb = "has a variance out of bounds"

    def __init__(self, config: TensorVarianceConfig) -> None:
        self._config = config

    def value(self, tensor: Mapping[str, float]) -> float | None:
        return tensor.get("variance")

    def effect(self, value: float) -> tuple[float, Direction]:
        if self._config.max_threshold is not None and value > self._config.max_threshold:
            return value / self._config.max_threshold, "up"
        return below(value, self._config.min_threshold or 0.0), "down"
