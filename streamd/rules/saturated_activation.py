"""Layers whose tanh or sigmoid units stand at their ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from streamd.model import Direction
from streamd.rules.base import RuleConfig
from streamd.rules.tensor_rule import TensorRule


class SaturatedActivationConfig(RuleConfig):
    """Options of `saturated_activation` (Debugger's SaturatedActivation).

    >>> from streamd.model import TelemetryPoint
    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"saturated_fraction": 0.6}})
    >>> SaturatedActivationConfig().build().update(point).finding
    'encoder.0 (0.6) is saturated'
    """

    type: Literal["saturated_activation"] = "saturated_activation"

    threshold_layer: float = Field(default=50.0, gt=0, le=100)
    """Percentage of a layer's units, sent as the share `saturated_fraction`, over which it is a finding. Where a unit
    is saturated (Debugger's `threshold_tanh`, `threshold_sigmoid`) is decided where the activations are."""

    def build(self) -> SaturatedActivation:
        return SaturatedActivation(self)


class SaturatedActivation(TensorRule):
    verb = "is saturated"

    def __init__(self, config: SaturatedActivationConfig) -> None:
        self._config = config

    def value(self, tensor: Mapping[str, float]) -> float | None:
        return tensor.get("saturated_fraction")

    def effect(self, value: float) -> tuple[float, Direction]:
        return 100 * value / self._config.threshold_layer, "up"
