"""Memory of the GPU or the host that stays nearly full: the next larger batch ends the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest

_PERCENT = ("gpu_mem_percent", "cpu_mem_percent", "host_mem_percent")


class MemoryConfig(RuleConfig):
    """Options of `memory`.

    >>> rule = MemoryConfig().build()
    >>> point = TelemetryPoint("bert", 0, 1, None, {"gpu_mem_allocated_bytes": 95.0, "gpu_mem_total_bytes": 100.0}, {})
    >>> [rule.update(point) for _ in range(10)][-1].finding
    'gpu_mem (0.95) full for 10 steps'
    """

    type: Literal["memory"] = "memory"

    share: float = Field(default=0.9, gt=0, lt=1)
    """Of the memory there is, in use. Read from `gpu_mem_allocated_bytes` over `gpu_mem_total_bytes`,
    `gpu_mem_percent` and `cpu_mem_percent`."""

    points: int = Field(default=10, ge=1)
    """Measurements in a row: a peak that passes harms nobody."""

    def build(self) -> Memory:
        return Memory(self)


class Memory(Rule):
    remembered = ("in_a_row", "first_steps")

    def __init__(self, config: MemoryConfig) -> None:
        self._config = config
        self.in_a_row: dict[str, int] = {}
        self.first_steps: dict[str, int] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged, first = [], False, point.step
        for name, share in shares_used(point.metrics):
            judged = True
            full = share > self._config.share
            count = self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if full else 0
            if count == 1:
                self.first_steps[name] = point.step
            if count >= self._config.points:
                signs.append(Sign(name, share, share))
                first = min(first, self.first_steps[name])
        return loudest(
            signs,
            judged,
            f"full for {self._config.points} steps",
            first_step=first,
            threshold=self._config.share,
            effect_name="share_used",
        )


def shares_used(metrics: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Each memory that was measured, and the share of it in use, 0 to 1."""
    total = metrics.get("gpu_mem_total_bytes", 0.0)
    if total > 0 and "gpu_mem_allocated_bytes" in metrics:
        yield "gpu_mem", metrics["gpu_mem_allocated_bytes"] / total
    for name in _PERCENT:
        if name in metrics:
            yield name.removesuffix("_percent"), metrics[name] / 100
