"""Healthy streams and what goes wrong with them, alike in our environment and the peers': numpy and scipy alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

COLUMNS = ("x0", "x1", "x2", "x3")
CATEGORIES = np.array([*"abcdefghij", "new"])
ROWS = 1000  # of a batch, which is a window too
DAY_MS = 86_400_000
T0_MS = 17_361 * DAY_MS  # a midnight
CHANGE_BATCHES = 5  # a change comes at a random row of so many batches
LOOKED_BATCHES = 24  # after it


@dataclass(frozen=True)
class Input:
    """Four numeric columns of deviation 1 (5/3 and lognormal apart) and one of ten equally frequent categories.

    Attributes:
        noise: draws (rows, columns).
        deviation: of a column.
        rho: each column's autocorrelation from row to row; the category's too.
        sine: amplitude of a daily sine of the batch's time, in all numeric columns.
    """

    noise: Callable[[np.random.Generator, tuple[int, int]], Floats]
    deviation: float = 1.0
    rho: float = 0.0
    sine: float = 0.0


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.normal(size=shape)


INPUTS = {
    "normal": Input(_normal),
    "t5": Input(lambda rng, shape: rng.standard_t(5, size=shape), math.sqrt(5 / 3)),
    "lognormal": Input(lambda rng, shape: rng.lognormal(size=shape), math.sqrt((math.e - 1) * math.e)),
    "AR(1) 0.5": Input(_normal, rho=0.5),
    "AR(1) 0.9": Input(_normal, rho=0.9),
    "AR(1) 0.97": Input(_normal, rho=0.97),
    "AR(1) 0.5 + daily sine": Input(_normal, rho=0.5, sine=1.0),
}


class Series:
    """One stream without an end: each batch goes on where the one before it ended."""

    def __init__(self, kind: Input, seed: list[int]) -> None:
        self._kind = kind
        self._rng = np.random.default_rng(seed)
        rho = kind.rho
        self._memory = rho * self._rng.normal(size=(1, len(COLUMNS) + 1))  # of a stationary start

    def onward(self, seed: list[int]) -> Series:
        """Another future of the same past."""
        other = Series(self._kind, seed)
        other._memory = self._memory.copy()
        return other

    def batch(self, time_ms: int, rows: int = ROWS) -> tuple[Floats, Codes]:
        """(rows, columns) numbers and (rows,) indices of CATEGORIES."""
        kind, shape = self._kind, (rows, len(COLUMNS))
        noise = np.column_stack([kind.noise(self._rng, shape), self._rng.normal(size=rows)])
        if kind.rho:
            noise *= math.sqrt(1 - kind.rho**2)
            noise, self._memory = lfilter([1.0], [1.0, -kind.rho], noise, axis=0, zi=self._memory)
        values = noise[:, :-1] + kind.sine * math.sin(2 * math.pi * (time_ms % DAY_MS) / DAY_MS)
        return np.ascontiguousarray(values), (10 * ndtr(noise[:, -1])).astype(np.int64)


def _shift(by: float) -> Callable[[Floats, Codes, Input], None]:
    def change(values: Floats, codes: Codes, kind: Input) -> None:
        values[:, 0] += by * kind.deviation

    return change


def _double_variance(values: Floats, codes: Codes, kind: Input) -> None:
    centre = math.exp(0.5) if kind.deviation > 2 else 0.0  # the lognormal's mean
    values[:, 0] = centre + math.sqrt(2) * (values[:, 0] - centre)


def _replace(values: Floats, codes: Codes, kind: Input) -> None:
    codes[codes == 3] = len(CATEGORIES) - 1


CHANGES: dict[str, Callable[[Floats, Codes, Input], None]] = {
    "0.5 deviations": _shift(0.5),
    "1 deviation": _shift(1.0),
    "2 deviations": _shift(2.0),
    "variance doubled": _double_variance,
    "category replaced": _replace,
}


def changed_batches(
    series: Series, kind: Input, change: str, first_row: int, times_ms: list[int]
) -> list[tuple[Floats, Codes]]:
    """Batches at these times, with the change from `first_row` of them on."""
    batches = []
    for i, time_ms in enumerate(times_ms):
        values, codes = series.batch(time_ms)
        bad = slice(max(first_row - i * ROWS, 0), None)
        CHANGES[change](values[bad], codes[bad], kind)  # views: changed in place
        batches.append((values, codes))
    return batches


def found(delays: list[float], tried: int) -> dict[str, Any]:
    """The share found, and the delays of those, in batches."""
    if not delays:
        return {"found": 0.0, "median": None, "p90": None, "tried": tried}
    median, late = np.quantile(delays, [0.5, 0.9])
    return {
        "found": len(delays) / tried,
        "median": round(float(median), 1),
        "p90": round(float(late), 1),
        "tried": tried,
    }
