"""A metric far over its own recent level: a spike of the loss, or of the gradient norm.

One step is no spike: on 68 real runs 99.8 % of the step-to-step noise of the loss is the batch, and on 37 healthy runs
(172,499 steps) 640 steps stand out by more than six usual distances, up to 27, and no three in a row by more than
three. So a step that stands out is `info`, and `in_a_row` of them are a finding.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import Severity, TelemetryPoint
from streamd.rules.base import Judgement, RuleConfig, Sign
from streamd.rules.leveled import Leveled, Track, over

_SPARSE_STEPS = 10  # measurements further apart are means over the steps between in the logs of every framework we read
_SPARSE_IN_A_ROW = 2
_FEW = 5  # measurements in all: there is no past to be careful with
_PAST_MIN = 4  # measurements before single steps are judged at all


class SpikeConfig(RuleConfig):
    """Options of `spike`.

    >>> rule = SpikeConfig().build()
    >>> losses = [2.0 + 0.01 * (i % 7) for i in range(60)] + [3.0, 3.1, 3.2]
    >>> said = [rule.update(TelemetryPoint("bert", 0, i, None, {"loss": x}, {})) for i, x in enumerate(losses)]
    >>> [s.severity.word if s.severity else s.finding for s in said[-3:]]
    ['info', 'info', 'loss (3.2) is 58 % over its level']
    """

    type: Literal["spike"] = "spike"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    log: bool = False
    """Judge the logarithm, of a quantity whose changes are multiples: a gradient norm. Values that are not positive
    are left out."""

    departures: float = Field(default=6.0, gt=0)
    """How many usual distances (1.4826 · MAD of the residuals of a running median) over the level a step stands out.
    A level without 25 residuals behind it has no usual distance: then `rise_unknown` decides alone."""

    rise: float = Field(default=0.1, ge=0)
    """And by which share of the level: below it, it does not matter."""

    rise_unknown: float = Field(default=0.3, gt=0)
    """The share of the level by which a step stands out while the usual distance is not known."""

    in_a_row: int = Field(default=3, ge=1)
    """Measurements in a row that make a finding. Two where they are ten steps apart or more, and one where there are
    fewer than five in all."""

    rise_at_once: float | None = Field(default=None, gt=0)
    """The share of the level over which one measurement is a finding, if it is also twice `departures` away.
    None: never; hard batches raise a healthy loss by up to 90 %."""

    def build(self) -> Spike:
        return Spike(self)


class Spike(Leveled):
    def __init__(self, config: SpikeConfig) -> None:
        super().__init__(config.metrics)
        self._config = config

    def prepared(self, value: float) -> float:
        if not self._config.log:
            return value
        return math.log(value) if value > 0 else math.nan

    def judge(self, name: str, value: float, track: Track, point: TelemetryPoint) -> tuple[bool, Judgement | None]:
        config, level = self._config, track.level
        middle = level.middle
        excess = value - middle
        rise = math.expm1(min(excess, 700.0)) if config.log else excess / abs(middle) if middle else math.inf * excess
        departure = level.departure(value)
        known = not math.isnan(departure)
        if not known and not config.log and not level.beyond(value):
            return False, None
        if not (departure > config.departures and rise > config.rise if known else rise > config.rise_unknown):
            return False, None
        first = track.first_step if track.out else point.step
        at_once = config.rise_at_once is not None and rise > config.rise_at_once
        at_once = at_once and not departure <= 2 * config.departures
        sparse = track.gap >= _SPARSE_STEPS
        needed = 1 if at_once else self._needed(track, sparse)
        confirmed = track.out + 1 >= needed and (at_once or sparse or level.known >= _PAST_MIN)
        shown = math.exp(min(value, 709.0)) if config.log else value
        return True, Judgement(
            (Sign(name, shown, departure if known else rise),),
            f"{name} ({shown:.4g}) is {over(rise)} its level",
            first,
            None if confirmed else Severity.INFO,
            config.departures if known else config.rise_unknown,
            "robust_deviations" if known else "relative_rise",
        )

    def _needed(self, track: Track, sparse: bool) -> int:
        if not sparse:
            return self._config.in_a_row
        return 1 if track.level.known < _FEW else min(_SPARSE_IN_A_ROW, self._config.in_a_row)
