"""Chunks on many machines, by Ray. Folders must be reachable from all of them under the same path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamd.errors import StreamdError
from streamd.screening.engine_local import T, Work
from streamd.screening.passes import Watch
from streamd.screening.source import Chunk, Source

AHEAD = 2  # tasks for each processor: what is done waits until its turn to be merged


class NoRayError(StreamdError):
    """Ray is not installed."""


class RayEngine:
    """Implements Engine. Uses the Ray that is running, or the cluster of RAY_ADDRESS, or starts a local one."""

    def __init__(self) -> None:
        try:
            ray = _ray()
        except ImportError:
            raise NoRayError("--engine ray needs Ray: pip install 'streamd[ray]'") from None
        if not ray.is_initialized():
            ray.init(log_to_driver=False, configure_logging=False)

    def each(self, work: Work[T], source: Source, chunks: Sequence[Chunk], watch: Watch) -> Iterator[T]:
        ray = _ray()
        bare = replace(source, chunks=())  # a frame in memory travels by its chunks
        shared, task = ray.put((work, bare)), ray.remote(_task)
        waiting: list[tuple[Chunk, Any]] = []
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        for chunk in chunks:
            waiting.append((chunk, task.remote(shared, chunk)))
            if len(waiting) >= most:
                yield _next(waiting, watch)
        while waiting:
            yield _next(waiting, watch)


def _task(shared: Any, chunk: Chunk) -> Any:
    """On a worker. `shared` is what `put` was given."""
    work, source = shared
    with np.errstate(all="ignore"):
        return work(source, chunk, _unwatched)


def _next(waiting: list[tuple[Chunk, Any]], watch: Watch) -> Any:
    chunk, reference = waiting.pop(0)
    done = _ray().get(reference)
    watch(chunk.rows)
    return done


def _unwatched(rows: int) -> None:
    """A task cannot be watched from within."""


def _ray() -> Any:
    """The package, an extra; what is remote has no type."""
    import ray

    return ray
