"""What a partition's engine holds: its streams or its runs, and how much memory they take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from streamd.detectors.base import Reference
from streamd.model import Effect, StreamChanged
from streamd.run import Run
from streamd.snapshots import Snapshots
from streamd.stream import Stream

_RECOUNT_EVERY_BATCHES = 64  # memory of a stream grows with what it has seen; counting it costs some microseconds


class Holdings(Mapping[str, Stream | Run]):
    """By name, those seen longest ago first.

    Args:
        make: a new one of that name.
        streams_max: beyond it the one that was seen longest ago is forgotten.
        snapshots: is told of all that changes.

    Attributes:
        nbytes: their memory.
    """

    def __init__(self, make: Callable[[str], Stream | Run], streams_max: int, snapshots: Snapshots) -> None:
        self.nbytes = 0
        self._make = make
        self._streams_max = streams_max
        self._snapshots = snapshots
        self._held: OrderedDict[str, Stream | Run] = OrderedDict()
        self._counted: dict[str, tuple[int, int]] = {}  # name -> batches, bytes at the last count

    def __getitem__(self, name: str) -> Stream | Run:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def stream(self, name: str) -> tuple[Stream, list[Effect]]:
        """The stream of that name: see `seen`."""
        stream, effects = self.seen(name)
        assert isinstance(stream, Stream), name
        return stream, effects

    def run(self, name: str) -> tuple[Run, list[Effect]]:
        """The training run of that name: see `seen`."""
        run, effects = self.seen(name)
        assert isinstance(run, Run), name
        return run, effects

    def seen(self, name: str) -> tuple[Stream | Run, list[Effect]]:
        """The one of that name, made if need be, now the one seen last, to be changed; what is to be told of it."""
        stream = self._held.get(name)
        if stream is not None:
            self._held.move_to_end(name)
            self._snapshots.touch(stream)
            return stream, []
        effects: list[Effect] = [StreamChanged(name, "seen", "first record")]
        if len(self._held) >= self._streams_max:
            oldest = next(iter(self._held))
            self.forget(oldest)
            detail = f"engine.streams_max = {self._streams_max} is reached and it was seen longest ago"
            effects.append(StreamChanged(oldest, "evicted", detail))
        stream = self.begin(name)
        if isinstance(stream, Stream) and stream.reference is not None:
            effects.append(StreamChanged(name, "reference", described(stream.reference)))
        return stream, effects

    def touched(self, name: str) -> Stream | Run | None:
        """The one of that name, if it is held, to be changed."""
        stream = self._held.get(name)
        if stream is not None:
            self._snapshots.touch(stream)
        return stream

    def begin(self, name: str) -> Stream | Run:
        """A new one of that name."""
        stream = self._held[name] = self._make(name)
        self._snapshots.touch(stream)
        return stream

    def forget(self, name: str) -> None:
        """It is held no more."""
        self._snapshots.forget(self._held.pop(name))
        self.nbytes -= self._counted.pop(name, (0, 0))[1]

    def count(self, stream: Stream | Run, *, anew: bool = False) -> None:
        """Keep `nbytes` near the truth without asking every stream every time."""
        batches, nbytes = self._counted.get(stream.name, (0, 0))
        if anew or batches % _RECOUNT_EVERY_BATCHES == 0:
            now = stream.nbytes
            self.nbytes += now - nbytes
            nbytes = now
        self._counted[stream.name] = (batches + 1, nbytes)


def described(reference: Reference) -> str:
    """A reference in words: how many rows, and from where."""
    source = {
        "batches": "reference batches",
        "bundle": "its bundle",
        "accepted": "what it was, with accepted columns",
    }.get(reference.source, "its own first rows")
    return f"{reference.table.rows} rows from {source}"
