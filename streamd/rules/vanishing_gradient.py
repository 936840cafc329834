"""Gradients so small that a layer no longer learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from streamd.model import Direction
from streamd.rules.base import RuleConfig
from streamd.rules.tensor_rule import TensorRule, below


class VanishingGradientConfig(RuleConfig):
    """Options of `vanishing_gradient` (Debugger's VanishingGradient).

    >>> from streamd.model import TelemetryPoint
    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"grad_mean_abs": 1e-9}})
    >>> VanishingGradientConfig().build().update(point).finding
    'encoder.0 (1e-09) has a vanishing gradient'
    """

    type: Literal["vanishing_gradient"] = "vanishing_gradient"

    threshold: float = Field(default=1e-7, gt=0)
    """Mean of the gradient's absolute values, sent as `grad_mean_abs`, under which it vanishes."""

    def build(self) -> VanishingGradient:
        return VanishingGradient(self)


class VanishingGradient(TensorRule):
    verb = "has a vanishing gradient"

    def __init__(self, config: VanishingGradientConfig) -> None:
        self._config = config

    def value(self, tensor: Mapping[str, float]) -> float | None:
        return tensor.get("grad_mean_abs")

    def effect(self, value: float) -> tuple[float, Direction]:
        return below(value, self._config.threshold), "down"
