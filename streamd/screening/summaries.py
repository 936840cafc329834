"""The mergeable summary of each column: fed batch by batch in the order of the rows, merged with that of later rows."""

from __future__ import annotations

from streamd.screening.model import Axis
from streamd.screening.numbers import NumericSummary
from streamd.screening.sizes import Place, Sizes
from streamd.screening.texts import TextSummary
from streamd.screening.values import Field, Numeric, Other, Text, Values


class OtherSummary:
    """Of a column that is neither: lists, bytes, nothing at all."""

    def __init__(self) -> None:
        self.rows = self.nulls = 0

    @property
    def missing(self) -> int:
        return self.nulls

    def add(self, column: Other, rows: int) -> None:
        self.rows += rows
        self.nulls += column.nulls

    def merge(self, other: OtherSummary) -> None:
        self.rows += other.rows
        self.nulls += other.nulls


Summary = NumericSummary | TextSummary | OtherSummary


def summary_of(field: Field, axis: Axis, sizes: Sizes) -> Summary:
    """An empty one."""
    if field.type == "categorical":
        return TextSummary(axis, sizes)
    return OtherSummary() if field.type == "other" else NumericSummary(axis, sizes)


def add(summary: Summary, values: Values, place: Place, rows: int) -> None:
    """One batch of the column."""
    match summary, values:
        case (NumericSummary(), Numeric()):
            summary.add(values, place)
        case (TextSummary(), Text()):
            summary.add(values, place)
        case (OtherSummary(), Other()):
            summary.add(values, rows)


def merge(summary: Summary, other: Summary, first_row: int) -> None:
    """Into the first: the same column's summary of the rows from `first_row` on."""
    match summary, other:
        case (NumericSummary(), NumericSummary()):
            summary.merge(other, first_row)
        case (TextSummary(), TextSummary()):
            summary.merge(other, first_row)
        case (OtherSummary(), OtherSummary()):
            summary.merge(other)
