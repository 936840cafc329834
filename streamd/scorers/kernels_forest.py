"""The inner loops of the isolation forest, compiled by numba: walks down flattened trees.

Nodes of all trees lie in a row, those of one tree by level, brothers side by side:

    thresholds (nodes,) float32   a row goes right where its value is greater; +inf at a leaf
    columns    (nodes,) uint32    the input that is compared; plus `inputs` where a missing value goes right
    children   (nodes,) uint32    the left child, the right one comes next; a leaf is its own
    lengths    (nodes,) float64   at a leaf the length of the path that ends there, before that the mean below
    roots, depths (trees,) uint32 where each tree begins, and how many steps reach its deepest leaf

Every row takes all `depths` steps, a leaf leads to itself: a loop without branches is several times faster than one
that stops. Indices are unsigned, since numba looks at each signed one for whether it counts from the end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from streamd.compiling import compiled

BLOCK = 128  # rows that walk together: what they look at stays in the nearest cache

_INPUTS = types.Array(types.float32, 2, "C", readonly=True)
_THRESHOLDS = types.Array(types.float32, 1, "C", readonly=True)
_INDICES = types.Array(types.uint32, 1, "C", readonly=True)
_LENGTHS = types.Array(types.float64, 1, "C", readonly=True)
_FOREST = (_THRESHOLDS, _INDICES, _INDICES, _LENGTHS, _INDICES, _INDICES)


@compiled([types.void(_INPUTS, *_FOREST, types.float64[::1])])
def add_path_lengths(
    inputs: Any, thresholds: Any, columns: Any, children: Any, lengths: Any, roots: Any, depths: Any, sums: Any
) -> None:
    """Add to `sums` (rows,) the path lengths of each row of `inputs` (inputs, rows), tree after tree."""
    count, rows = inputs.shape
    stride = np.uint64(BLOCK)
    # Each input twice, its missing values below all thresholds, and above them: which one a node reads is its column.
    values = np.empty(2 * count * BLOCK, np.float32)
    nodes = np.empty(BLOCK, np.uint32)
    for start in range(0, rows, BLOCK):
        n = np.uint64(min(BLOCK, rows - start))
        for j in range(count):
            for r in range(n):
                value = inputs[j, start + r]
                missing = math.isnan(value)
                values[j * BLOCK + r] = -np.inf if missing else value
                values[(count + j) * BLOCK + r] = np.inf if missing else value
        for tree in range(len(roots)):
            nodes[:] = roots[tree]
            for _ in range(depths[tree]):
                for r in range(n):
                    node = nodes[r]
                    nodes[r] = children[node] + np.uint32(values[columns[node] * stride + r] > thresholds[node])
            for r in range(n):
                sums[start + r] += lengths[nodes[r]]


@compiled([types.void(_INPUTS, *_FOREST, types.float64[:, ::1])])
def add_shortenings(
    inputs: Any, thresholds: Any, columns: Any, children: Any, lengths: Any, roots: Any, depths: Any, sums: Any
) -> None:
    """Add to `sums` (inputs, rows) how much the splits by each input shorten the paths of each row.

    A split shortens a path by the mean length below the node less the mean length below the child that is taken, so
    that what all splits of a path add up to is the mean length of the tree less the path's.
    """
    count, rows = inputs.shape
    for r in range(rows):
        for tree in range(len(roots)):
            node = roots[tree]
            for _ in range(depths[tree]):
                column = columns[node]
                missing_right = column >= count
                if missing_right:
                    column -= np.uint32(count)
                value = inputs[column, r]
                right = value > thresholds[node] or (math.isnan(value) and missing_right)
                child = children[node] + np.uint32(right)
                sums[column, r] += lengths[node] - lengths[child]
                node = child
