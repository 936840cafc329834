"""What of one partition's state goes to the state topic, and when; and how it is put together again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streamd.engine import DetectorCrashError, PartitionEngine
from streamd.model import Effect, Envelope, Keep
from streamd.sinks.state import Assembled, Part, part_records, tombstones
from streamd.state import pack, unpack
from streamd.stream import Kept
from streamd.transport.base import Outgoing


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
           └ reference/…, weights/… by content, when they are new;  tick/…, skip/… since the last snapshot
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
        self._kept = set(found.parts)  # whole and readable: what is damaged is written again
        self._needed: set[str] = set(found.parts)  # by the snapshot before the next one
        newest = newest_snapshot(found)
        self._slot = 1 if newest is not None and newest.name == "snapshot/0" else 0
        # The first delivery of an engine that was never kept says where it began.
        self._due = newest is None
        self._since = 0

    def want_snapshot(self) -> None:
        """Take one with the next delivery: the engine was built anew."""
        self._due = True

    def records(self, engine: PartitionEngine, effects: Iterable[Effect], stepped: int) -> list[Outgoing]:
        """What goes to the state topic together with these effects, after `stepped` records."""
        out: list[Outgoing] = []
        for effect in effects:
            if isinstance(effect, Keep) and effect.name not in self._kept:
                out += self._write(Part(effect.name, engine.next_offset, effect.data))
        self._since += stepped
        if (self._due or self._since >= self._every) and engine.fit_wanted is None:
            out += self._snapshot(engine)
        return out

    def tick(self, engine: PartitionEngine, now_ms: int) -> list[Outgoing]:
        """A tick that had an effect, for those who restore."""
        return self._write(Part(f"tick/{now_ms}", engine.next_offset, pack({"now_ms": now_ms})))

    def skip(self, envelope: Envelope, crash: DetectorCrashError) -> list[Outgoing]:
        """A record that was passed over."""
        data = pack({"stream": crash.stream, "detector": crash.detector, "cause": repr(crash.__cause__)})
        return self._write(Part(f"skip/{envelope.offset}", envelope.offset, data))

    def _snapshot(self, engine: PartitionEngine) -> list[Outgoing]:
        """The moving part; and the end of everything that no restore will ask for again."""
        self._since, self._due = 0, False
        out = self._write(Part(f"snapshot/{self._slot}", engine.next_offset, pack(engine.snapshot())))
        self._slot = 1 - self._slot
        # What the snapshot before this one needs stays: it is what is left when this one is damaged.
        needed = engine.kept().names()
        gone = self._kept - needed - self._needed - {"snapshot/0", "snapshot/1"}
        for name in sorted(gone):
            out += tombstones(self._owner, name, self._chunks.pop(name, 1), self._topic, offset=engine.next_offset)
        since = {name for name in self._kept if name.startswith(("tick/", "skip/"))} - gone
        self._kept -= gone
        self._needed = needed | since
        return out

    def _write(self, part: Part) -> list[Outgoing]:
        records = part_records(self._owner, part, self._topic)
        before = self._chunks.get(part.name, 0)
        self._chunks[part.name] = len(records)
        self._kept.add(part.name)
        if before > len(records):
            records += tombstones(self._owner, part.name, before, self._topic, start=len(records), offset=part.offset)
        return records


def newest_snapshot(found: Assembled) -> Part | None:
    """The snapshot to start from; None where there is none."""
    snapshots = [part for name, part in found.parts.items() if name.startswith("snapshot/")]
    return max(snapshots, key=lambda part: part.offset, default=None)


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
        problems += engine.restore(unpack(snapshot.data), kept)
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
    journal.ticks.sort(key=lambda tick: tick[1])
    return journal, kept.weights, problems
