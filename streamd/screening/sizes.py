"""How much the summaries of columns may remember, and where a batch lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT_CELLS = 8_000_000  # of data of fewer, each number is counted: 16 bytes for each at most
STRIDE = 16  # of larger data every 16th number goes into the digest


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a summary may remember: less where there are many columns.

    Attributes:
        counted: different numbers that are counted each.
        exact: each number is counted, and nothing is estimated.
        distinct: hashes in the sample of different numbers; categories of a text column that are remembered.
        pairs: (category, bucket) of a text column that are counted each.
        extremes: values at either end.
        digest: of the t-digest.
    """

    counted: int
    exact: bool
    distinct: int
    pairs: int
    extremes: int
    digest: int

    @classmethod
    def of(cls, columns: int, rows: int) -> Sizes:
        share = min(1.0, 200 / max(columns, 1))
        exact = rows * columns <= EXACT_CELLS
        return cls(
            counted=rows if exact else max(100, int(1000 * share)),
            exact=exact,
            distinct=max(256, int(8192 * share)),
            pairs=max(1000, int(400_000 * share)),
            extremes=max(10, int(100 * share)),
            digest=max(200, int(2000 * share)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a batch lies.

    Attributes:
        first_row: the number of its first row.
        buckets: (rows,) of the axis; −1: none, its time is missing.
    """

    first_row: int
    buckets: NDArray[np.int64]
