"""A GPU that waits for the CPU."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import RuleConfig
from streamd.rules.bottleneck import Bottleneck


class CpuBottleneckConfig(RuleConfig):
    """Options of `cpu_bottleneck` (Debugger's CPUBottleneck).

    >>> rule = CpuBottleneckConfig(patience=4).build()
    >>> load = {"gpu_util_percent": 3.0, "cpu_percent": 99.0}
    >>> points = [TelemetryPoint("bert", 0, i, None, load, {}) for i in range(4)]
    >>> [rule.update(point) for point in points][-1].finding
    "gpu_util_percent (100) % of the idle GPU's steps wait for the CPU"
    """

    type: Literal["cpu_bottleneck"] = "cpu_bottleneck"

    threshold: float = Field(default=50.0, gt=0, lt=100)
    """Percentage of the steps with an idle GPU at which the other one is busy."""

    cpu_threshold: float = Field(default=90.0, gt=0, lt=100)
    """Percentage over which it is busy."""

    gpu_threshold: float = Field(default=10.0, gt=0, lt=100)
    """Utilisation, `gpu_util_percent`, under which the GPU is idle."""

    patience: int = Field(default=100, ge=1)
    """Measurements that one judgement is over."""

    def build(self) -> CpuBottleneck:
        return CpuBottleneck(self)


class CpuBottleneck(Bottleneck):
    def __init__(self, config: CpuBottleneckConfig) -> None:
        verb = "% of the idle GPU's steps wait for the CPU"
        super().__init__(config.threshold, config.cpu_threshold, config.gpu_threshold, config.patience, verb)

    def load(self, point: TelemetryPoint) -> float | None:
        return point.metrics.get("cpu_percent")
