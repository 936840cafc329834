"""Which rows are learned from, which decide when to stop, and which are held out: blocks of neighbours.

Blocks, and not single rows in turn, because a held-out row between two learned neighbours that resemble it is not
held out at all; so the more the rows depend on their past, the longer the blocks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.dependence import autocorrelation_times, centred_ranks
from streamd.table import Table

BLOCKS_MAX = 20
BLOCKS_MIN = 5
BLOCK_TIMES = 10  # a block's length in autocorrelation times: its middle must not know its neighbours
HELD_OUT_EVERY = 5  # of the blocks, for the scores that a threshold is chosen from
VALIDATION_SHARE = 0.2  # of the rows of a block that is learned from, its last ones decide when to stop
DEPENDENCE_ROWS = 20_000  # of a long table on which the dependence is measured

Rows = NDArray[np.intp]


class Split(NamedTuple):
    """Places of rows, in their order."""

    learned: Rows
    validating: Rows
    held_out: Rows


def split(table: Table) -> Split:
    """Cut a table into at most 20 blocks, every fifth of them held out."""
    columns = [column[:DEPENDENCE_ROWS] for column in table.numeric.values()]
    memory = autocorrelation_time(np.stack(columns)) if columns else 1.0
    count = int(np.clip(table.rows / (BLOCK_TIMES * memory), BLOCKS_MIN, BLOCKS_MAX))
    block, rows, last = cut(table.rows, None, count - count % HELD_OUT_EVERY)
    held_out = block % HELD_OUT_EVERY == HELD_OUT_EVERY // 2
    return Split(rows[~held_out & ~last], rows[~held_out & last], rows[held_out])


def autocorrelation_time(values: NDArray[Any]) -> float:
    """The memory of the middle one of (columns, rows), in rows. One that came in a single run must not decide."""
    ranks = np.stack([centred_ranks(row.astype(np.float64)) for row in values])
    return float(np.median(autocorrelation_times(ranks)))


def cut(rows: int, rows_max: int | None, count: int) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    """The block of each chosen row, the row, and whether it is of its block's last fifth.

    Of more rows than `rows_max` the first ones of every one of `count` blocks are chosen.
    """
    every = np.arange(rows)
    block = every * count // rows
    place = every - np.searchsorted(block, block)  # within its block
    length = np.bincount(block, minlength=count)[block]
    if rows_max is not None:
        length = np.minimum(length, max(1, rows_max // count))
    chosen = np.flatnonzero(place < length)
    return block[chosen], chosen, (place >= (1 - VALIDATION_SHARE) * length)[chosen]
