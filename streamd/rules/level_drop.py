"""A loss that is suddenly far below its level, and stays there: too good to be true.

Batches that repeat, labels that leak into the input, a loss that is no longer summed over all ranks. A descent is no
drop: the residuals of a running median are as large for every step of it, and so is the usual distance.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, RuleConfig, Sign
from streamd.rules.leveled import Leveled, Track


class LevelDropConfig(RuleConfig):
    """Options of `level_drop`.

    >>> rule = LevelDropConfig().build()
    >>> losses = [2.0 + 0.01 * (i % 7) for i in range(120)] + [0.9] * 5
    >>> said = [rule.update(TelemetryPoint("bert", 0, i, None, {"loss": x}, {})) for i, x in enumerate(losses)]
    >>> said[-1].finding
    'loss (0.9) is 56 % under its level'
    """

    type: Literal["level_drop"] = "level_drop"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    departures: float = Field(default=6.0, gt=0)
    """How many usual distances under the level a step stands out."""

    drop: float = Field(default=0.3, gt=0)
    """And by which share of the level. Annealing, the steepest healthy descent late in a run, takes a tenth."""

    in_a_row: int = Field(default=5, ge=1)
    """Measurements in a row that make a finding. A healthy run has single easy batches at a third of its level."""

    after_points: int = Field(default=100, ge=0)
    """Measurements before the first judgement: a run's first steps fall steeply."""

    def build(self) -> LevelDrop:
        return LevelDrop(self)


class LevelDrop(Leveled):
    def __init__(self, config: LevelDropConfig) -> None:
        super().__init__(config.metrics)
        self._config = config

    def judge(self, name: str, value: float, track: Track, point: TelemetryPoint) -> tuple[bool, Judgement | None]:
        config, level = self._config, track.level
        if level.learned < config.after_points:
            return False, None
        middle, departure = level.middle, level.departure(value)
        drop = (middle - value) / abs(middle) if middle else 0.0
        if not (departure < -config.departures and drop > config.drop):
            return False, None
        if track.out + 1 < config.in_a_row:
            return True, None
        first = track.first_step if track.out else point.step
        text = f"{name} ({value:.4g}) is {100 * drop:.0f} % under its level"
        sign = Sign(name, value, -departure, "down")
        return True, Judgement((sign,), text, first, threshold=config.departures, effect_name="robust_deviations")
