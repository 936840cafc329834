"""Seasons: whether a past repeats itself every day or week, and values made comparable whatever the hour. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamd.model import FeatureBatch
from streamd.table import PHASE_ROWS_MIN, FloatArray, Table

HOUR_MS = 3_600_000
SEASONS_MS = {"24h": 24 * HOUR_MS, "7d": 7 * 24 * HOUR_MS}

SEASONS_MIN = 4
"""Repetitions before one can be noticed: of three, chance makes two alike too easily."""

FILLED_MIN = 0.8  # of a repetition's bins must have data, or it is left out
BINS = {"24h": 24, "7d": 42}  # hours of a day; four hours of a week
REPETITIONS_MAX = 60  # the last ones: more make it slow, and no surer
_SHIFTS = 1999  # p-values down to 1/2000
_P_MAX = 0.01


@dataclass(frozen=True, slots=True)
class Season:
    """A season that the past has.

    Attributes:
        length: `24h` or `7d`.
        column: where it is strongest.
        correlation: of that column's batch means with those one season before.
        p_value: adjusted for the number of columns and of seasons.
        repetitions: in the past.
    """

    length: str
    column: str
    correlation: float
    p_value: float
    repetitions: int


def find_season(times_ms: NDArray[np.int64], means: FloatArray, columns: tuple[str, ...]) -> Season | None:
    """The season of a past, None where it shows none. A week is only one where a day alone does not explain it.

    Batch means are averaged in bins of event time, and each repetition is one vector. Where the vectors resemble each
    other, their mean is long: so long that turning each around by a random number of bins, which leaves its own
    autocorrelation as it is, hardly ever gives as much (a permutation test, seeded).

    Args:
        times_ms: (batches,) event times.
        means: (batches, columns); NaN where there is none.
    """
    found: Season | None = None
    for length in ("24h", "7d"):
        binned = [_repetitions(times_ms, column, length, found is not None) for column in means.T]
        judged = [_judged(each) if len(each) >= SEASONS_MIN else (0.0, 1.0) for each in binned]
        p_values = [p * len(columns) * len(SEASONS_MS) for _, p in judged]
        best = int(np.lexsort((-np.array([r for r, _ in judged]), np.array(p_values)))[0]) if judged else 0
        if judged and p_values[best] <= max(_P_MAX, len(columns) * len(SEASONS_MS) / (_SHIFTS + 1)):
            correlation = judged[best][0]
            found = Season(length, columns[best], correlation, min(p_values[best], 1.0), len(binned[best]))
    return found


def _repetitions(times_ms: NDArray[np.int64], values: FloatArray, length: str, without_days: bool) -> FloatArray:
    """(repetitions, bins) mean values less each repetition's mean; those with too little data are left out."""
    bins = BINS[length]
    width = SEASONS_MS[length] // bins
    known = np.isfinite(values)
    if not known.any():
        return np.empty((0, bins))
    place = times_ms[known] // width
    first = -(-int(place.min()) // bins) * bins  # whole repetitions alone
    rows = (int(place.max()) + 1 - first) // bins
    inside = (place >= first) & (place < first + rows * bins)
    if rows < SEASONS_MIN:
        return np.empty((0, bins))
    spot = (place[inside] - first).astype(np.intp)
    counts = np.bincount(spot, minlength=rows * bins).reshape(rows, bins)
    sums = np.bincount(spot, values[known][inside], rows * bins).reshape(rows, bins)
    kept = np.flatnonzero((counts > 0).mean(axis=1) >= FILLED_MIN)[-REPETITIONS_MAX:]
    with np.errstate(invalid="ignore"):
        grid = (sums / counts)[kept]
    filled = grid - np.nanmean(grid, axis=1, keepdims=True) if len(grid) else grid
    filled = np.nan_to_num(filled)
    if without_days:  # a week's bins are of four hours: six make a day
        daily = filled.reshape(len(filled), -1, 6)
        filled = (daily - daily.mean(axis=(0, 1))).reshape(filled.shape)
    return filled


def _judged(vectors: FloatArray) -> tuple[float, float]:
    """The mean correlation of one repetition with the next, and the p-value of their likeness."""
    norms = np.linalg.norm(vectors, axis=1)
    if (norms == 0).any():
        return 0.0, 1.0
    unit = vectors / norms[:, None]
    correlation = float((unit[1:] * unit[:-1]).sum(axis=1).mean())
    rows, bins = unit.shape
    turned = np.random.default_rng(0).integers(bins, size=(_SHIFTS, rows))
    places = (np.arange(bins) + turned[:, :, None]) % bins  # (shifts, repetitions, bins)
    sums = np.zeros((_SHIFTS, bins))
    for row in range(rows):
        sums += unit[row][places[:, row]]
    as_long = np.count_nonzero((sums**2).sum(axis=1) >= (unit.sum(axis=0) ** 2).sum() * (1 - 1e-9))
    return correlation, (1 + as_long) / (1 + _SHIFTS)


# --- Like with like -------------------------------------------------------------------------------

PHASES = {"24h": 24, "7d": 168}  # hours
POINTS_MAX = 512  # of a distribution function that are kept: 8 KB a column and phase
SEASONS_LEARNED = 2  # of a stream's first rows: in one, the hour and that day's weather are the same thing


class LikeWithLike:
    """What a value would be at an average time: as far up in the whole reference as it is among those of its phase.

        value ──F of its phase──▶ share of the phase's rows below it ──F⁻¹ of all──▶ value at an average time

    So all phases have the whole reference's distribution, in its own units, and a window of whatever phases is compared
    with the mixture of them. What lies beyond all values of its phase lies as far beyond all values. Both
    distribution functions are drawn through the middle of each step. Immutable, shared.

    Args:
        length: of the season, `24h` or `7d`.
        table: the reference, with the times of its rows.
    """

    def __init__(self, length: str, table: Table) -> None:
        assert table.times_ms is not None, length
        self.length = length
        self._width_ms = SEASONS_MS[length] // PHASES[length]
        phases = self.phases = ((table.times_ms // self._width_ms) % PHASES[length]).astype(np.intp)
        self.phase_rows = np.bincount(phases, minlength=PHASES[length]).astype(np.int64)
        self._whole = {name: _steps(column) for name, column in table.numeric.items()}
        self._phases = [
            {name: _steps(column[phases == phase]) for name, column in table.numeric.items()}
            for phase in range(PHASES[length])
        ]
        numeric = {name: column.copy() for name, column in table.numeric.items()}
        for phase in np.flatnonzero(self.phase_rows).tolist():
            rows = np.flatnonzero(phases == phase)
            for name, column in numeric.items():
                column[rows] = self._value(name, column[rows], phase)
        self.reference_table = replace(table, numeric=numeric, times_ms=None, _matrices={})

    @property
    def covered(self) -> int:
        """Phases of which there are rows enough."""
        return int(np.count_nonzero(self.phase_rows >= PHASE_ROWS_MIN))

    def adjusted(self, batch: FeatureBatch) -> FeatureBatch:
        """The batch with the values of an average time; columns that the reference lacks stay as they are."""
        phase = int(batch.event_time_ms // self._width_ms) % PHASES[self.length]
        numeric = {
            name: self._value(name, column, phase) if name in self._whole else column
            for name, column in batch.table.numeric.items()
        }
        return replace(batch, table=replace(batch.table, numeric=numeric, _matrices={}), phase=phase)

    def _value(self, name: str, values: FloatArray, phase: int) -> FloatArray:
        own, own_shares = self._phases[phase][name]
        whole, shares = self._whole[name]
        if len(own) == 0 or self.phase_rows[phase] < PHASE_ROWS_MIN:
            return np.full(len(values), np.nan)
        inside = np.clip(values, own[0], own[-1])
        beyond = np.where(values == inside, 0.0, values - inside)
        return np.asarray(np.interp(np.interp(inside, own, own_shares), shares, whole) + beyond)


def _steps(column: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distinct finite values, rising, and for each the share of rows below it, with half of its own."""
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    shares = (np.cumsum(counts) - 0.5 * counts) / max(counts.sum(), 1)
    if len(values) > POINTS_MAX:
        kept = np.linspace(0, len(values) - 1, POINTS_MAX).round().astype(np.intp)
        values, shares = values[kept], shares[kept]
    return values, shares
