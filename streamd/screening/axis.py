"""The axis of the series, and what the time column says by itself: disorder, duplicates, gaps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from streamd.dataset import DataFileError
from streamd.screening.model import Axis
from streamd.screening.quantiles import Quantiles
from streamd.screening.sketches import Distinct, Rows, hashed
from streamd.table import FloatArray

ROW_BUCKETS = 200
ROW_BUCKET_MIN = 50  # rows: the mean of fewer says little
CELLS_MAX = 4_000_000  # buckets of all columns together
TEXT_BUCKETS_MAX = 2000
DAY = 86_400.0
_WIDTHS = (
    *(0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0),
    *(7200.0, 10_800.0, 14_400.0, 21_600.0, 43_200.0, DAY, 7 * DAY, 28 * DAY, 364 * DAY, 3640 * DAY),
)
GAPS = 50  # the longest, that are remembered


class TimeSummary:
    """Of the time column, in the order of the rows. Read by one process: one column is little."""

    def __init__(self) -> None:
        self.rows = self.missing = 0
        self.low, self.high = np.inf, -np.inf
        self.first, self.last = np.nan, np.nan
        self.backwards = self.repeated = 0
        self.first_backwards = -1
        self.steps = Quantiles(1000, 1, 200)
        self.distinct = Distinct(65_536)
        self.gaps = np.empty((0, 3))  # (gaps, 3): seconds, when it began, the row after it; the longest first

    def add(self, seconds: FloatArray, first_row: int) -> None:
        self.rows += len(seconds)
        present = np.flatnonzero(np.isfinite(seconds))
        self.missing += len(seconds) - len(present)
        if not len(present):
            return
        times, rows = seconds[present], first_row + present
        self.distinct.add(hashed(times), rows)
        before = np.concatenate([[self.last], times[:-1]])
        steps = times - before
        if np.isnan(before[0]):
            self.first = float(times[0])
            times, rows, before, steps = times[1:], rows[1:], before[1:], steps[1:]
        self.last = float(seconds[present[-1]])
        self.low, self.high = min(self.low, seconds[present].min()), max(self.high, seconds[present].max())
        self._steps(steps, before, rows)

    def _steps(self, steps: FloatArray, before: FloatArray, rows: Rows) -> None:
        back = np.flatnonzero(steps < 0)
        if len(back) and not self.backwards:
            self.first_backwards = int(rows[back[0]])
        self.backwards += len(back)
        self.repeated += int(np.count_nonzero(steps == 0))
        forwards = steps > 0
        self.steps.add_sorted(np.sort(steps[forwards]))
        longest = np.argsort(-steps, kind="stable")[:GAPS]
        self._keep(np.column_stack([steps[longest], before[longest], rows[longest]]))

    def _keep(self, gaps: FloatArray) -> None:
        every = np.concatenate([self.gaps, gaps])
        self.gaps = every[np.argsort(-every[:, 0], kind="stable")[:GAPS]]

    @property
    def step(self) -> float:
        """The median of the steps forwards, in seconds; NaN without any."""
        return float(self.steps.at(np.array([0.5]))[0])


def row_axis(rows: int) -> Axis:
    """Without a time."""
    buckets = max(1, min(ROW_BUCKETS, rows // ROW_BUCKET_MIN))
    width = -(-rows // buckets)
    return Axis("rows", 0.0, float(width), -(-rows // width))


def time_axis(name: str, summary: TimeSummary, columns: int, window: float) -> Axis:
    """Buckets of a good width: a 24th of the moving window where that is possible.

    Raises:
        DataFileError: the column has no time at all.
    """
    if summary.low > summary.high:
        raise DataFileError(f"column {name!r} has no time in any row: leave out --time")
    span = summary.high - summary.low
    most = int(np.clip(CELLS_MAX // max(columns, 1), 500, 50_000))
    step = 0.0 if np.isnan(summary.step) else summary.step
    wanted = max(window / 24, step, span / most, 1e-3)
    width = next((width for width in _WIDTHS if width >= wanted * 0.999), wanted)
    unit = DAY if width < DAY else width
    origin = np.floor(summary.low / unit) * unit if span > unit else np.floor(summary.low / width) * width
    buckets = int((summary.high - origin) // width) + 1
    a_day = round(DAY / width) if width <= DAY and span > 10 * DAY else 1
    return Axis("time", float(origin), float(width), buckets, max(a_day, -(-buckets // TEXT_BUCKETS_MAX)))


def buckets_of(axis: Axis, seconds: FloatArray | None, first_row: int, rows: int) -> Rows:
    """(rows,) the bucket of each row; −1 where its time is missing."""
    at = first_row + np.arange(rows, dtype=np.float64) if seconds is None else seconds
    inside = np.isfinite(at)
    places = np.floor((np.where(inside, at, axis.origin) - axis.origin) / axis.width).astype(np.int64)
    return np.where(inside, np.clip(places, 0, axis.buckets - 1), -1)


def merged(parts: Iterable[tuple[int, FloatArray]]) -> TimeSummary:
    """Of (first row, seconds) in order."""
    summary = TimeSummary()
    for first_row, seconds in parts:
        summary.add(seconds, first_row)
    return summary
