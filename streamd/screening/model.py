"""What a screening says: findings, worst first, and what each column looks like. Plain values; nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamd.table import Table

FORMAT = "streamd-screening/1"

ColumnType = Literal["numeric", "categorical", "time", "other"]
AxisKind = Literal["time", "rows"]


class Severity(IntEnum):
    """What a finding asks for: know of it (info), look before training (warning), do not train (critical)."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is odd about the data.

    Attributes:
        kind: a short fixed word, such as `outliers` or `leakage`.
        columns: what it is about; empty for the whole of the data.
        evidence: JSON values: counts, shares, thresholds, rows (counted from 0), a time as RFC 3339.
        sentence: what, where, how much.
        remedy: what to do about it.
        weight: orders findings of one severity; larger is worse. The share of the rows that it touches, mostly.
    """

    kind: str
    severity: Severity
    columns: tuple[str, ...]
    evidence: Mapping[str, Any]
    sentence: str
    remedy: str
    weight: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As it stands in the JSON of all findings: `column` for one column, `columns` for several or none."""
        about = {"column": self.columns[0]} if len(self.columns) == 1 else {"columns": list(self.columns)}
        return {
            "kind": self.kind,
            "severity": self.severity.word,
            **about,
            "evidence": plain(self.evidence),
            "sentence": self.sentence,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Axis:
    """What series are drawn over: buckets of equal width of the time, or of the rows' numbers.

    Attributes:
        kind: `time` where --time was given, else `rows`.
        origin: of the first bucket: epoch seconds, or a row.
        width: of each bucket: seconds, or rows.
        buckets: how many.
        text_factor: buckets that are one bucket of a categorical column's series: a day's, where there are days.
    """

    kind: AxisKind
    origin: float
    width: float
    buckets: int
    text_factor: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of the values in (bins,) between (bins + 1,) rising `edges`; the outer bins hold what lies beyond."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A numeric column's figures; those of a column without any finite value are NaN.

    Attributes:
        fences: Q1 − 1.5·IQR and Q3 + 1.5·IQR.
        beyond_fences, beyond_3_sigma: rows outside of the fences, and with |z| > 3 (scipy's zscore, ddof 0).
        worst: (row, value) of the most extreme values, the most extreme first.
        tail_index: Hill's estimate of the heavier tail; small is heavy, below 2 there is no variance. NaN: too few.
    """

    minimum: float
    first_quartile: float
    median: float
    third_quartile: float
    maximum: float
    mean: float
    deviation: float
    skewness: float
    excess_kurtosis: float
    tail_index: float
    zeros: int
    negative: int
    nonfinite: int
    fences: tuple[float, float]
    beyond_fences: int
    beyond_3_sigma: int
    worst: tuple[tuple[int, float], ...]
    histogram: Histogram


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A column over `Screening.axis`: one value a bucket, NaN where a bucket has no rows.

    Attributes:
        rows: (buckets,) values in each; of a categorical column (buckets / text_factor, rounded up), as `distinct`.
        mean: (buckets,) of a numeric column; empty for a categorical one.
        low, high: (buckets,) the moving mean ± factor · deviation of the window before; empty as `mean`.
        outside: buckets whose mean lies outside of it.
        distinct: different values in each bucket of a categorical column; empty for a numeric one.
    """

    rows: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    outside: tuple[int, ...]
    distinct: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """What one column looks like.

    Attributes:
        type: `numeric`, `categorical` (text, booleans), `time`, `other` (lists, bytes: counted alone).
        stored: its type in the file, in Arrow's words.
        distinct: different values, exact where `distinct_exact`.
        numbers: of a numeric column.
        categories: (value, rows) of the commonest values of a categorical column, the commonest first.
        series: over the axis; None without one.
    """

    name: str
    type: ColumnType
    stored: str
    rows: int
    missing: int
    distinct: int
    distinct_exact: bool
    numbers: Numbers | None = None
    categories: tuple[tuple[str, int], ...] = ()
    series: Series | None = None


@dataclass(frozen=True, slots=True)
class StrangeRow:
    """A row that the isolation forest sets apart: its number from 0, its score, and (column, value, share of the
    score), the largest share first."""

    row: int
    score: float
    reasons: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, eq=False)
class Screening:
    """All that a screening found.

    Attributes:
        source: what was screened, in words: a path, `a pandas DataFrame`.
        rows: how many.
        columns: in the order of the data.
        findings: worst first.
        axis: of the columns' series.
        strange_rows: the strangest first.
        sample: rows drawn evenly from all of them, in their order: the profile, and what pictures may draw.
        seconds: that it took; the shell fills it in.
    """

    source: str
    rows: int
    columns: tuple[Column, ...]
    findings: tuple[Finding, ...]
    axis: Axis | None = None
    strange_rows: tuple[StrangeRow, ...] = ()
    sample: Table = field(default_factory=lambda: Table(0))
    suspicious: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Numbers of the rows, rising, that a finding of `warning` or worse names: what --split sets apart."""

    seconds: float = 0.0

    @property
    def severity(self) -> Severity | None:
        """Of the worst finding; None without any."""
        return max((finding.severity for finding in self.findings), default=None)

    def about(self, column: str) -> tuple[Finding, ...]:
        """The findings that name that column."""
        return tuple(finding for finding in self.findings if column in finding.columns)

    def to_json(self) -> dict[str, Any]:
        """JSON values: the findings, worst first, and the figures of each column."""
        return {
            "format": FORMAT,
            "source": self.source,
            "rows": self.rows,
            "findings": [finding.to_json() for finding in self.findings],
            "columns": [_column_json(column) for column in self.columns],
            "strange_rows": [
                {
                    "row": each.row,
                    "score": each.score,
                    "reasons": [{"column": c, "value": v, "share": s} for c, v, s in each.reasons],
                }
                for each in self.strange_rows
            ],
        }

    def _repr_html_(self) -> str:
        """The page, for a notebook."""
        from streamd.screening.page import notebook  # a program that wants the findings alone need not draw

        return notebook(self)


def plain(value: Any) -> Any:
    """JSON values: what is not finite is null, arrays are lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """By severity, then weight; what is equal stays in the order in which it was found."""
    return tuple(sorted(findings, key=lambda finding: (-finding.severity, -finding.weight)))


def _column_json(column: Column) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "stored": column.stored,
        "rows": column.rows,
        "missing": column.missing,
        "distinct": column.distinct,
        "distinct_exact": column.distinct_exact,
    }
    if column.numbers is not None:
        numbers = column.numbers
        histogram = numbers.histogram
        told["numbers"] = {
            name: getattr(numbers, name) for name in Numbers.__slots__ if name not in ("histogram", "worst", "fences")
        } | {
            "fences": list(numbers.fences),
            "worst": [{"row": row, "value": value} for row, value in numbers.worst],
            "histogram": {"edges": histogram.edges.tolist(), "counts": histogram.counts.tolist()},
        }
    if column.categories:
        told["categories"] = [{"value": value, "rows": rows} for value, rows in column.categories]
    told_plainly: dict[str, Any] = plain(told)
    return told_plainly
