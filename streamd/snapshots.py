"""A snapshot of many streams, taken while they go on: each is saved before it changes, the rest little by little. Pure.

    begin at X ──▶ to be saved: what has changed since the last one began
      a record of s comes  ──▶ s is saved as it was at X, and only then judged   (copy on write)
      take(n), once a poll ──▶ those, and of the rest as many as make n          ──▶ the last one: a whole snapshot of X

What is saved is the state at X, bit for bit, whenever that happens: restoring needs to know nothing of it.
"""

from __future__ import annotations

from typing import NamedTuple

from streamd.run import Run
from streamd.state import pack
from streamd.stream import Stream


class SavedStream(NamedTuple):
    """One stream at the offset of a snapshot.

    Attributes:
        data: what `unpack` turns into the state for `Stream.restore`.
        needs: the names of what it wants beside it, see `Kept.names`.
    """

    name: str
    data: bytes
    needs: frozenset[str]


class Snapshots:
    """Which streams of an engine have changed since they were last saved."""

    def __init__(self) -> None:
        self._changed: dict[str, Stream | Run] = {}  # since the last snapshot began
        self._unsaved: dict[str, Stream | Run] = {}  # of the one under way; none of them has changed since it began
        self._saved: list[SavedStream] = []  # of the one under way; not taken yet

    @property
    def under_way(self) -> bool:
        """Whether `take` has more to give."""
        return bool(self._unsaved or self._saved)

    def begin(self) -> None:
        """Streams are to be saved as they are now."""
        assert not self.under_way, "a snapshot is under way"
        self._unsaved, self._changed = self._changed, {}

    def touch(self, stream: Stream | Run) -> None:
        """The stream is about to change."""
        if self._unsaved.pop(stream.name, None) is not None:
            self._saved.append(_saved(stream))
        self._changed[stream.name] = stream

    def forget(self, stream: Stream | Run) -> None:
        """The stream is no more, which does not change what it was."""
        self.touch(stream)
        del self._changed[stream.name]

    def take(self, count: int) -> list[SavedStream]:
        """Those saved since the last call, and more where they are fewer than `count`."""
        taken, self._saved = self._saved, []
        while self._unsaved and len(taken) < count:
            taken.append(_saved(self._unsaved.pop(next(iter(self._unsaved)))))
        return taken


def _saved(stream: Stream | Run) -> SavedStream:
    return SavedStream(stream.name, pack(stream.snapshot()), frozenset(stream.kept().names()))
