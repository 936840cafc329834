"""A GPU that waits for data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import RuleConfig
from streamd.rules.bottleneck import Bottleneck


class IoBottleneckConfig(RuleConfig):
    """Options of `io_bottleneck` (Debugger's IOBottleneck).

    >>> rule = IoBottleneckConfig(patience=4).build()
    >>> load = {"gpu_util_percent": 3.0, "io_wait_percent": 80.0}
    >>> points = [TelemetryPoint("bert", 0, i, None, load, {}) for i in range(4)]
    >>> [rule.update(point) for point in points][-1].finding
    "gpu_util_percent (100) % of the idle GPU's steps wait for data"
    """

    type: Literal["io_bottleneck"] = "io_bottleneck"

    threshold: float = Field(default=50.0, gt=0, lt=100)
    """Percentage of the steps with a waiting GPU at which the other one is busy."""

    io_threshold: float = Field(default=50.0, gt=0, lt=100)
    """Percentage over which it is busy."""

    gpu_threshold: float = Field(default=70.0, gt=0, lt=100)
    """Utilisation, `gpu_util_percent`, under which the GPU counts as waiting."""

    patience: int = Field(default=1000, ge=1)
    """Measurements that one judgement is over."""

    def build(self) -> IoBottleneck:
        return IoBottleneck(self)


class IoBottleneck(Bottleneck):
    def __init__(self, config: IoBottleneckConfig) -> None:
        verb = "% of the idle GPU's steps wait for data"
        super().__init__(config.threshold, config.io_threshold, config.gpu_threshold, config.patience, verb)

    def load(self, point: TelemetryPoint) -> float | None:
        metrics = point.metrics
        if "io_wait_percent" in metrics:
            return metrics["io_wait_percent"]
        if "data_wait_seconds" not in metrics or not metrics.get("step_seconds", 0.0) > 0:
            return None
        return 100 * metrics["data_wait_seconds"] / metrics["step_seconds"]
