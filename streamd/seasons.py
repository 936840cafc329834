"""Seasons: whether a past repeats itself every day or week, and values made comparable whatever the hour. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.model import FeatureBatch
from streamd.table import PHASE_ROWS_MIN, FloatArray, Predictions, Table

HOUR_MS = 3_600_000
SEASONS_MS = {"24h": 24 * HOUR_MS, "7d": 7 * 24 * HOUR_MS}

SEASONS_MIN = 4
"""Repetitions before one can be noticed: of three, chance makes two alike too easily."""

FILLED_MIN = 0.8  # of a repetition's bins must have data, or it is left out
BINS = {"24h": 24, "7d": 42}  # hours of a day; four hours of a week
REPETITIONS_MAX = 60  # the last ones: more make it slow, and no surer
_SHIFTS = 1999  # p-values down to 1/2000
_SHIFTS_MAX = 400_000  # 2,000 columns
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
        judged = [_judged(each, _SHIFTS) if len(each) >= SEASONS_MIN else (0.0, 1.0) for each in binned]
        if not judged:
            continue
        tests = len(columns) * len(SEASONS_MS)
        best = int(np.lexsort((-np.array([r for r, _ in judged]), np.array([p for _, p in judged])))[0])
        correlation, p_value = judged[best]
        needed = ceil(tests / _P_MAX)  # shifts, where many columns are judged
        if p_value <= 1 / (_SHIFTS + 1) and needed > _SHIFTS + 1:
            correlation, p_value = _judged(binned[best], min(needed, _SHIFTS_MAX))
        if p_value * tests <= _P_MAX:
            found = Season(length, columns[best], correlation, p_value * tests, len(binned[best]))
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


def _judged(vectors: FloatArray, shifts: int) -> tuple[float, float]:
    """The mean correlation of one repetition with the next, and the p-value of their likeness by so many `shifts`."""
    norms = np.linalg.norm(vectors, axis=1)
    if (norms == 0).any():
        return 0.0, 1.0
    unit = vectors / norms[:, None]
    correlation = float((unit[1:] * unit[:-1]).sum(axis=1).mean())
    rows, bins = unit.shape
    rng, as_long, length = np.random.default_rng(0), 0, (unit.sum(axis=0) ** 2).sum() * (1 - 1e-9)
    for first in range(0, shifts, _SHIFTS):
        count = min(_SHIFTS, shifts - first)
        turned = rng.integers(bins, size=(count, rows))
        places = (np.arange(bins) + turned[:, :, None]) % bins  # (shifts, repetitions, bins)
        sums = np.zeros((count, bins))
        for row in range(rows):
            sums += unit[row][places[:, row]]
        as_long += int(np.count_nonzero((sums**2).sum(axis=1) >= length))
    return correlation, (1 + as_long) / (1 + shifts)


# --- Like with like -------------------------------------------------------------------------------

PHASES = {"24h": 24, "7d": 168}  # hours
POINTS_MAX = 512  # of a distribution function that are kept: 8 KB a column and phase
SEASONS_LEARNED = 2  # of a stream's first rows: in one, the hour and that day's weather are the same thing
GOLDEN = (5**0.5 - 1) / 2  # its multiples fill [0, 1) evenly, however many there are (Weyl)
_TURN = 2**20  # multiples are of numbers under this: of larger ones too few digits are left after the point


class LikeWithLike:
    """The reference of a stream by phase of the season, and batches with the values of an average time.

    Columns are told as ByPhase says, those of the predictions as well. Immutable, shared.

    Args:
        length: of the season, `24h` or `7d`.
        table: the reference, with the times of its rows.

    Attributes:
        phases: (rows,) of each row of the reference.
        phase_rows: (phases,) how many rows each has.
        reference_table: the reference with the values of an average time.
    """

    def __init__(self, length: str, table: Table) -> None:
        assert table.times_ms is not None, length
        self.length = length
        phases = self.phases = phases_of(table.times_ms, length)
        self.phase_rows = np.bincount(phases, minlength=PHASES[length]).astype(np.int64)
        count, predictions = PHASES[length], table.predictions
        self._columns = {name: ByPhase(column, phases, count) for name, column in table.numeric.items()}
        self._predicted = None if predictions is None else (predictions.kind, predictions.values.shape[1])
        self._classes = [] if predictions is None else [ByPhase(each, phases, count) for each in predictions.values.T]
        numeric = {name: self._columns[name].told(column, phases) for name, column in table.numeric.items()}
        if predictions is not None:
            told = [scale.told(each, phases) for scale, each in zip(self._classes, predictions.values.T, strict=True)]
            predictions = Predictions(predictions.kind, _rows_of(told, table.rows))
        self.reference_table = replace(table, numeric=numeric, predictions=predictions, times_ms=None, _matrices={})

    @property
    def covered(self) -> int:
        """Phases of which there are rows enough."""
        return int(np.count_nonzero(self.phase_rows >= PHASE_ROWS_MIN))

    def dated(self, batch: FeatureBatch) -> FeatureBatch:
        """The batch with its phase."""
        phase = int(phases_of(np.array([batch.event_time_ms]), self.length)[0])
        return replace(batch, phase=phase, phase_rows=int(self.phase_rows[phase]))

    def adjusted(self, batch: FeatureBatch) -> FeatureBatch:
        """The batch with its phase and the values of an average time; what the reference lacks stays as it is."""
        batch = self.dated(batch)
        phase, table, predictions = batch.phase, batch.table, batch.table.predictions
        assert phase is not None
        numeric = {
            name: self._columns[name](column, phase, batch.offset) if name in self._columns else column
            for name, column in table.numeric.items()
        }
        if predictions is not None and (predictions.kind, predictions.values.shape[1]) == self._predicted:
            pairs = zip(self._classes, predictions.values.T, strict=True)
            told = [scale(each, phase, batch.offset) for scale, each in pairs]
            predictions = Predictions(predictions.kind, _rows_of(told, table.rows))
        return replace(batch, table=replace(table, numeric=numeric, predictions=predictions, _matrices={}))


class ByPhase:
    """What a value would be at an average time: as far up in the whole reference as it is among those of its phase.

        value ──F of its phase──▶ share of the phase's rows below it ──F⁻¹ of all──▶ value at an average time

    So all phases have the whole reference's distribution, in its own units, and a window of whatever phases is compared
    with the mixture of them. What lies beyond all values of its phase lies as far beyond all values. Both
    distribution functions are drawn through the middle of each step; a value that many rows of the phase share stands
    for a whole step, over which the rows that have it are spread evenly by their numbers. Immutable, shared.

    Args:
        values: (rows,) of the reference; NaN and infinities count for nothing.
        phases: (rows,) of these rows.
        count: how many phases there are.

    Attributes:
        rows: (phases,) values of each phase. With fewer than PHASE_ROWS_MIN nothing is known of it, and told is NaN.
    """

    def __init__(self, values: FloatArray, phases: NDArray[np.intp], count: int) -> None:
        known = np.isfinite(values)
        self.rows = np.bincount(phases[known], minlength=count)
        self._whole = _Steps.of(values[known])
        self._phases = tuple(
            _Steps.of(values[known & (phases == phase)]) if self.rows[phase] >= PHASE_ROWS_MIN else None
            for phase in range(count)
        )

    def __call__(self, values: FloatArray, phase: int, number: int) -> FloatArray:
        """The values (rows,) of that phase as they would be at an average time.

        Args:
            number: of the first row; rows of one value are spread by theirs.
        """
        return self._told(values, phase, number + np.arange(len(values)))

    def told(self, values: FloatArray, phases: NDArray[np.intp]) -> FloatArray:
        """Likewise for rows of many `phases` (rows,), numbered from 0."""
        told = np.full(len(values), np.nan)
        for phase in np.unique(phases).tolist():
            rows = np.flatnonzero(phases == phase)
            told[rows] = self._told(values[rows], phase, rows)
        return told

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.rows.nbytes + sum(steps.nbytes for steps in (self._whole, *self._phases) if steps is not None)

    def _told(self, values: FloatArray, phase: int, numbers: NDArray[np.intp]) -> FloatArray:
        own = self._phases[phase]
        if own is None:
            return np.full(len(values), np.nan)
        inside = np.clip(values, own.values[0], own.values[-1])
        beyond = np.where(values == inside, 0.0, values - inside)
        shares = np.interp(inside, own.values, own.shares)
        if len(own.heights):
            place = np.minimum(np.searchsorted(own.values, inside), len(own.values) - 1)
            spread = np.where(beyond == 0.0, (numbers % _TURN) * GOLDEN % 1.0 - 0.5, 0.5 * np.sign(beyond))
            shares += np.where(own.values[place] == inside, own.heights[place], 0.0) * spread
        return np.asarray(np.interp(shares, self._whole.shares, self._whole.values) + beyond)


class _Steps(NamedTuple):
    """A distribution function: distinct values, rising; for each the share of rows below it, with half of its own;
    and the share of its own where rows share it (else 0), nothing where no two rows share any."""

    values: FloatArray
    shares: FloatArray
    heights: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> _Steps:
        distinct, counts = np.unique(values, return_counts=True)
        below = np.cumsum(counts)
        rows = max(len(values), 1)
        shares = (below - 0.5 * counts) / rows
        heights = np.where(counts > 1, counts / rows, 0.0)
        if len(distinct) > POINTS_MAX:  # evenly by rows: what many share is never left out
            ranks = np.linspace(1, rows, POINTS_MAX).round()
            kept = np.unique(np.searchsorted(below, ranks))
            distinct, shares, heights = distinct[kept], shares[kept], heights[kept]
        return cls(distinct, shares, heights if heights.any() else np.empty(0))

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self)


def phases_of(times_ms: NDArray[np.int64], length: str) -> NDArray[np.intp]:
    """The phase of each time in a season of that length."""
    width_ms = SEASONS_MS[length] // PHASES[length]
    return ((times_ms // width_ms) % PHASES[length]).astype(np.intp)


def phase_doubt(shares: FloatArray, phase_rows: NDArray[np.int64]) -> float:
    """What the phases' own distributions, known from so many rows each, add to the variance of a mean of rows that have
    these `shares` (phases,) in them, in units of the variance of one row: Σ share² / rows."""
    known = (shares > 0) & (phase_rows > 0)
    return float((shares[known] ** 2 / phase_rows[known]).sum())


def _rows_of(columns: list[FloatArray], rows: int) -> FloatArray:
    """(rows, columns), such that its transpose is contiguous: the judges want it by columns."""
    return np.array(columns).reshape(len(columns), rows).T
