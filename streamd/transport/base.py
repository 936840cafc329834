"""What a transport is: records in with rebalances, records out with offsets. Synchronous: one thread calls it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamd.errors import StreamdError
from streamd.model import Envelope, Header


class Partition(NamedTuple):
    """A topic's partition: the unit of state and of parallelism."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partitions are ours from here on. `positions`: the committed offset that each starts from."""

    positions: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are ours no more. Nothing may be committed for them."""

    partitions: frozenset[Partition]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Records that no client can read (a checksum that is wrong, a header that is not UTF-8): passed over, once."""

    partition: Partition
    first_offset: int
    last_offset: int  # inclusive
    error: str


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought: first the changes of the assignment, in order, then records of what is assigned now.

    A poll that reports a partition as Assigned brings no record of it yet: there is time to seek. That one is lost is
    told when it is not paused, so that what was read of it before can be delivered first.
    """

    changes: tuple[Assigned | Revoked, ...] = ()
    records: tuple[Envelope, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    lost: frozenset[Partition] = frozenset()  # retention removed what was to be read next: no records of them


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to publish. `timestamp_ms` None: the client's clock.

    Records of a topic with equal `placement` go to one partition, whatever their key; None: by the key.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    timestamp_ms: int | None = None
    placement: bytes | None = None


class RecordTooLargeError(StreamdError):
    """The broker will never take this record: leave it out or make it smaller, then deliver again.

    Nothing of the delivery was committed.
    """

    def __init__(self, record: Outgoing, detail: str) -> None:
        super().__init__(detail)
        self.record = record


class Transport(Protocol):
    """A consumer group member and its publisher.

    Between two polls the caller delivers everything that the last poll caused, so that nothing is
    uncommitted when the group rebalances. What the group gave and took is told by `poll` alone.
    """

    def open(self) -> None:
        """Connect and join. Raises TransientError while the broker is away; may be called again."""

    def poll(self, timeout_seconds: float) -> Polled:
        """Wait for records or changes. Moves each partition's position past what it returns.

        Raises TransientError when the broker is away for now.
        """

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch nothing from them until `resume`; their place in the group stays. Unassigned ones are ignored."""

    def resume(self, partitions: Collection[Partition]) -> None: ...

    def seek(self, partition: Partition, offset: int) -> None:
        """The next poll reads `partition` from `offset`. KeyError when it is not assigned."""

    def position(self, partition: Partition) -> int:
        """The offset after the last record returned, gaps (transaction markers) included: what to commit.

        KeyError when it is not assigned.
        """

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset that is still there, and the one that the next record will get. Asks the broker."""

    def lags(self) -> Mapping[Partition, int]:
        """Records between position and end, per assigned partition, as last heard from the broker. No I/O."""

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        """Make the records and the offsets durable and visible: all of them, or none. Returns only when they are.

        Raises TransientError when it could not be made sure, or when the group has taken away one of the
        partitions: then a poll soon says Revoked. The next call must be the same again, less what belongs to
        partitions that were revoked since, or, when all of them were, any other. Where the first one had gone
        through after all, a repetition finds that out and does nothing. (A call without offsets leaves no trace
        to find: it may be written twice.) Raises RecordTooLargeError when trying again is no use.
        """

    def read_state(self, topic: str, placement: bytes) -> list[Envelope]:
        """What is committed of the partition of `topic` that records of this placement go to, oldest first.

        Left out are records whose key does not begin with the placement. Asked after a partition is Assigned, it
        holds whatever became visible together with the committed offset. May be called on any thread, also while
        another one polls. Raises TransientError, within a bounded time; may be called again.
        """

    def close(self) -> None:
        """Leave the group, flush nothing more. Never raises, bounded in time."""
