"""What the findings are made from: all that the two passes gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamd.screening.axis import DAY, TimeSummary
from streamd.screening.model import Axis
from streamd.screening.numbers import NumericSummary
from streamd.screening.passes import Bounds, Counted, DataSummary
from streamd.screening.texts import TextSummary
from streamd.screening.values import Field
from streamd.table import Table


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may set.

    Attributes:
        label: the column that a model is to predict.
        time: the column that orders the rows.
        window_seconds, factor: of the moving mean ± factor · deviation.
    """

    label: str | None = None
    time: str | None = None
    window_seconds: float = DAY
    factor: float = 2.5


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything known of a data set; nothing reads its rows again.

    Attributes:
        fields: the columns.
        summary: of the first pass.
        bounds, counted: of the second.
        sample: rows drawn evenly from all, in their order.
        time: of the time column, where there is one.
    """

    rows: int
    fields: tuple[Field, ...]
    axis: Axis
    options: Options
    summary: DataSummary
    bounds: Mapping[str, Bounds]
    counted: Counted
    sample: Table
    time: TimeSummary | None

    def numeric(self) -> list[tuple[str, NumericSummary]]:
        """The columns of numbers, without times."""
        kinds = {field.name: field.type for field in self.fields}
        found = self.summary.columns.items()
        return [(n, s) for n, s in found if isinstance(s, NumericSummary) and kinds[n] == "numeric"]

    def texts(self) -> list[tuple[str, TextSummary]]:
        """The columns of categories."""
        return [(n, s) for n, s in self.summary.columns.items() if isinstance(s, TextSummary)]
