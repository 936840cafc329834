"""The two passes over the rows: what each chunk gives, and how chunks add up. The same functions on every engine.

pass 1   chunk ──▶ DataSummary: the columns' summaries, hashes of the rows, drawn rows, broken rules
pass 2   chunk ──▶ Counted: values beyond bounds that pass 1 gave, bars of the histograms, the strangest rows
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.base import Scorer
from streamd.screening.axis import buckets_of
from streamd.screening.model import Axis
from streamd.screening.numbers import NumericSummary
from streamd.screening.rules import Broken, Rules
from streamd.screening.sizes import Place, Sizes
from streamd.screening.sketches import Distinct, Rows
from streamd.screening.source import Chunk, Source
from streamd.screening.summaries import Summary, add, merge, summary_of
from streamd.screening.values import MISSING_HASH, Field, Numeric, Text, Values, values_of
from streamd.table import Categorical, FloatArray, Table, concatenate

ROW_HASHES = 1_000_000  # rows of which duplicates are counted exactly; of more, those of a sample by hash
STRANGE_ROWS = 50  # that are remembered
SCORED_ROWS = 4096  # by the forest, together
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
        self.columns: dict[str, Summary] = {
            field.name: summary_of(field, plan.axis, plan.sizes) for field in plan.fields
        }
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
            add(self.columns[name], values, place, batch.num_rows)
        self._add_rows(columns, first_row, batch.num_rows)
        low, high = np.searchsorted(plan.drawn, [first_row, first_row + batch.num_rows])
        if high > low:
            self.samples.append(table_of(columns, batch.num_rows).take(plan.drawn[low:high] - first_row))
        for broken, more in zip(self.broken, plan.rules.check(columns, first_row), strict=True):
            broken.merge(more)
        self.rows += batch.num_rows

    def _add_rows(self, columns: Mapping[str, Values], first_row: int, rows: int) -> None:
        from streamd.screening import kernels  # numba costs more to import than most commands take

        hashes = np.zeros(rows, np.uint64)  # the order of the columns matters
        for values in columns.values():
            if isinstance(values, Numeric):
                kernels.combine_numbers(np.ascontiguousarray(values.values), hashes)
            elif isinstance(values, Text):
                kernels.combine_codes(values.codes, np.append(values.hashes, MISSING_HASH), hashes)
        self.row_hashes.add(hashes, np.arange(first_row, first_row + rows))

    def merge(self, other: DataSummary) -> None:
        for name, summary in self.columns.items():
            merge(summary, other.columns[name], other.first_row)
        self.row_hashes.merge(other.row_hashes)
        self.samples += other.samples
        for broken, more in zip(self.broken, other.broken, strict=True):
            broken.merge(more)
        self.rows += other.rows

    def close(self) -> None:
        """No more rows come: as it is when it was pickled, so that engines that send it give the same bits."""
        self.row_hashes.settle()
        for column in self.columns.values():
            if isinstance(column, NumericSummary):
                column.quantiles.compress()

    def sample(self) -> Table:
        """The drawn rows, in their order."""
        return concatenate(self.samples)


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
    summary.close()
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
    """

    bounds: Mapping[str, Bounds]
    forest: Scorer | None = None

    def wants(self, field: Field) -> bool:
        """Whether that column has to be read."""
        return field.name in self.bounds or (self.forest is not None and field.name in self.forest.features)


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
        scores = np.concatenate([self.strange_scores, other.strange_scores])
        rows = np.concatenate([self.strange_rows, other.strange_rows])
        tables = concatenate([*self.strange_tables, *other.strange_tables]) if len(scores) else Table(0)
        kept = np.lexsort((rows, -scores))[:STRANGE_ROWS]
        self.strange_scores, self.strange_rows = scores[kept], rows[kept]
        self.strange_tables = [tables.take(kept)] if len(kept) else []


def count(source: Source, plan: Plan, second: Second, chunk: Chunk, watch: Watch) -> Counted:
    """The second pass over one chunk."""
    wanted = [each for each in plan.fields if second.wants(each)]
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
        scores = np.concatenate([second.forest.score(part).values for part in _parts(table)])
        known = np.flatnonzero(np.isfinite(scores))
        if len(known) > STRANGE_ROWS:
            known = known[scores[known] >= np.partition(scores[known], -STRANGE_ROWS)[-STRANGE_ROWS]]
        kept = known[np.argsort(-scores[known], kind="stable")[:STRANGE_ROWS]]
        counted.strange_rows, counted.strange_scores = first_row + kept, scores[kept]
        counted.strange_tables = [table.take(kept)] if len(kept) else []
    return counted


def _parts(table: Table) -> Iterator[Table]:
    """As many rows at a time as stay in a processor's cache, one-hot."""
    for first in range(0, table.rows, SCORED_ROWS):
        yield table.take(np.arange(first, min(first + SCORED_ROWS, table.rows)))


def _beyond(values: FloatArray, bounds: Bounds, first_row: int) -> ColumnCounts:
    from streamd.screening import kernels  # numba costs more to import than most commands take

    values = np.ascontiguousarray(values)
    bars = np.zeros(len(bounds.edges) - 1, np.int64)
    limits = np.array([*bounds.fences, *bounds.sigma, *bounds.tails])
    fences, sigma, tails = kernels.beyond(values, limits, bounds.edges, bars).tolist()
    rows = np.empty(0, np.int64)
    if tails:
        far = np.isfinite(values) & ((values < bounds.tails[0]) | (values > bounds.tails[1]))
        rows = first_row + np.flatnonzero(far)[:SUSPICIOUS_MAX]
    return ColumnCounts(fences, sigma, tails, rows, bars)


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
