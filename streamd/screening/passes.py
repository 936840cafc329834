"""The two passes over the rows: what each chunk gives, and how chunks add up. The same functions on every engine.

pass 1   chunk ──▶ DataSummary: the columns' summaries, hashes of the rows, drawn rows, broken rules
pass 2   chunk ──▶ Counted: values beyond bounds that pass 1 gave, bars of the histograms, the strangest rows
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.base import Scorer
from streamd.screening.axis import buckets_of
from streamd.screening.model import Axis
from streamd.screening.rules import Broken, Rules
from streamd.screening.sketches import Distinct, Rows, mixed
from streamd.screening.source import Chunk, Source
from streamd.screening.summaries import NumericSummary, OtherSummary, Place, Sizes, Summary, TextSummary, hashes_of
from streamd.screening.values import Field, Numeric, Other, Text, Values, values_of
from streamd.table import Categorical, FloatArray, Table, concatenate

ROW_HASHES = 1_000_000  # rows of which duplicates are counted exactly; of more, those of a sample by hash
STRANGE_ROWS = 50  # that are remembered
SUSPICIOUS_MAX = 1_000_000  # row numbers that are remembered, of each column

Watch = Callable[[int], None]
"""Told how many rows more have been read."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the passes have to know beforehand.

    Attributes:
        fields: of all columns.
        axis: of the series.
        time: the name of the time column.
        sizes: how much is remembered.
        drawn: the numbers, rising, of the rows that are kept whole.
        rules: what must hold.
    """

    fields: tuple[Field, ...]
    axis: Axis
    time: str | None
    sizes: Sizes
    drawn: Rows
    rules: Rules


class DataSummary:
    """Of some neighbouring rows. Add batches in order; merge with the summary of the rows that follow."""

    def __init__(self, plan: Plan, first_row: int) -> None:
        self.first_row, self.rows = first_row, 0
        self.columns: dict[str, Summary] = {field.name: _summary(field, plan) for field in plan.fields}
        self.row_hashes = Distinct(ROW_HASHES)
        self.samples: list[Table] = []
        self.broken: list[Broken] = plan.rules.none_broken()

    def add(self, plan: Plan, first_row: int, batch: Any) -> None:
        """One Arrow table, whose first row has that number."""
        columns = {field.name: values_of(batch.column(field.name), field) for field in plan.fields}
        times = columns[plan.time] if plan.time is not None else None
        seconds = times.values if isinstance(times, Numeric) else None
        place = Place(first_row, buckets_of(plan.axis, seconds, first_row, batch.num_rows))
        for name, values in columns.items():
            _add(self.columns[name], values, place, batch.num_rows)
        self._add_rows(columns, first_row, batch.num_rows)
        low, high = np.searchsorted(plan.drawn, [first_row, first_row + batch.num_rows])
        if high > low:
            self.samples.append(table_of(columns, batch.num_rows).take(plan.drawn[low:high] - first_row))
        for broken, more in zip(self.broken, plan.rules.check(columns, first_row), strict=True):
            broken.merge(more)
        self.rows += batch.num_rows

    def _add_rows(self, columns: Mapping[str, Values], first_row: int, rows: int) -> None:
        combined = np.zeros(rows, np.uint64)
        for values in columns.values():
            hashes = hashes_of(values)
            if hashes is not None:
                combined = combined * np.uint64(0x100000001B3) + hashes  # the order of the columns matters
        self.row_hashes.add(mixed(combined), np.arange(first_row, first_row + rows))

    def merge(self, other: DataSummary) -> None:
        for name, summary in self.columns.items():
            _merge(summary, other.columns[name], other.first_row)
        self.row_hashes.merge(other.row_hashes)
        self.samples += other.samples
        for broken, more in zip(self.broken, other.broken, strict=True):
            broken.merge(more)
        self.rows += other.rows

    def sample(self) -> Table:
        """The drawn rows, in their order."""
        return concatenate(self.samples)


def _summary(field: Field, plan: Plan) -> Summary:
    if field.type == "categorical":
        return TextSummary(plan.axis, plan.sizes)
    return OtherSummary() if field.type == "other" else NumericSummary(plan.axis, plan.sizes)


def _add(summary: Summary, values: Values, place: Place, rows: int) -> None:
    match summary, values:
        case (NumericSummary(), Numeric()):
            summary.add(values, place)
        case (TextSummary(), Text()):
            summary.add(values, place)
        case (OtherSummary(), Other()):
            summary.add(values, rows)


def _merge(summary: Summary, other: Summary, first_row: int) -> None:
    match summary, other:
        case (NumericSummary(), NumericSummary()):
            summary.merge(other, first_row)
        case (TextSummary(), TextSummary()):
            summary.merge(other, first_row)
        case (OtherSummary(), OtherSummary()):
            summary.merge(other)


def table_of(columns: Mapping[str, Values], rows: int) -> Table:
    """Numbers, times as epoch seconds, and categories as a Table."""
    numeric = {name: each.values for name, each in columns.items() if isinstance(each, Numeric)}
    texts = {name: Categorical(each.codes, each.names) for name, each in columns.items() if isinstance(each, Text)}
    return Table(rows, numeric, categorical=texts)


def summarise(source: Source, plan: Plan, chunk: Chunk, watch: Watch) -> DataSummary:
    """The first pass over one chunk."""
    summary = DataSummary(plan, chunk.first_row)
    for first_row, batch in source.read(chunk):
        summary.add(plan, first_row, batch)
        watch(batch.num_rows)
    return summary


# --- The second pass ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """What to count in one numeric column.

    Attributes:
        fences, sigma, tails: (low, high); what lies beyond is counted, and beyond `tails` named by its row.
        edges: (bins + 1,) of the histogram, rising.
    """

    fences: tuple[float, float]
    sigma: tuple[float, float]
    tails: tuple[float, float]
    edges: FloatArray


@dataclass(frozen=True, eq=False)
class Second:
    """What the second pass has to know.

    Attributes:
        bounds: by column.
        forest: scores rows; None: there is none.
        strange: rows with a score over this are strange.
    """

    bounds: Mapping[str, Bounds]
    forest: Scorer | None = None
    strange: float = np.inf


@dataclass(slots=True, eq=False)
class ColumnCounts:
    """Of one column: how many lie beyond, and which rows."""

    fences: int
    sigma: int
    tails: int
    tail_rows: Rows
    bars: Rows


@dataclass(slots=True, eq=False)
class Counted:
    """Of some neighbouring rows."""

    columns: dict[str, ColumnCounts]
    strange: int = 0
    strange_rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    strange_scores: FloatArray = field(default_factory=lambda: np.empty(0))
    strange_tables: list[Table] = field(default_factory=list)

    def merge(self, other: Counted) -> None:
        for name, more in other.columns.items():
            mine = self.columns.get(name)
            if mine is None:
                self.columns[name] = more
                continue
            mine.fences += more.fences
            mine.sigma += more.sigma
            mine.tails += more.tails
            mine.tail_rows = np.concatenate([mine.tail_rows, more.tail_rows])[:SUSPICIOUS_MAX]
            mine.bars = mine.bars + more.bars
        self.strange += other.strange
        scores = np.concatenate([self.strange_scores, other.strange_scores])
        rows = np.concatenate([self.strange_rows, other.strange_rows])
        tables = concatenate([*self.strange_tables, *other.strange_tables]) if len(scores) else Table(0)
        kept = np.lexsort((rows, -scores))[:STRANGE_ROWS]
        self.strange_scores, self.strange_rows = scores[kept], rows[kept]
        self.strange_tables = [tables.take(kept)] if len(kept) else []


def count(source: Source, plan: Plan, second: Second, chunk: Chunk, watch: Watch) -> Counted:
    """The second pass over one chunk."""
    wanted = [each for each in plan.fields if each.name in second.bounds or each.type in ("numeric", "categorical")]
    if second.forest is None:
        wanted = [each for each in wanted if each.name in second.bounds]
    counted = Counted({})
    if not wanted:
        watch(chunk.rows)
        return counted
    for first_row, batch in source.read(chunk, [each.name for each in wanted]):
        counted.merge(_count(wanted, second, first_row, batch))
        watch(batch.num_rows)
    return counted


def _count(fields: list[Field], second: Second, first_row: int, batch: Any) -> Counted:
    columns = {each.name: values_of(batch.column(each.name), each) for each in fields}
    counted = Counted({})
    for name, bounds in second.bounds.items():
        values = columns[name]
        assert isinstance(values, Numeric)
        counted.columns[name] = _beyond(values.values, bounds, first_row)
    if second.forest is not None:
        table = table_of(columns, batch.num_rows)
        scores = np.nan_to_num(second.forest.score(table).values, nan=-np.inf)
        strange = np.flatnonzero(scores > second.strange)
        counted.strange = len(strange)
        kept = strange[np.argsort(-scores[strange], kind="stable")[:STRANGE_ROWS]]
        counted.strange_rows, counted.strange_scores = first_row + kept, scores[kept]
        counted.strange_tables = [table.take(kept)] if len(kept) else []
    return counted


def _beyond(values: FloatArray, bounds: Bounds, first_row: int) -> ColumnCounts:
    finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
    ordered = np.sort(finite)
    n = len(ordered)

    def outside(pair: tuple[float, float]) -> int:
        return int(np.searchsorted(ordered, pair[0], "left") + n - np.searchsorted(ordered, pair[1], "right"))

    upto = np.searchsorted(ordered, bounds.edges[1:-1], "left")
    bars = np.diff(np.concatenate([[0], upto, [n]])).astype(np.int64)
    tails = outside(bounds.tails)
    rows = np.empty(0, np.int64)
    if tails:
        with np.errstate(invalid="ignore"):
            beyond = np.isfinite(values) & ((values < bounds.tails[0]) | (values > bounds.tails[1]))
        rows = first_row + np.flatnonzero(beyond)[:SUSPICIOUS_MAX]
    return ColumnCounts(outside(bounds.fences), outside(bounds.sigma), tails, rows, bars)


def drawn_rows(rows: int, columns: int, most: int = 50_000, cells: int = 5_000_000) -> Rows:
    """The numbers of rows, evenly from all of them: one at random from each of `most` stretches of equal length.

    Seeded: the same data give the same rows, whoever reads them.
    """
    count = min(rows, most, max(2000, cells // max(columns, 1)))
    if count == rows:
        return np.arange(rows)
    edges = np.linspace(0, rows, count + 1)
    jitter = np.random.default_rng(7).random(count)
    found: NDArray[np.int64] = np.floor(edges[:-1] + jitter * np.diff(edges)).astype(np.int64)
    return np.unique(found)
