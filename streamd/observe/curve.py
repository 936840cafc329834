"""A run's loss from its first record on, in so many points at most: what a person draws from memory."""

from __future__ import annotations

import math

POINTS = 120


class Curve:
    """Each point stands for as many values as the others, and is the worst of them: a NaN is never smoothed away.

    >>> curve = Curve()
    >>> for value in range(1000):
    ...     curve.add(100.0 - value)
    >>> len(curve.points), curve.points[:3]
    (63, [100.0, 84.0, 68.0])
    """

    __slots__ = ("_each", "_room", "points")

    def __init__(self) -> None:
        self.points: list[float] = []
        self._each = 1  # values that a point stands for
        self._room = 0  # values that the last point can still take

    def add(self, value: float) -> None:
        if self._room:
            self._room -= 1
            self.points[-1] = worst(self.points[-1], value)
            return
        if len(self.points) == POINTS:  # two become one
            self.points = [worst(one, two) for one, two in zip(self.points[::2], self.points[1::2], strict=True)]
            self._each *= 2
        self.points.append(value)
        self._room = self._each - 1


def worst(one: float, two: float) -> float:
    """NaN before infinity, infinity before the larger number."""
    return max(one, two, key=lambda value: (math.isnan(value), math.isinf(value), value))
