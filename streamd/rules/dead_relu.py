"""Layers whose ReLUs no longer answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from streamd.model import Direction
from streamd.rules.base import RuleConfig
from streamd.rules.tensor_rule import TensorRule


class DeadReluConfig(RuleConfig):
    """Options of `dead_relu` (Debugger's DeadRelu).

    >>> from streamd.model import TelemetryPoint
    >>> point = TelemetryPoint("bert", 0, 1, None, {}, {"encoder.0": {"dead_fraction": 0.6}})
    >>> DeadReluConfig().build().update(point).finding
    'encoder.0 (0.6) has dead ReLUs'
    """

    type: Literal["dead_relu"] = "dead_relu"

    threshold_layer: float = Field(default=50.0, gt=0, le=100)
    """Percentage of a layer's units, sent as the share `dead_fraction`, over which it is a finding. What makes a unit
    dead (Debugger's `threshold_inactivity`) is decided where the activations are."""

    def build(self) -> DeadRelu:
        return DeadRelu(self)


class DeadRelu(TensorRule):
    verb = "has dead ReLUs"

    def __init__(self, config: DeadReluConfig) -> None:
        self._config = config

    def value(self, tensor: Mapping[str, float]) -> float | None:
        return tensor.get("dead_fraction")

    def effect(self, value: float) -> tuple[float, Direction]:
        return 100 * value / self._config.threshold_layer, "up"
