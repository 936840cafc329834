"""What of one partition's state goes to the state topic, and when; and how it is put together again.

A snapshot belongs to one input offset, and is written over the polls that follow it: ten thousand streams take ten
seconds, which no poll and no transaction has. Each stream is a part of its own, named by its content, so that one that
has not changed is not written again; the snapshot names its streams' parts, and comes last:

    offset X ──▶ stream/… stream/… ──▶ stream/… ──▶ stream/… snapshot/1 of X ──▶ what neither it nor the one before
    begins       one transaction       the next       the last                   it names, and is older, is removed

A snapshot without its last transaction does not exist: the one before it is whole, and the input is read from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamd.detectors.base import State
from streamd.engine import DetectorCrashError, PartitionEngine
from streamd.kept import Kept
from streamd.model import Effect, Envelope, Keep
from streamd.sinks.state import Assembled, Part, part_records, tombstones
from streamd.state import pack, unpack
from streamd.transport.base import Outgoing

STREAMS_A_TURN = 32
"""Of a snapshot: some 40 ms with 32 columns each, less than a poll waits."""

_DIGITS = 32  # of a part's name: 128 bits of its SHA-256


class _Saved(NamedTuple):
    """Where a stream's last state is, and what it needs beside it."""

    part: str
    needs: frozenset[str]


@dataclass(slots=True)
class Journal:
    """What moved the state besides records: ticks that had an effect, and records that were skipped.

    Attributes:
        ticks: (offset before which it came, its time in epoch ms), in order.
        skips: offset -> the crash that it was skipped for.
    """

    ticks: list[tuple[int, int]] = field(default_factory=list)
    skips: dict[int, DetectorCrashError] = field(default_factory=dict)


class Keeper:
    """Writes one partition's state, in the transactions of the records that caused it.

    ```
      snapshot/0 ─── records ─── snapshot/1 ─── records ─── snapshot/0 …     alternating, so that one is always whole
           └ stream/…, reference/…, weights/… by content, when they are new;  tick/…, skip/… since the last snapshot
    ```

    Args:
        owner: `<group>/<topic>/<partition>`.
        topic: the state topic.
        snapshot_records: input records between two snapshots.
        found: what the topic held at assignment.
    """

    def __init__(self, owner: str, topic: str, snapshot_records: int, found: Assembled) -> None:
        self._owner = owner
        self._topic = topic
        self._every = snapshot_records
        self._chunks = dict(found.chunks)
        # Whole and readable, with their input offsets: what is damaged is written again.
        self._kept = {name: part.offset for name, part in found.parts.items()}
        self._needed: set[str] = set(found.parts)  # by the snapshot before the next one
        newest = newest_snapshot(found)
        self._slot = 1 if newest is not None and newest.name == "snapshot/0" else 0
        self._newest_offset = 0 if newest is None else newest.offset
        # The first delivery of an engine that was never kept says where it began.
        self._due = newest is None
        self._since = 0
        self._head: State | None = None  # of the snapshot under way
        self._streams: dict[str, _Saved] = {}

    @property
    def saving(self) -> bool:
        """A snapshot is under way: it goes on with every call of `records`, whether records came or not."""
        return self._head is not None

    def want_snapshot(self) -> None:
        """Begin one with the next delivery: the engine was built anew, and the one under way was of the old."""
        self._due, self._head = True, None

    def records(self, engine: PartitionEngine, effects: Iterable[Effect], stepped: int) -> list[Outgoing]:
        """What goes to the state topic together with these effects, after `stepped` records."""
        out: list[Outgoing] = []
        for effect in effects:
            if isinstance(effect, Keep) and effect.name not in self._kept:
                out += self._write(Part(effect.name, engine.next_offset, effect.data))
        self._since += stepped
        due = self._due or self._since >= self._every
        if due and self._head is None and engine.fit_wanted is None:
            self._head, self._since, self._due = engine.begin_snapshot(), 0, False
        if self._head is not None:
            # As many as records came: so it is whole before the next is due, however many there are.
            out += self._go_on(engine, self._head, max(stepped, STREAMS_A_TURN))
        return out

    def _go_on(self, engine: PartitionEngine, head: State, streams: int) -> list[Outgoing]:
        """The next streams of the snapshot under way, and after the last one the snapshot itself."""
        out: list[Outgoing] = []
        for saved in engine.saved(streams):
            part = f"stream/{hashlib.sha256(saved.data).hexdigest()[:_DIGITS]}"
            self._streams[saved.name] = _Saved(part, saved.needs)
            if part not in self._kept:
                out += self._write(Part(part, head["next_offset"], saved.data))
        return out if engine.saving else out + self._finish(head)

    def tick(self, engine: PartitionEngine, now_ms: int) -> list[Outgoing]:
        """A tick that had an effect, for those who restore."""
        return self._write(Part(f"tick/{now_ms}", engine.next_offset, pack({"now_ms": now_ms})))

    def skip(self, envelope: Envelope, crash: DetectorCrashError) -> list[Outgoing]:
        """A record that was passed over."""
        data = pack({"stream": crash.stream, "detector": crash.detector, "cause": repr(crash.__cause__)})
        return self._write(Part(f"skip/{envelope.offset}", envelope.offset, data))

    def _finish(self, head: State) -> list[Outgoing]:
        """The snapshot, which names the parts of its streams; and the end of what no restore will ask for again."""
        offset, self._head = head["next_offset"], None
        self._streams = {name: self._streams[name] for name in head["streams"]}
        streams = [[name, saved.part] for name, saved in self._streams.items()]
        out = self._write(Part(f"snapshot/{self._slot}", offset, pack(head | {"streams": streams})))
        self._slot = 1 - self._slot
        needed = {saved.part for saved in self._streams.values()}
        needed |= {name for saved in self._streams.values() for name in saved.needs}
        # What the snapshot before this one needs stays, with all that came since: it is what is left when this one
        # is damaged.
        stays = needed | self._needed | {"snapshot/0", "snapshot/1"}
        gone = [name for name, since in self._kept.items() if since < self._newest_offset and name not in stays]
        for name in sorted(gone):
            out += tombstones(self._owner, name, self._chunks.pop(name, 1), self._topic, offset=offset)
            del self._kept[name]
        self._needed, self._newest_offset = needed, offset
        return out

    def _write(self, part: Part) -> list[Outgoing]:
        records = part_records(self._owner, part, self._topic)
        before = self._chunks.get(part.name, 0)
        self._chunks[part.name] = len(records)
        self._kept[part.name] = part.offset
        if before > len(records):
            records += tombstones(self._owner, part.name, before, self._topic, start=len(records), offset=part.offset)
        return records


def newest_snapshot(found: Assembled) -> Part | None:
    """The snapshot to start from: the newest whose streams are all there, else the newest; None: there is none."""
    snapshots = [part for name, part in found.parts.items() if name.startswith("snapshot/")]
    snapshots.sort(key=lambda part: part.offset, reverse=True)
    whole = (s for s in snapshots if all(part in found.parts for _, part in unpack(s.data)["streams"]))
    return next(whole, snapshots[0] if snapshots else None)


def restore(engine: PartitionEngine, found: Assembled) -> tuple[Journal, Mapping[str, bytes], list[str]]:
    """Put the newest snapshot into a new engine.

    Returns:
        What happened since then besides records; all trained weights, by their fit key; and a sentence for each
        thing that could not be used.
    """
    kept = Kept.unpacked({name: part.data for name, part in found.parts.items()})
    snapshot = newest_snapshot(found)
    journal = Journal()
    problems = list(found.problems)
    if snapshot is not None:
        head = unpack(snapshot.data)
        states = (unpack(found.parts[part].data) for _, part in head["streams"] if part in found.parts)
        problems += engine.restore(head | {"streams": states}, kept)
        lost = [name for name, part in head["streams"] if part not in found.parts]
        problems += [f"the state of {name} is damaged: the stream starts anew" for name in lost]
    elif engine.next_offset > 0:
        problems.append(f"no snapshot was found: all streams start anew at offset {engine.next_offset}")
    for name, part in found.parts.items():
        kind = name.partition("/")[0]
        if part.offset < engine.next_offset or snapshot is None:
            continue
        if kind == "tick":
            journal.ticks.append((part.offset, unpack(part.data)["now_ms"]))
        elif kind == "skip":
            saved = unpack(part.data)
            crash = DetectorCrashError(saved["stream"], saved["detector"])
            crash.__cause__ = RuntimeError(saved["cause"])
            journal.skips[part.offset] = crash
    journal.ticks.sort()  # by the place first: another owner's clock may have been behind
    return journal, kept.weights, problems
