"""The rows that stand out: the highest scores since the last judgement, with their names and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.base import Remembers
from streamd.model import FeatureBatch, RowFinding
from streamd.table import MISSING_CODE, FloatArray, Table

Describe = Callable[[NDArray[np.int64]], Sequence[Mapping[str, Any]]]
"""From places in the batch to the fields of a RowFinding other than `id` and `score`."""


class WorstRows(Remembers):
    """At most `limit` rows of highest score, worst first; of equal ones the first that came.

    Args:
        limit: how many; 0 keeps none.
    """

    remembered: ClassVar[tuple[str, ...]] = ("kept",)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept: list[dict[str, Any]] = []  # the fields of RowFindings

    def offer(self, scores: FloatArray, batch: FeatureBatch, start: int, describe: Describe) -> None:
        """Look at `scores` (rows,), those of the batch's rows from `start` on. NaN is no score.

        `describe` is asked about the rows that are kept, by their indices in the batch.
        """
        found = self.highest(scores)
        if len(found):
            self.keep(batch, found + start, scores[found], describe(found + start))

    def highest(self, scores: FloatArray) -> NDArray[np.int64]:
        """The places in `scores` (rows,) of those that would be kept, highest first."""
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        found = np.empty(self.limit, np.int64)
        if not self.limit:
            return found
        floor = self.kept[-1]["score"] if len(self.kept) == self.limit else -np.inf
        return found[: kernels.highest(scores, floor, found)]

    def keep(
        self, batch: FeatureBatch, rows: NDArray[np.int64], scores: FloatArray, described: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep these rows of the batch, which `highest` has named."""
        for row, score, more in zip(rows.tolist(), scores.tolist(), described, strict=True):
            name = batch.ids[row] if batch.ids is not None else f"{batch.offset}:{row}"
            self.kept.append({"id": name, "score": score, **more})
        self.kept.sort(key=_score, reverse=True)  # stable: what came first stays first
        del self.kept[self.limit :]

    def take(self) -> tuple[RowFinding, ...]:
        """The rows kept, and begin anew."""
        rows = tuple(RowFinding(**row) for row in self.kept)
        self.kept = []
        return rows


class Judgements(Remembers):
    """Where the two-sample judge's windows end, so that what is summed beside it is cut at the same rows.

    Args:
        window_rows: rows before the first judgement.
        stride_rows: rows between two.
    """

    remembered: ClassVar[tuple[str, ...]] = ("rows_left",)

    def __init__(self, window_rows: int, stride_rows: int | None) -> None:
        self.rows_left = window_rows
        self.stride = stride_rows or window_rows

    def cuts(self, rows: int) -> list[int]:
        """The ends, counted from 1, of the windows that the next `rows` rows complete."""
        ends = list(range(self.rows_left, rows + 1, self.stride))
        self.rows_left = (ends[-1] + self.stride if ends else self.rows_left) - rows
        return ends


def _score(row: dict[str, Any]) -> float:
    return float(row["score"])


def value_of(table: Table, name: str, row: int) -> float | str | None:
    """What the row has in that column; None where it is missing or no single value."""
    if name in table.numeric:
        value = float(table.numeric[name][row])
        return value if value == value else None  # NaN alone is not itself
    column = table.categorical.get(name)
    if column is None or column.codes[row] == MISSING_CODE:
        return None
    return column.categories[int(column.codes[row])]
