"""A broker in memory, with partitions, groups and rebalances: deterministic, without threads. For tests and replay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kafka.partitioner.default import murmur2

from streamd.errors import TransientError
from streamd.model import Envelope, Header
from streamd.transport.base import Assigned, Outgoing, Partition, Polled, RecordTooLargeError, Revoked

Fault = Literal["before", "between", "after"]


@dataclass
class _Group:
    """Who is a member, in the order of joining; who owns what; what is committed."""

    members: list[MemoryTransport] = field(default_factory=list)
    owners: dict[Partition, MemoryTransport] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)

    def expel(self, member: MemoryTransport) -> None:
        if member in self.members:
            self.members.remove(member)
        self.owners = {p: owner for p, owner in self.owners.items() if owner is not member}

    def target(self, partitions: list[Partition]) -> dict[Partition, MemoryTransport]:
        """Round robin over the members."""
        if not self.members:
            return {}
        return {p: self.members[i % len(self.members)] for i, p in enumerate(partitions)}


class MemoryBroker:
    """Topics and groups.

    Args:
        clock_ms: the timestamp of records that bring none.
        max_record_bytes: larger values are refused.

    Attributes:
        available: while False, every call of a transport raises TransientError.
        deliver_faults: where the next calls of `deliver` fail, one word a call: `before` anything is written,
            `between` the records and the offsets (nothing of it is ever visible), or `after` both: all of it is
            visible, and the answer is lost.
    """

    def __init__(self, clock_ms: Callable[[], int] = lambda: 0, max_record_bytes: int | None = None) -> None:
        self.available = True
        self.deliver_faults: deque[Fault] = deque()
        self.max_record_bytes = max_record_bytes
        self._clock_ms = clock_ms
        self._logs: dict[str, list[list[Envelope]]] = {}
        self._arrived: dict[str, list[Envelope]] = {}
        self._groups: dict[str, _Group] = {}
        self._first: dict[Partition, int] = {}

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Make the topic, or give it more partitions; it never loses any."""
        logs = self._logs.setdefault(topic, [])
        self._arrived.setdefault(topic, [])
        logs.extend([] for _ in range(partitions - len(logs)))

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[Header, ...] = (),
        timestamp_ms: int | None = None,
        partition: int | None = None,
        placement: bytes | None = None,
    ) -> Envelope:
        """Write one record; returns it with its place. A topic that is not there gets one partition.

        By default the partition is Kafka's: murmur2 of `placement`, else of the key; records without either go
        round robin.
        """
        self.create_topic(topic)
        logs = self._logs[topic]
        if partition is None:
            hashed = key if placement is None else placement
            chosen = len(self._arrived[topic]) if hashed is None else int(murmur2(hashed)) & 0x7FFFFFFF
            partition = chosen % len(logs)
        if timestamp_ms is None:
            timestamp_ms = self._clock_ms()
        envelope = Envelope(topic, partition, len(logs[partition]), timestamp_ms, key, value, headers)
        logs[partition].append(envelope)
        self._arrived[topic].append(envelope)
        return envelope

    def read(self, topic: str, partition: int | None = None) -> list[Envelope]:
        """All records of a topic in the order of arrival, or those of one partition."""
        if partition is None:
            return list(self._arrived.get(topic, ()))
        return list(self._logs[topic][partition])

    def fetch(self, partition: Partition, start: int, count: int) -> list[Envelope]:
        """At most `count` records of a partition from `start` on."""
        return self._logs[partition.topic][partition.number][start : start + count]

    def first(self, partition: Partition) -> int:
        """The first offset that retention has left."""
        return self._first.get(partition, 0)

    def retain_from(self, partition: Partition, offset: int) -> None:
        """Lose what is older than `offset`, as retention does."""
        self._first[partition] = offset

    def end(self, partition: Partition) -> int:
        """The offset that the next record will get."""
        return len(self._logs[partition.topic][partition.number])

    def committed(self, group_id: str, partition: Partition) -> int | None:
        """What the group has committed, or None."""
        return self.group(group_id).committed.get(partition)

    def group(self, group_id: str) -> _Group:
        return self._groups.setdefault(group_id, _Group())

    def expel(self, member: MemoryTransport) -> None:
        """The member was silent for too long: its partitions are free, and it learns of it by its next poll."""
        member._group.expel(member)

    def partitions(self, topics: Collection[str]) -> list[Partition]:
        """Every partition of the topics that exist, sorted."""
        return sorted(Partition(t, n) for t in topics for n in range(len(self._logs.get(t, ()))))


class MemoryTransport:
    """A member of a group on a MemoryBroker. See `Transport` for what the methods promise.

    Args:
        broker: where the records are.
        topics: what to read.
        group_id: whose offsets.
        max_records: of one poll.
        start: where a partition without a committed offset begins.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        topics: Collection[str],
        group_id: str = "streamd",
        max_records: int = 64,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> None:
        self._broker = broker
        self._topics = tuple(topics)
        self._group = broker.group(group_id)
        self._max_records = max_records
        self._start = start
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._open = False
        self._doubt: dict[Partition, int] | None = None  # what a delivery committed whose answer was lost
        self._turn = 0  # which partition goes first: all get their turn, as with Kafka

    def open(self) -> None:
        self._need_broker()
        self._open = True
        if self not in self._group.members:
            self._group.members.append(self)

    def poll(self, timeout_seconds: float) -> Polled:
        """Never waits: what is there is there."""
        self._need_broker()
        changes = self._rebalance()
        fresh = {p for change in changes if isinstance(change, Assigned) for p in change.positions}
        records: list[Envelope] = []
        lost: set[Partition] = set()
        ready = sorted(self._positions.keys() - self._paused - fresh)
        for i in range(len(ready)):
            partition = ready[(self._turn + i) % len(ready)]
            start = self._positions[partition]
            if start < self._broker.first(partition):
                lost.add(partition)
                continue
            taken = self._broker.fetch(partition, start, self._max_records - len(records))
            records += taken
            self._positions[partition] = start + len(taken)
        self._turn += 1
        return Polled(changes, tuple(records), lost=frozenset(lost))

    def pause(self, partitions: Collection[Partition]) -> None:
        self._paused |= self._positions.keys() & set(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self._paused -= set(partitions)

    def seek(self, partition: Partition, offset: int) -> None:
        if partition not in self._positions:
            raise KeyError(partition)
        self._positions[partition] = offset

    def position(self, partition: Partition) -> int:
        return self._positions[partition]

    def bounds(self, partition: Partition) -> tuple[int, int]:
        self._need_broker()
        return self._broker.first(partition), self._broker.end(partition)

    def lags(self) -> Mapping[Partition, int]:
        return {p: max(0, self._broker.end(p) - position) for p, position in self._positions.items()}

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        self._need_broker()
        gone = sorted(p for p in offsets if p not in self._positions or self._group.owners.get(p) is not self)
        if gone:
            raise TransientError(f"the group has taken away {gone[0].topic}/{gone[0].number}")
        doubt, self._doubt = self._doubt, None
        if doubt and offsets and offsets.items() <= doubt.items():
            return  # it had gone through
        for record in outgoing:
            limit = self._broker.max_record_bytes
            if limit is not None and len(record.value or b"") > limit:
                raise RecordTooLargeError(record, f"a record for {record.topic} is larger than {limit} bytes")
        fault = self._broker.deliver_faults.popleft() if self._broker.deliver_faults else None
        if fault == "before":
            raise TransientError("nothing was written")
        if fault == "between":
            raise TransientError("the records were written, the offsets were not: none of it is visible")
        for r in outgoing:
            self._broker.append(r.topic, r.key, r.value, r.headers, r.timestamp_ms, placement=r.placement)
        self._group.committed.update(offsets)
        if fault == "after":
            self._doubt = dict(offsets)
            raise TransientError("the answer was lost")

    def read_state(self, topic: str, placement: bytes) -> list[Envelope]:
        self._need_broker()
        return MemoryStateReader(self._broker, topic).read(placement, prefix=placement)

    def close(self) -> None:
        self._open = False
        self._group.expel(self)
        self._positions.clear()
        self._paused.clear()

    def _need_broker(self) -> None:
        if not self._broker.available:
            raise TransientError("the broker is away")

    def _rebalance(self) -> tuple[Assigned | Revoked, ...]:
        """Give up what is another's, then take what is ours and free: as in a cooperative rebalance."""
        owners = self._group.owners
        changes: list[Assigned | Revoked] = []
        expelled = frozenset(p for p in self._positions if owners.get(p) is not self)
        if self._open and self not in self._group.members:
            self._group.members.append(self)
        target = self._group.target(self._broker.partitions(self._topics))
        lost = expelled | frozenset(p for p in self._positions if target.get(p) is not self)
        if lost:
            for partition in lost:
                del self._positions[partition]
                if owners.get(partition) is self:
                    del owners[partition]
                self._paused.discard(partition)
            self._doubt = {p: o for p, o in (self._doubt or {}).items() if p not in lost}
            changes.append(Revoked(lost))
        gained = sorted(p for p, member in target.items() if member is self and p not in owners)
        if gained:
            positions = {p: self._first_position(p) for p in gained}
            self._positions.update(positions)
            owners.update(dict.fromkeys(gained, self))
            changes.append(Assigned(positions))
        return tuple(changes)

    def _first_position(self, partition: Partition) -> int:
        committed = self._group.committed.get(partition)
        if committed is not None:
            return committed
        return 0 if self._start == "earliest" else self._broker.end(partition)


class MemoryStateReader:
    """Reads partitions of a state topic on a MemoryBroker, as `StateReader` does on Kafka."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    def read(self, placement: bytes, prefix: bytes = b"") -> list[Envelope]:
        """The records of the partition that `placement` maps to whose key begins with `prefix`, oldest first."""
        count = len(self._broker.partitions([self._topic]))
        if not count:
            raise TransientError(f"there is no topic {self._topic}")
        records = self._broker.read(self._topic, int(murmur2(placement) & 0x7FFFFFFF) % count)
        return [record for record in records if (record.key or b"").startswith(prefix)]
