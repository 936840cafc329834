"""The types of the detectors' loops, which are compiled at import.

Signatures are declared, so that importing a module of loops is all the compiling there is and no call can start the
compiler later. None uses fastmath: equal input gives equal output, bit for bit.
"""

from __future__ import annotations

from typing import Any

from numba import types

from streamd.compiling import compiled

__all__ = ["BINS", "DOUBLE", "INT", "LONG", "compiled", "read", "written"]

DOUBLE, LONG, INT = types.float64, types.int64, types.int32
BINS = (types.uint16, types.uint32)  # the widths of a ring


def read(scalar: Any, dimensions: int) -> Any:
    """An array that is only read: it may be a view of a network buffer."""
    return types.Array(scalar, dimensions, "C", readonly=True)


def written(scalar: Any, dimensions: int) -> Any:
    """An array that is written to."""
    return types.Array(scalar, dimensions, "C")
