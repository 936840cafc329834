"""How a loop is compiled: at import, with declared types, cached on disk.

The cache lies beside the module or, where that cannot be written to, in the user's cache folder or in
NUMBA_CACHE_DIR. Signatures are declared, so that importing a module of loops is all the compiling there is and no
call can start the compiler later. None uses fastmath: equal input gives equal output, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit, types

F = TypeVar("F", bound=Callable[..., Any])

DOUBLE, LONG, INT = types.float64, types.int64, types.int32
PAIR: Any = types.UniTuple(LONG, 2)  # type: ignore[no-untyped-call] # numba is typed in part
BINS = (types.uint16, types.uint32)  # the widths of a ring


def read(scalar: Any, dimensions: int) -> Any:
    """An array that is only read: it may be a view of a network buffer."""
    return types.Array(scalar, dimensions, "C", readonly=True)


def written(scalar: Any, dimensions: int) -> Any:
    """An array that is written to."""
    return types.Array(scalar, dimensions, "C")


def compiled(signatures: Any) -> Callable[[F], F]:
    """Compile now, or read what was compiled before. Where no folder can be written to, compile at every start."""

    def compile_(function: F) -> F:
        try:
            return cast(F, njit(signatures, cache=True, nogil=True)(function))
        except RuntimeError:  # numba found no folder for its cache
            return cast(F, njit(signatures, nogil=True)(function))

    return compile_
