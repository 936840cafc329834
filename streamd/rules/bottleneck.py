"""A GPU that waits for something else: what the rules about the CPU and about I/O share."""

from __future__ import annotations

import math

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, Sign, loudest


class Bottleneck(Rule):
    """Counts the steps at which the GPU is nearly idle, and those of them at which something else is busy.

    Args:
        threshold: percentage of the idle steps that makes a finding.
        busy: line of the something else, in percent.
        idle: line of the GPU, in percent.
        patience: steps before the first judgement, which is repeated every so many.
    """

    remembered = ("steps", "waiting", "blocked")

    def __init__(self, threshold: float, busy: float, idle: float, patience: int, verb: str) -> None:
        self._threshold, self._busy, self._idle, self._patience, self._verb = threshold, busy, idle, patience, verb
        self.steps = self.waiting = self.blocked = 0

    def load(self, point: TelemetryPoint) -> float | None:
        """How busy the something else is, in percent; None: not measured."""
        raise NotImplementedError

    def update(self, point: TelemetryPoint) -> Judgement | None:
        gpu, load = point.metrics.get("gpu_util_percent", math.nan), self.load(point)
        if math.isnan(gpu) or load is None:
            return None
        idle = gpu < self._idle
        self.steps += 1
        self.waiting += idle
        self.blocked += idle and load > self._busy
        if self.steps % max(1, self._patience):
            return None
        share = 100 * self.blocked / self.waiting if self.waiting else 0.0
        signs = [Sign("gpu_util_percent", share, share / self._threshold, "down")] if share > self._threshold else []
        self.steps = self.waiting = self.blocked = 0
        return loudest(signs, True, self._verb, threshold=1.0)
