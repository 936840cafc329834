"""A loss that went up and stayed: every one of some steps is well above where it was."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, RuleConfig, RunAction, Sign
from streamd.rules.leveled import Leveled, Track, over


class LossRiseConfig(RuleConfig):
    """Options of `loss_rise`.

    >>> rule = LossRiseConfig().build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"loss": 2.0 if i < 30 else 2.5}, {}) for i in range(35)]
    >>> [rule.update(point) for point in points][-1].finding
    'loss (2.5) is 25 % over its level for 5 steps'
    """

    type: Literal["loss_rise"] = "loss_rise"

    severity: Literal["info", "warning", "critical"] = "critical"
    """It does not come back by itself."""

    actions: tuple[RunAction, ...] = ("checkpoint", "pause")
    """Keep what there is, and stop spending."""

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    rise: float = Field(default=0.15, gt=0)
    """Share of the level (the median of the last 25 calm steps) by which each step is above it."""

    points: int = Field(default=5, ge=1)
    """Measurements in a row."""

    fallen: float = Field(default=0.5, gt=0, le=1)
    """The last one counts as falling back when it is less than this share of the largest of the last `points`: a spike
    that passes. A loss that shot up and then stays high, as a network's does that answers at random, does not."""

    departures: float = Field(default=4.0, ge=0)
    """And by how many of the run's usual distances, once these are known: a loss of single examples jumps by 15 %
    all day. 0: the share alone decides."""

    def build(self) -> LossRise:
        return LossRise(self)


class LossRise(Leveled):
    def __init__(self, config: LossRiseConfig) -> None:
        super().__init__(config.metrics)
        self._config = config

    def judge(self, name: str, value: float, track: Track, point: TelemetryPoint) -> tuple[bool, Judgement | None]:
        level = track.level
        if level.known < 3:
            return False, None
        middle = level.middle
        rise = (value - middle) / abs(middle) if middle else 0.0
        departure = level.departure(value)
        known = not math.isnan(departure)
        out = rise > self._config.rise and (departure > self._config.departures if known else level.beyond(value))
        if not out:
            return False, None
        track.heights = [*track.heights, value - middle][-self._config.points :]
        if track.out + 1 < self._config.points or value - middle < self._config.fallen * max(track.heights):
            return True, None
        text = f"{name} ({value:.4g}) is {over(rise)} its level for {track.out + 1} steps"
        first = track.first_step if track.out else point.step
        return True, Judgement(
            (Sign(name, value, rise),), text, first, threshold=self._config.rise, effect_name="relative_rise"
        )
