"""The number of distinct values over a sliding window, against its past: a burst of new categories."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.detectors.base import Detector, DetectorConfig, Remembers
from streamd.detectors.wording import short
from streamd.model import Direction, FeatureBatch, Kind, Verdict, Window
from streamd.table import Categorical, FloatArray

IntArray = NDArray[np.int64]

WINDOW_PARTS = 96  # a day's window moves in quarters of an hour
RECENT_BATCHES = 5  # not compared with: a burst that is spread over a few batches must not vouch for itself
NAMED_MAX = 3  # new values, and columns, in the sentence


class CardinalityConfig(DetectorConfig):
    """Options of `cardinality`.

    >>> from streamd.table import Table
    >>> detector = CardinalityConfig().build("cardinality", None)
    >>> def batch(offset, distinct):
    ...     codes = np.arange(256, dtype=np.int32) % distinct
    ...     country = Categorical(codes, tuple(f"c{i}" for i in range(distinct)))
    ...     return FeatureBatch("fraud/7", 0, offset, Table(256, categorical={"country": country}))
    >>> for offset in range(20):
    ...     _ = detector.update(batch(offset, 5))
    >>> [verdict] = detector.update(batch(20, 200))
    >>> verdict.finding
    'country: 200 distinct values over 5376 rows (expected at most 7), new: c5, c6, c7'
    """

    type: Literal["cardinality"] = "cardinality"
    needs_reference: ClassVar[bool] = False

    window_hours: float = Field(default=24.0, gt=0)
    """Event time over which values are counted: a day, so that the values of its hours are all in it."""

    window_rows: int | None = Field(default=None, ge=WINDOW_PARTS)
    """Rows over which values are counted instead; null: `window_hours` of event time."""

    numeric_columns: tuple[str, ...] = ()
    """Numeric columns to count too, by name: codes and ids. Every value of a measurement is new."""

    effect_threshold: float = Field(default=2.0, ge=1)
    """Distinct values must be more than this many times those of the past: doubled."""

    values_min: int = Field(default=10, ge=1)
    """The past counts for at least this many in that ratio: from 2 to 5 values is a doubling and no burst."""

    min_batches: int = Field(default=10, ge=RECENT_BATCHES + 1)
    """Batches before the first judgement."""

    past_batches: int = Field(default=100, ge=RECENT_BATCHES + 1)
    """Past numbers of distinct values that are compared with."""

    values_max: int = Field(default=1000, ge=1)
    """Values that are kept of a column; beyond, it has `at least` so many and cannot burst. Bounds the memory:
    about 0.1 MB a column."""

    max_columns: int = Field(default=200, ge=1)
    """Columns that are followed, the first that are seen."""

    def build(self, name: str, profile: Any) -> Detector:
        return CardinalityDetector(name, self)


class CardinalityDetector:
    """One stream's columns. A rule: there is no p-value.

    What a column may have is the largest number of distinct values in the past windows, or, where the window
    now holds more rows than the one RECENT_BATCHES ago, that one's number times the ratio of the rows: while
    nothing changes, the expected number of distinct values rises no faster than the rows (it is concave in
    them and 0 at 0), so natural growth of a young window or of busy hours is never a burst.
    """

    def __init__(self, name: str, config: CardinalityConfig) -> None:
        self._name = name
        self._config = config
        self._columns: dict[str, _Column] = {}
        self._rows_seen = 0
        self._latest_ms = 0

    def snapshot(self) -> dict[str, Any]:
        columns = [[name, column.snapshot()] for name, column in self._columns.items()]
        return {"columns": columns, "rows_seen": self._rows_seen, "latest_ms": self._latest_ms}

    def restore(self, state: dict[str, Any]) -> None:
        self._columns = {name: _Column(self._config.past_batches) for name, _ in state["columns"]}
        for name, column in state["columns"]:
            self._columns[name].restore(column)
        self._rows_seen, self._latest_ms = state["rows_seen"], state["latest_ms"]

    @property
    def nbytes(self) -> int:
        return 64 + sum(column.nbytes for column in self._columns.values())

    def take_over(self, before: CardinalityDetector, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        self._columns = {name: column for name, column in before._columns.items() if name not in columns}
        self._rows_seen, self._latest_ms = before._rows_seen, before._latest_ms

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """A Verdict on every batch, once a column has `min_batches` of past."""
        bucket = self._bucket(batch)
        names, counts, effects, texts = [], [], [], []
        for name, values, rows in self._values(batch):
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= self._config.max_columns:
                    continue
                column = self._columns[name] = _Column(self._config.past_batches)
            column.forget(bucket)
            new = [value for value in values if value not in column.values]
            distinct = min(len(column.values) + len(new), self._config.values_max)
            total = column.rows_in_window + rows
            names.append(name)
            counts.append(float(distinct))
            allowed = column.allowed(total) if column.judged >= self._config.min_batches else np.nan
            effect = max(1.0 + (distinct - allowed) / max(allowed, self._config.values_min), 0.0)
            effects.append(effect)
            if effect > self._config.effect_threshold:
                texts.append(_sentence(name, distinct, self._config.values_max, total, allowed, new))
            else:  # a batch that alarmed never becomes part of the past
                column.learn(values, bucket, rows, self._config.values_max)
        if np.isnan(effects).all():
            return ()
        return (self._verdict(batch, names, counts, effects, texts),)

    def _bucket(self, batch: FeatureBatch) -> int:
        """Which part of the window the batch belongs to. Never goes back: late values count as seen now."""
        self._rows_seen += batch.table.rows
        self._latest_ms = max(self._latest_ms, batch.event_time_ms)
        if self._config.window_rows is not None:
            return self._rows_seen * WINDOW_PARTS // self._config.window_rows
        return int(self._latest_ms / (self._config.window_hours * 3_600_000 / WINDOW_PARTS))

    def _values(self, batch: FeatureBatch) -> Iterable[tuple[str, list[str], int]]:
        """Each column's distinct values, in a fixed order, and its rows that are not missing."""
        for name, column in batch.table.categorical.items():
            values, rows = _distinct(column)
            if rows:
                yield name, values, rows
        for name in self._config.numeric_columns:
            numeric = batch.table.numeric.get(name)
            if numeric is not None and (rows := int(np.count_nonzero(~np.isnan(numeric)))):
                found = np.unique(numeric[~np.isnan(numeric)] + 0.0).tolist()
                yield name, [str(int(v)) if v.is_integer() else str(v) for v in found], rows

    def _verdict(
        self, batch: FeatureBatch, names: list[str], counts: list[float], effects: list[float], texts: list[str]
    ) -> Verdict:
        more = len(texts) - NAMED_MAX
        finding = "; ".join(texts[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        judged = np.array(effects)
        direction: Direction = "up"
        return Verdict(
            detector=self._name,
            test="rule",
            kind=Kind.FEATURES,
            columns=tuple(names),
            statistics=np.where(np.isnan(judged), np.nan, counts),
            p_values=None,
            adjusted=None,
            effects=judged,
            effect_name="distinct_ratio",
            effect_threshold=self._config.effect_threshold,
            directions=(direction,) * len(names),
            window=Window(batch.offset, batch.offset, batch.table.rows),
            finding=finding or f"no burst of new values over {batch.table.rows} rows",
        )


class _Column(Remembers):
    """One column's window and its past.

    `values` maps a value to the bucket in which it was last seen, the longest unseen first; `past` (2, batches)
    is a ring of distinct values and rows, as each batch found them.
    """

    remembered = ("_order", "_last", "_ids", "_rows", "_past", "judged")

    def __init__(self, past_batches: int) -> None:
        self.values: dict[str, int] = {}
        self.judged = 0
        self.rows_in_window = 0
        self._ids: IntArray = np.full(WINDOW_PARTS, -1, np.int64)
        self._rows: IntArray = np.zeros(WINDOW_PARTS, np.int64)
        self._past: FloatArray = np.zeros((2, past_batches))

    @property
    def _order(self) -> list[str]:
        return list(self.values)

    @_order.setter
    def _order(self, order: list[str]) -> None:
        self.values = dict.fromkeys(order, 0)

    @property
    def _last(self) -> list[int]:
        return list(self.values.values())

    @_last.setter
    def _last(self, last: list[int]) -> None:
        self.values = dict(zip(self.values, last, strict=True))

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(dict(state))
        self.rows_in_window = int(self._rows.sum())

    def forget(self, bucket: int) -> None:
        """Drop what is a window older than `bucket`."""
        expired = (self._ids >= 0) & (self._ids <= bucket - WINDOW_PARTS)
        if expired.any():
            self._ids[expired] = -1
            self._rows[expired] = 0
            self.rows_in_window = int(self._rows.sum())
        while self.values:
            oldest = next(iter(self.values))
            if self.values[oldest] > bucket - WINDOW_PARTS:
                break
            del self.values[oldest]

    def allowed(self, rows: int) -> float:
        """How many distinct values a window of `rows` rows may hold, by the past."""
        places = self._past.shape[1]
        held = min(self.judged, places)
        age = (self.judged - 1 - np.arange(held)) % places  # age 0 is the newest
        distinct, past_rows = self._past[:, :held]
        settled = distinct[age >= RECENT_BATCHES - 1]
        reference = (self.judged - RECENT_BATCHES) % places
        growth = max(rows / past_rows[reference], 1.0)
        return float(max(settled.max(), distinct[reference] * growth))

    def learn(self, values: list[str], bucket: int, rows: int, values_max: int) -> None:
        for value in values:
            if self.values.pop(value, None) is not None or len(self.values) < values_max:
                self.values[value] = bucket
        place = bucket % WINDOW_PARTS
        self._ids[place] = bucket
        self._rows[place] += rows
        self.rows_in_window += rows
        self._past[:, self.judged % self._past.shape[1]] = len(self.values), self.rows_in_window
        self.judged += 1


def _distinct(column: Categorical) -> tuple[list[str], int]:
    """The values that occur, in the order of the codes, and how many rows are not missing."""
    counts = np.bincount(column.codes + 1, minlength=1)
    found = np.flatnonzero(counts[1:]).tolist()
    return list(dict.fromkeys(short(column.categories[code]) for code in found)), int(counts[1:].sum())


def _sentence(name: str, distinct: int, values_max: int, rows: int, allowed: float, new: list[str]) -> str:
    least = "at least " if distinct == values_max else ""
    return (
        f"{name}: {least}{distinct} distinct values over {rows} rows (expected at most {allowed:.0f}), "
        f"new: {', '.join(new[:NAMED_MAX])}"
    )
