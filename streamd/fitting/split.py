"""Which rows are learned from, which decide when to stop, and which are held out: blocks of neighbours.

Blocks, and not single rows in turn, because a held-out row between two learned neighbours that resemble it is not
held out at all; so the more the rows depend on their past, the longer the blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.dependence import autocorrelation_times, centred_ranks
from streamd.table import FloatArray, Table

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
    rows = table.rows
    blocks = int(np.clip(rows / (BLOCK_TIMES * _autocorrelation_time(table)), BLOCKS_MIN, BLOCKS_MAX))
    blocks -= blocks % HELD_OUT_EVERY
    every = np.arange(rows)
    block = every * blocks // rows
    place = every - np.searchsorted(block, block)  # within its block
    length = np.bincount(block, minlength=blocks)[block]
    held_out = block % HELD_OUT_EVERY == HELD_OUT_EVERY // 2
    validating = ~held_out & (place >= (1 - VALIDATION_SHARE) * length)
    return Split(np.flatnonzero(~held_out & ~validating), np.flatnonzero(validating), np.flatnonzero(held_out))


def _autocorrelation_time(table: Table) -> float:
    """The memory of the middle numeric column, in rows; 1 where there is none."""
    columns: list[FloatArray] = [column[:DEPENDENCE_ROWS] for column in table.numeric.values()]
    if not columns:
        return 1.0
    return float(np.median(autocorrelation_times(np.stack([centred_ranks(column) for column in columns]))))
