"""What the rules about a metric's level share: one track a metric, what stands out is not learned, resumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streamd.detectors.base import State
from streamd.model import TelemetryPoint
from streamd.rules.base import CALM, Judgement, Rule
from streamd.rules.level import Level
from streamd.rules.names import chosen

WINDOW = 25  # values of a level: long enough to ride out a hard batch or three, short enough to follow a descent
METRICS_MAX = 64  # that one rule follows; the rest of a run's metrics are not judged by it
ADOPT_POINTS = 250  # a level that stays this long is the new normal: the loss was changed, or a person accepted it


@dataclass(slots=True)
class Track:
    """One metric: its level, and the excursion that it is on.

    Attributes:
        out: measurements in a row that stand out.
        first_step: where they began.
        heights: the last of them, as distances from the level, for who asks whether they fall.
        gap: steps between the last two measurements.
    """

    level: Level = field(default_factory=lambda: Level(WINDOW))
    out: int = 0
    first_step: int = 0
    heights: list[float] = field(default_factory=list)
    last_step: int = -1
    gap: int = 1


def over(share: float) -> str:
    """How far above its level something is, for a sentence.

    >>> over(0.58), over(1.6)
    ('58 % over', '2.6 times')
    """
    return f"{1 + share:.1f} times" if share > 1 else f"{100 * share:.0f} % over"


class Leveled(Rule):
    """Follows the level of each metric that it is about; a subclass says what stands out."""

    def __init__(self, metrics: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._tracks: dict[str, Track] = {}

    def judge(self, name: str, value: float, track: Track, point: TelemetryPoint) -> tuple[bool, Judgement | None]:
        """Whether the value stands out, so that it is not learned; and what to say if there is something to say."""
        raise NotImplementedError

    def prepared(self, value: float) -> float:
        """The value on the scale that is judged; NaN: it has none there."""
        return value

    def update(self, point: TelemetryPoint) -> Judgement | None:
        found: list[Judgement] = []
        judged = False
        for name, raw in chosen(point.metrics, self._metrics):
            value = self.prepared(raw)
            if not math.isfinite(value):
                continue  # a finding of its own: see nonfinite
            track = self._tracks.get(name)
            if track is None:
                if len(self._tracks) >= METRICS_MAX:
                    continue
                track = self._tracks[name] = Track()
            judged = judged or track.level.known > 0
            said = self._followed(name, value, track, point)
            if said is not None:
                found.append(said)
        if found:
            return max(found, key=lambda said: said.signs[0].effect)
        return CALM if judged else None

    def _followed(self, name: str, value: float, track: Track, point: TelemetryPoint) -> Judgement | None:
        if track.last_step >= 0:
            track.gap = max(1, point.step - track.last_step)
        track.last_step = point.step
        out, said = self.judge(name, value, track, point) if track.level.known else (False, None)
        if not out:
            track.out, track.heights = 0, []
            track.level.learn(point.step, value)
            return said
        if not track.out:
            track.first_step = point.step
        track.out += 1
        if track.out >= ADOPT_POINTS:
            track.level.renew()
            track.out, track.heights = 0, []
        return said

    def resume(self, step: int) -> None:
        for track in self._tracks.values():
            track.level.forget_from(step)
            track.out, track.heights, track.last_step = 0, [], -1

    def snapshot(self) -> State:
        return {
            "tracks": [
                [name, t.level.to_state(), t.out, t.first_step, list(t.heights), t.last_step, t.gap]
                for name, t in self._tracks.items()
            ]
        }

    def restore(self, state: State) -> None:
        self._tracks = {name: Track(Level.from_state(WINDOW, level), *rest) for name, level, *rest in state["tracks"]}

    @property
    def nbytes(self) -> int:
        return sum(100 + track.level.nbytes for track in self._tracks.values())
