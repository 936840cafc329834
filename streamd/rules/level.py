"""Where a metric stands: the median of its recent past, and how far steps usually are from it.

    value ─▶ residual = value − median(last 25)     ┐  departure = (residual − median) / (1.4826 · MAD)
             residuals: the last 100 of these       ┘  the MAD of a normal is 0.6745 of its deviation

Values are judged first and learned after, and one that stands out is not learned: a level must not follow a fault.
"""

from __future__ import annotations

import math

from streamd.detectors.base import State

RESIDUALS = 100  # enough that the MAD itself is known to 10 %
SCALE_MIN = 25  # residuals before their spread is believed
SPREAD = 1.4826  # of a normal distribution: deviation / MAD


def median(values: list[float]) -> float:
    """Of a list that is not empty; the mean of the middle two where there are two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Level:
    """One metric's recent past.

    Args:
        window: values that the median is taken of.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self.steps: list[int] = []
        self.values: list[float] = []
        self._residuals: list[float] = []
        self._centre = 0.0
        self._scale = math.nan
        self.learned = 0  # values in all

    @property
    def known(self) -> int:
        """How many values it rests on."""
        return len(self.values)

    @property
    def middle(self) -> float:
        """The median of the window, which must not be empty."""
        return median(self.values)

    @property
    def scale(self) -> float:
        """The usual distance of a step from the level, as a normal's deviation; NaN while it is not known."""
        return self._scale

    def departure(self, value: float) -> float:
        """How many usual distances `value` is above (below: negative) where the level would have it; NaN: not known.

        A level that never moved knows no distance: anything else is infinitely far away.
        """
        excess = value - self.middle - self._centre
        if math.isnan(self._scale):
            return math.nan
        return excess / self._scale if self._scale > 0 else math.copysign(math.inf, excess) if excess else 0.0

    def beyond(self, value: float) -> bool:
        """Whether `value` is further above the level than the window is wide: all that is known without a distance.

        Never of a past on both sides of zero, where shares of the level mean nothing.
        """
        low, high = min(self.values), max(self.values)
        return low * high > 0 and value - self.middle > high - low

    def learn(self, step: int, value: float) -> None:
        """Take the value into the past."""
        self.learned += 1
        if self.values:
            self._residuals.append(value - self.middle)
            del self._residuals[:-RESIDUALS]
            self._measure()
        self.steps.append(step)
        self.values.append(value)
        del self.steps[: -self._window], self.values[: -self._window]

    def _measure(self) -> None:
        if len(self._residuals) >= SCALE_MIN:
            centre = self._centre = median(self._residuals)
            self._scale = SPREAD * median([abs(residual - centre) for residual in self._residuals])

    def forget_from(self, step: int) -> None:
        """Forget the values from `step` on. How far steps usually are from the level stays true."""
        kept = sum(1 for known in self.steps if known < step)
        del self.steps[kept:], self.values[kept:]

    def renew(self) -> None:
        """A new level begins."""
        self.steps.clear()
        self.values.clear()
        self._residuals.clear()
        self._centre, self._scale, self.learned = 0.0, math.nan, 0

    def to_state(self) -> State:
        return {
            "steps": list(self.steps),
            "values": list(self.values),
            "residuals": list(self._residuals),
            "learned": self.learned,
        }

    @classmethod
    def from_state(cls, window: int, state: State) -> Level:
        level = cls(window)
        level.steps, level.values = list(state["steps"]), list(state["values"])
        level._residuals = list(state["residuals"])
        level.learned = state["learned"]
        level._measure()
        return level

    @property
    def nbytes(self) -> int:
        return 200 + 16 * len(self.values) + 8 * len(self._residuals)
