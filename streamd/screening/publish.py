"""The screened rows as batches of a reference: what normal looks like, for a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamd.screening.model import Screening
from streamd.screening.source import Source

ROWS_MAX = 100_000  # a reference is held in memory by the daemon, whose judges keep 2,000 rows of it
_PART_ROWS, _PART_CELLS = 1000, 50_000  # of one record: Kafka's takes 1 MB


class Reference(NamedTuple):
    """Batches that make one reference together.

    Attributes:
        rows: of all.
        parts: how many batches.
        batches: Arrow tables.
    """

    rows: int
    parts: int
    batches: Iterator[Any]


def reference(source: Source, screening: Screening, columns: Sequence[str]) -> Reference:
    """At most ROWS_MAX rows, evenly from all that are not suspicious."""
    many = min(source.rows, ROWS_MAX)
    drawn = np.arange(many) * source.rows // many
    rows = drawn[~np.isin(drawn, screening.suspicious)]
    size = max(1, min(_PART_ROWS, _PART_CELLS // max(1, len(columns))))
    return Reference(len(rows), -(-len(rows) // size), _batches(source, rows, columns, size))


def _batches(source: Source, rows: np.ndarray[Any, Any], columns: Sequence[str], size: int) -> Iterator[Any]:
    pending: list[Any] = []
    waiting = 0
    for chunk in source.chunks:
        for first, table in source.read(chunk, columns):
            low, high = np.searchsorted(rows, [first, first + table.num_rows])
            pending.append(table.take(pa.array(rows[low:high] - first)))
            waiting += int(high - low)
            if waiting < size:
                continue
            together = pa.concat_tables(pending, promote_options="permissive")
            whole = waiting - waiting % size
            for start in range(0, whole, size):
                yield together.slice(start, size).combine_chunks()
            pending, waiting = [together.slice(whole)], waiting - whole
    if waiting:
        yield pa.concat_tables(pending, promote_options="permissive").combine_chunks()
