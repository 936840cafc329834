"""A metric against the plain mean and deviation of a rolling window, as most training frameworks judge it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.detectors.base import State
from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen

_METRICS_MAX = 64


class RollingConfig(RuleConfig):
    """Options of `rolling`.

    >>> rule = RollingConfig(window=10, multiple=2.0).build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"loss": 2.0 if i < 10 else 4.5}, {}) for i in range(11)]
    >>> [rule.update(point) for point in points][-1].finding
    'loss (4.5) over its rolling window'
    """

    type: Literal["rolling"] = "rolling"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    window: int = Field(default=30, ge=2)
    """Measurements that a step is compared with. None is judged before there are so many."""

    deviations: float | None = Field(default=None, gt=0)
    """A step is out when it is more standard deviations than this from the window's mean."""

    multiple: float | None = Field(default=None, gt=1)
    """A step is out when it is more than this many times the window's mean."""

    both_ways: bool = False
    """Far below counts, too; for `deviations`."""

    in_a_row: int = Field(default=1, ge=1)
    """Steps in a row that make a finding."""

    learn_all: bool = True
    """Steps that are out become part of the window as well."""

    def build(self) -> Rolling:
        return Rolling(self)


class Rolling(Rule):
    def __init__(self, config: RollingConfig) -> None:
        self._config = config
        self._tracks: dict[str, _Window] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        config, signs, judged, first = self._config, [], False, point.step
        for name, value in chosen(point.metrics, config.metrics):
            if not math.isfinite(value) or (name not in self._tracks and len(self._tracks) >= _METRICS_MAX):
                continue
            track = self._tracks.setdefault(name, _Window())
            effect = self._effect(value, track.values) if len(track.values) == config.window else None
            judged = judged or effect is not None
            out = effect is not None and abs(effect) > self._line
            track.out = track.out + 1 if out else 0
            if track.out == 1:
                track.first_step = point.step
            if effect is not None and track.out >= config.in_a_row:
                signs.append(Sign(name, value, abs(effect), "up" if effect > 0 else "down"))
                first = min(first, track.first_step)
            if config.learn_all or not out:
                track.learn(point.step, value, config.window)
        unit = "deviations" if config.deviations is not None else "multiple_of_mean"
        return loudest(
            signs, judged, "over its rolling window", first_step=first, threshold=self._line, effect_name=unit
        )

    @property
    def _line(self) -> float:
        return self._config.deviations or self._config.multiple or math.inf

    def _effect(self, value: float, values: list[float]) -> float:
        mean = sum(values) / len(values)
        if self._config.deviations is None:
            return value / mean if mean > 0 else 0.0
        # A product, since a power that is too large for a double raises.
        deviation = math.sqrt(sum((known - mean) * (known - mean) for known in values) / (len(values) - 1))
        away = value - mean
        if away < 0 and not self._config.both_ways:
            return 0.0
        return away / deviation if deviation > 0 else math.copysign(math.inf, away) if away else 0.0

    def resume(self, step: int) -> None:
        for track in self._tracks.values():
            track.forget_from(step)

    def snapshot(self) -> State:
        return {"tracks": [[name, t.to_state()] for name, t in self._tracks.items()]}

    def restore(self, state: State) -> None:
        self._tracks = {name: _Window(*saved) for name, saved in state["tracks"]}

    @property
    def nbytes(self) -> int:
        return sum(200 + 16 * len(track.values) for track in self._tracks.values())


class _Window:
    """One metric's last values and the excursion it is on."""

    def __init__(
        self, steps: list[int] | None = None, values: list[float] | None = None, out: int = 0, first_step: int = 0
    ) -> None:
        self.steps = list(steps or ())
        self.values = list(values or ())
        self.out = out
        self.first_step = first_step

    def learn(self, step: int, value: float, window: int) -> None:
        self.steps.append(step)
        self.values.append(value)
        del self.steps[:-window], self.values[:-window]

    def forget_from(self, step: int) -> None:
        kept = sum(1 for known in self.steps if known < step)
        del self.steps[kept:], self.values[kept:]
        self.out = 0

    def to_state(self) -> list[object]:
        return [list(self.steps), list(self.values), self.out, self.first_step]
