"""How a loop is compiled by numba, and where the compiled code is kept.

The cache lies beside the module or, where that cannot be written to, in NUMBA_CACHE_DIR or the user's cache folder.
With NUMBA_CACHE_LOCATOR_CLASSES=streamd.compiling.ReadOnlyCacheLocator what lies in NUMBA_CACHE_DIR is only read: a
container image brings its cache along, and its root file system stays read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import UserProvidedCacheLocator

F = TypeVar("F", bound=Callable[..., Any])


class ReadOnlyCacheLocator(UserProvidedCacheLocator):
    """Finds what was compiled before under NUMBA_CACHE_DIR. numba's own passes over a folder it cannot write to."""

    def ensure_cache_path(self) -> None:
        os.listdir(self.get_cache_path())  # type: ignore[no-untyped-call]  # OSError: compiled without a cache


def compiled(signatures: Any) -> Callable[[F], F]:
    """Compile now, or read what was compiled before. Where no folder can be written to, compile at every start."""

    def compile_(function: F) -> F:
        try:
            return cast(F, njit(signatures, cache=True, nogil=True)(function))
        except (RuntimeError, OSError):  # numba found no folder for its cache, or could not write to it
            return cast(F, njit(signatures, nogil=True)(function))

    return compile_


def compile_all() -> None:
    """Compile every loop of streamd: what the build of an image does, so that no start of it has to."""
    package = Path(__file__).parent
    for module in sorted(package.rglob("kernels*.py")):
        import_module(".".join((package.name, *module.relative_to(package).with_suffix("").parts)))


if __name__ == "__main__":
    compile_all()
