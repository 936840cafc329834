"""Chunks one after the other in this process; the columns' arithmetic runs in numpy and Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from streamd.screening.passes import Watch
from streamd.screening.source import Chunk, Source

T = TypeVar("T")
Work = Callable[[Source, Chunk, Watch], T]


class Engine(Protocol):
    """Does the same work on every chunk, wherever; the results come in the order of the chunks."""

    def each(self, work: Work[T], source: Source, chunks: Sequence[Chunk], watch: Watch) -> Iterator[T]:
        """The results. `watch` is told of rows that are done."""


class LocalEngine:
    """Implements Engine."""

    def each(self, work: Work[T], source: Source, chunks: Sequence[Chunk], watch: Watch) -> Iterator[T]:
        for chunk in chunks:
            yield work(source, chunk, watch)
