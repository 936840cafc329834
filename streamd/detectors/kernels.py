"""The inner loops of the two-sample judge, compiled by numba.

A value becomes the number of its bin among the reference's distinct values r₀ < r₁ < … < r_{q−1}:

    bin      0     1     2     3     4       2q−1      2q
         ───────┼─────┼─────┼─────┼─────┼ … ┼──────┼────────
          < r₀    = r₀         = r₁          = r_{q−1}  above
                        between

so a window's empirical distribution, at every point where the two can differ most, is a cumulative sum
over its bins. A bin is found through a table of cells: a map that never falls sends a value to its cell, and
the table says which distinct values lie in that cell.

How they are compiled is told in `compiled`.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.compiled import BINS, DOUBLE, LONG, compiled, read, written
from streamd.table import FloatArray

CELLS = 2048  # 4 KB of 16-bit entries for a column: the table stays in the first-level cache while it is used
LINEAR, LOGARITHMIC = 0, 1
SCAN = 4  # candidates that are compared at once; more are halved first. Each column ends in as many NaN
PRESENT_MIN = 2  # with fewer values in the window or the reference there is no distribution to speak of
MISSING = np.uint64(2**64 - 1)
ONE, TWO, THREE = np.uint64(1), np.uint64(2), np.uint64(3)

BinArray = NDArray[np.uint16] | NDArray[np.uint32]
IntArray = NDArray[np.int64]


@compiled(LONG(DOUBLE, LONG, DOUBLE, DOUBLE, DOUBLE, LONG))
def cell_of(value: float, kind: int, centre: float, low: float, scale: float, floor: int) -> int:
    """The cell of a value (not NaN): never falls as the value rises, which is all that the search relies on.

    LINEAR spreads the cells evenly over (value − centre). LOGARITHMIC spreads them over the bits of
    |value − centre|, exponent first, sign restored: about evenly over the logarithm on either side of the
    centre. `floor` is the bits of the distance that counts as none; without it nearly all cells would lie between
    the smallest distance that occurs and the smallest double.
    """
    y = value - centre
    if kind == LOGARITHMIC:
        distance: Any = np.float64(abs(y))  # numba takes `view` of what was made by np.float64 only
        y = math.copysign(float(max(distance.view(np.int64) - floor, 0)), y)
    place = (y - low) * scale
    if place <= 0.0:
        return 0
    if place >= CELLS - 1:  # infinities too
        return CELLS - 1
    return int(place)


@compiled([(read(DOUBLE, 1), read(DOUBLE, 1), read(LONG, 1), written(t, 1)) for t in BINS])
def fill_cells(distinct: FloatArray, map_: FloatArray, kind: IntArray, cells: BinArray) -> None:  # pragma: no cover
    """Write into `cells` (CELLS + 1,) how many distinct values of one column lie in the cells before each one."""
    counted = 0
    for cell in range(CELLS):
        while (
            counted < len(distinct) and cell_of(distinct[counted], kind[0], map_[0], map_[1], map_[2], kind[1]) < cell
        ):
            counted += 1
        cells[cell] = counted
    cells[CELLS] = len(distinct)


@compiled(
    [
        (
            read(DOUBLE, 2),
            LONG,
            LONG,
            LONG,
            read(DOUBLE, 1),
            read(LONG, 1),
            read(DOUBLE, 2),
            read(LONG, 2),
            read(t, 2),
            written(t, 2),
        )
        for t in BINS
    ]
)
def push(
    values: FloatArray,
    start: int,
    stop: int,
    position: int,
    distinct: FloatArray,
    starts: IntArray,
    maps: FloatArray,
    kinds: IntArray,
    cells: BinArray,
    ring: BinArray,
) -> None:  # pragma: no cover
    """Write the bins of `values[:, start:stop]` into `ring` (columns, window), from `position` on, around its end.

    A missing value's bin is MISSING, cut to the ring's type. The last SCAN candidates are compared without a
    branch: which of them is the right one is not predictable, and a wrong prediction costs more than all four.
    Cells come in a loop of their own, and places are unsigned (numba asks of each signed one whether it counts
    from the end): together that halves the time.
    """
    window = np.uint64(ring.shape[1])
    places = np.empty(stop - start, np.uint16)
    for column in range(ring.shape[0]):
        centre, low, scale = maps[column, 0], maps[column, 1], maps[column, 2]
        kind, floor = kinds[column, 0], kinds[column, 1]
        incoming, own, bins = values[column, start:stop], cells[column], ring[column]
        candidates = distinct[starts[column] :]
        for row in range(len(incoming)):
            value = incoming[row]
            places[row] = cell_of(value, kind, centre, low, scale, floor) if value == value else 0
        place = np.uint64(position)
        for row in range(len(incoming)):
            value = incoming[row]
            cell = np.uint64(places[row])
            first, last = np.uint64(own[cell]), np.uint64(own[cell + ONE])
            while last - first > np.uint64(SCAN):
                middle = (first + last) >> ONE
                if candidates[middle] < value:
                    first = middle + ONE
                else:
                    last = middle
            first += (
                np.uint64(candidates[first] < value)
                + np.uint64(candidates[first + ONE] < value)
                + np.uint64(candidates[first + TWO] < value)
                + np.uint64(candidates[first + THREE] < value)
            )
            bin_ = TWO * first + np.uint64(candidates[first] == value)
            bins[place] = bin_ if value == value else MISSING
            place += ONE
            if place == window:
                place = np.uint64(0)


@compiled([(read(t, 2), written(LONG, 2)) for t in BINS])
def count(ring: BinArray, counts: IntArray) -> None:  # pragma: no cover
    """Write into `counts` (columns, slots) how many rows of each column's ring have each number; others are missing."""
    columns, window = ring.shape
    slots = counts.shape[1]
    counts[:] = 0
    for column in range(columns):
        for row in range(window):
            slot = np.int64(ring[column, row])
            if slot < slots:
                counts[column, slot] += 1


def warm_up() -> None:
    """Have all that the two-sample tests use ready: importing it is what compiles or loads it."""
    for name in (
        "streamd.detectors.kernels_compare",
        "streamd.detectors.kernels_dependence",
        "streamd.detectors.kernels_tails",
        "scipy.fft",
        "scipy.special",
    ):
        import_module(name)
