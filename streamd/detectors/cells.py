"""How a column's values are spread over the cells in which its bins are looked up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from streamd.detectors.kernels import CELLS, LINEAR, LOGARITHMIC, BinArray, IntArray, fill_cells
from streamd.table import FloatArray


def choose_cells(columns: list[FloatArray], bin_type: np.dtype[Any]) -> tuple[FloatArray, IntArray, BinArray]:
    """For each column the map to cells that leaves the fewest candidates, and its table of cells.

    Args:
        columns: each column's distinct values, rising.
        bin_type: of the table.

    Returns:
        maps (columns, 3): centre, low, scale; kinds (columns, 2): which map, floor; cells (columns, CELLS + 1).
    """
    maps = np.zeros((len(columns), 3))
    kinds = np.zeros((len(columns), 2), np.int64)
    cells = np.zeros((len(columns), CELLS + 1), bin_type)
    table = np.zeros(CELLS + 1, bin_type)
    for column, distinct in enumerate(columns):
        fewest = math.inf
        for map_, kind in _candidate_maps(distinct):
            fill_cells(distinct, map_, kind, table)
            # A value like the reference's lies in a cell as often as the cell has distinct values.
            expected = float((np.diff(table.astype(np.float64)) ** 2).sum())
            if expected < fewest:
                fewest = expected
                maps[column], kinds[column], cells[column] = map_, kind, table
    return maps, kinds, cells


def _candidate_maps(distinct: FloatArray) -> Iterator[tuple[FloatArray, IntArray]]:
    """Linear over the finite range, and logarithmic about the median and about zero, with a few floors."""
    finite = distinct[np.isfinite(distinct)]
    if len(finite) == 0:
        finite = np.zeros(1)
    with np.errstate(over="ignore", divide="ignore"):
        scale = CELLS / (finite[-1] - finite[0])
        usable = np.isfinite(scale) and scale > 0  # not for a single value, nor for a range beyond the doubles
        yield np.array([finite[0], 0.0, scale if usable else 1.0]), np.array([LINEAR, 0])
        for centre in {float(finite[len(finite) // 2]), 0.0}:
            apart = finite - centre
            sizes = np.sort(np.abs(apart[apart != 0]))
            for share in (0.0, 0.01, 0.05) if len(sizes) > 0 else ():
                floor = sizes[int(share * len(sizes))].view(np.int64)
                below, above = np.copysign(np.maximum(np.abs(apart[[0, -1]]).view(np.int64) - floor, 0), apart[[0, -1]])
                if above > below:
                    yield np.array([centre, below, CELLS / (above - below)]), np.array([LOGARITHMIC, floor])
