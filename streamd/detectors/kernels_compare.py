"""A window of bins beside its reference: the distances and the ranks of every column, compiled by numba.

The rows of a column are counted by bin (see `kernels`) and the counts are summed from the left. From these sums,
and from those of the reference, come the distance at every bin's end and every row's rank.

              bin 0   bin 1   bin 2         bin 2q  missing
        sums 0 ─────── 1 ───── 2 ───── 3 … 2q ─ 2q + 1 ─ 2q + 2        sums[i]: rows in the bins before the i-th
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from streamd.detectors.compiled import BINS, DOUBLE, INT, LONG, compiled, read, written
from streamd.detectors.kernels import ONE, PRESENT_MIN, THREE, TWO, BinArray, IntArray
from streamd.table import FloatArray

NARROW_ROWS_MAX = 2**16 - 1  # of a window: its sums fit into 16 bits, four to a word
BLOCK = 8  # distinct values, whose two ends tell whether the largest distance can lie among them
EVERY = np.uint64(0x0001_0001_0001_0001)  # times a number of 16 bits: that number in each quarter of a word
QUARTER, HALF, LAST_QUARTER = np.uint64(16), np.uint64(32), np.uint64(48)
SUMS = (types.uint16, LONG)
RANKS = (types.int16, INT)
MEASURED: Any = types.Tuple((LONG, DOUBLE, DOUBLE, DOUBLE))  # type: ignore[no-untyped-call] # numba is typed in part


@compiled([(written(types.uint64, 1),)])
def _sum_up_narrow(words: NDArray[np.uint64]) -> None:  # pragma: no cover - compiled
    """Replace numbers of 16 bits, four to a word, by the sums of all up to each; no sum leaves 16 bits."""
    for i in range(len(words)):
        word = words[i]
        word += word << QUARTER
        words[i] = word + (word << HALF)
    before = np.uint64(0)
    for i in range(len(words)):
        word = words[i]
        words[i] = word + before * EVERY
        before += word >> LAST_QUARTER


@compiled([(read(t, 1), LONG, written(s, 1)) for t in BINS for s in SUMS])
def _count(bins: BinArray, slots: int, sums: NDArray[Any]) -> None:  # pragma: no cover - compiled
    """Write how many rows each bin has, one place further on; what is missing comes after the last."""
    sums[:] = 0
    end = np.uint64(slots)
    for row in range(len(bins)):
        sums[min(np.uint64(bins[row]), end) + ONE] += 1


@compiled([MEASURED(read(s, 1), read(t, 1), LONG, LONG, LONG) for t in BINS for s in SUMS])
def _measure(
    sums: NDArray[Any], upto: BinArray, slots: int, total: int, rounded_beyond: int
) -> tuple[Any, Any, Any, Any]:  # pragma: no cover - compiled
    """Values present, how far the window is above the reference at most, how far below, and the distance.

    What is compared is (share of the window − share of the reference)·n·total, a whole number. At a distinct value
    the window is lowest, in the gap after it highest. Neither sum ever falls, so that the ends of a block tell how
    high and low it may go; after a look at all ends few blocks are left to be searched.

    `rounded` is the distance as textbooks write it, a difference of two rounded shares: it may be one unit in the
    last place off. scipy computes it so, and some of its p-values turn that unit into thousands. Equal distances
    may round differently; the largest counts.
    """
    n = np.int64(sums[slots])
    if n < PRESENT_MIN or total < PRESENT_MIN:
        return n, np.nan, np.nan, np.nan
    highest = np.int64(sums[1]) * total
    lowest = np.int64(0)
    q = len(upto)
    for start in range(0, q, BLOCK):
        first, last = np.uint64(start), np.uint64(min(start + BLOCK, q) - 1)
        highest = max(highest, np.int64(sums[TWO * last + THREE]) * total - np.int64(upto[last]) * n)
        lowest = min(lowest, np.int64(sums[TWO * first + TWO]) * total - np.int64(upto[first]) * n)
    furthest = np.int64(max(highest, -lowest))
    rounded = sums[1] / n if furthest == np.int64(sums[1]) * total else 0.0
    for start in range(0, q, BLOCK):
        first, last = np.uint64(start), np.uint64(min(start + BLOCK, q) - 1)
        if (
            np.int64(sums[TWO * last + THREE]) * total - np.int64(upto[first]) * n < highest
            and np.int64(sums[TWO * first + TWO]) * total - np.int64(upto[last]) * n > lowest
        ):
            continue
        for i in range(first, last + ONE):
            reference = np.int64(upto[i]) * n
            at, after = np.int64(sums[TWO * i + TWO]), np.int64(sums[TWO * i + THREE])
            highest, lowest = max(highest, after * total - reference), min(lowest, at * total - reference)
            for seen in (at, after):
                distance = np.int64(abs(seen * total - reference))
                if distance >= furthest:
                    share = abs(seen / n - upto[i] / total)
                    rounded = share if distance > furthest else max(rounded, share)
                    furthest = distance
    scale = np.float64(n) * np.float64(total)
    exact = n <= rounded_beyond and total <= rounded_beyond
    return n, highest / scale, -lowest / scale, furthest / scale if exact else rounded


@compiled([(written(s, 1), LONG, read(t, 1), LONG, written(r, 1)) for t in BINS for s in SUMS for r in RANKS])
def _rank(
    sums: NDArray[Any], slots: int, bins: BinArray, position: int, ranks: NDArray[Any]
) -> None:  # pragma: no cover - compiled
    """Write each row's rank, from the row at `position` on, around the ring's end. `sums` is spent."""
    n = np.int64(sums[slots])
    sums[slots + 1] = 0  # so that what is missing has the rank n + 0 − n
    end, row = np.uint64(slots), np.uint64(0)
    for part in (bins[position:], bins[:position]):
        for own in range(np.uint64(len(part))):
            bin_ = min(np.uint64(part[own]), end)
            ranks[row] = np.int64(sums[bin_]) + np.int64(sums[bin_ + ONE]) - n
            row += ONE


@compiled(
    [
        (
            read(t, 2),
            read(t, 1),
            read(LONG, 1),
            read(LONG, 1),
            read(LONG, 1),
            LONG,
            LONG,
            written(LONG, 1),
            written(DOUBLE, 2),
            written(r, 2),
        )
        for t in BINS
        for r in RANKS
    ]
)
def compare(
    ring: BinArray,
    upto: BinArray,
    starts: IntArray,
    sizes: IntArray,
    totals: IntArray,
    rounded_beyond: int,
    position: int,
    present: IntArray,
    distances: FloatArray,
    ranks: NDArray[Any],
) -> None:  # pragma: no cover - compiled
    """Compare every column's window with its reference; counted in whole numbers, divided once.

    Args:
        ring: (columns, window) bins.
        upto: how many reference values are at most each distinct value; column c's from starts[c], sizes[c] of them.
        totals: (columns,) values in the reference.
        rounded_beyond: columns of more rows, in the window or the reference, have the distance as textbooks write it.
        position: the oldest row in the ring.
        present: (columns,), written: values in the window that are not missing.
        distances: (3, columns), written: the Kolmogorov–Smirnov distance, how far the window's distribution function
            is above the reference's at most, and how far below. NaN: too few values to judge.
        ranks: (columns, window), written: each row's rank in its column, oldest first, doubled and centred so that
            ties give whole numbers and the mean is 0; a missing value is 0 too. Or (columns, 0): not wanted.
    """
    columns, window = ring.shape
    places = (2 * sizes.max() + 6) // 4 * 4 if columns > 0 else 0  # whole words
    narrow = np.empty(places if window <= NARROW_ROWS_MAX else 0, np.uint16)
    wide = np.empty(places - len(narrow), np.int64)
    for column in range(columns):
        own = upto[starts[column] : starts[column] + sizes[column]]
        bins, slots, total = ring[column], 2 * sizes[column] + 1, totals[column]
        if len(narrow) > 0:
            _count(bins, slots, narrow)
            _sum_up_narrow(narrow.view(np.uint64))
            n, highest, lowest, distance = _measure(narrow, own, slots, total, rounded_beyond)
            if ranks.shape[1] > 0:
                _rank(narrow, slots, bins, position, ranks[column])
        else:
            _count(bins, slots, wide)
            for place in range(1, places):
                wide[place] += wide[place - 1]
            n, highest, lowest, distance = _measure(wide, own, slots, total, rounded_beyond)
            if ranks.shape[1] > 0:
                _rank(wide, slots, bins, position, ranks[column])
        present[column] = n
        distances[0, column], distances[1, column], distances[2, column] = distance, highest, lowest
