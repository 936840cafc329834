"""A tensor of zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from streamd.model import Direction
from streamd.rules.base import RuleConfig
from streamd.rules.tensor_rule import TensorRule


class AllZeroConfig(RuleConfig):
    """Options of `all_zero` (Debugger's AllZero).

    >>> from streamd.model import TelemetryPoint
    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"zero_fraction": 1.0}})
    >>> AllZeroConfig().build().update(point).finding
    'encoder.0 (1) is zero'
    """

    type: Literal["all_zero"] = "all_zero"

    threshold: float = Field(default=100.0, gt=0, le=100)
    """Percentage of the values, sent as the share `zero_fraction`, that must be zero."""

    def build(self) -> AllZero:
        return AllZero(self)


class AllZero(TensorRule):
    verb = "is zero"

    def __init__(self, config: AllZeroConfig) -> None:
        self._config = config

    def value(self, tensor: Mapping[str, float]) -> float | None:
        return tensor.get("zero_fraction")

    def effect(self, value: float) -> tuple[float, Direction]:
        return 2.0 if 100 * value >= self._config.threshold else 0.0, "up"
