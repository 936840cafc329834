"""The consuming half of the Kafka transport: one member of a group, owned by the thread that calls it.

The client has an I/O thread of its own. Rebalances reach us there, only while our thread waits in the client's
`poll`; the listener holds the new partitions back and posts a message, and our thread makes the rest of it:

    client.poll ──▶ listener: pause(new), post ──▶ our thread: position(new), resume(new), report Assigned
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.base import MemberState
from kafka.structs import OffsetAndMetadata

from streamd.errors import ConfigError, TransientError
from streamd.model import Envelope
from streamd.transport import kafka_auth
from streamd.transport.base import Assigned, Partition, Polled, Revoked, Skipped
from streamd.transport.kafka_member import CLOSE_SECONDS, Event, Listener, close_apart, consumer_options
from streamd.transport.kafka_mends import (
    beat_when_found,
    clear_slot,
    forget_old_answers,
    hang_up,
    keep_finished_join,
    note_resets,
)
from streamd.transport.kafka_unreadable import UnreadableBatch, find_unreadable
from streamd.transport.settings import KafkaSettings

_log = logging.getLogger(__name__)

_QUIET_SECONDS = 5.0  # without records for so long, ask whether the broker is there: the client would never say
_PING_SECONDS = 1.0
_REBUILD_SECONDS = 30.0  # away for so long, begin anew: the client does not look its bootstrap servers up again
_POSITION_SECONDS = 1.0  # to learn where new partitions start; later polls try again
_BOUNDS_MS = 10_000

_MOVED_ON = (  # the group has: rejoin, then commit what is still ours
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


class GroupConsumer:
    """A member of the group. Every method belongs to one thread.

    Args:
        settings: how to reach Kafka.
        topics: what to subscribe to.
    """

    def __init__(self, settings: KafkaSettings, topics: Collection[str]) -> None:
        self._settings = settings
        self._topics = sorted(topics)
        self._consumer: KafkaConsumer | None = None
        self._events: deque[Event] = deque()
        self._reported: dict[Partition, int] = {}  # what the caller knows as ours: its last known position
        self._known_as: dict[Partition, str] = {}  # and the member id that it was given to
        self._member: Any = None  # who we are in the group, as of the last poll that saw the group at rest
        self._paused: set[Partition] = set()  # by the caller
        self._suspect: tuple[Partition, int] | None = None
        self._resets: set[TopicPartition] = set()
        self._heard_at = 0.0
        self._away_since: float | None = None

    def open(self) -> None:
        """Connect and subscribe. Raises TransientError or ConfigError; may be called again."""
        if self._consumer is not None:
            return
        consumer = kafka_auth.build(KafkaConsumer, self._settings, **consumer_options(self._settings))
        beat_when_found(consumer)
        self._events = deque([("revoked", _client_partitions(self._reported))] if self._reported else [])
        consumer.subscribe(self._topics, listener=Listener(consumer, self._events))
        self._consumer = consumer
        self._resets = note_resets(consumer)
        self._heard_at = time.monotonic()
        self._away_since = None

    def poll(self, timeout_seconds: float) -> Polled:
        """See Transport.poll."""
        self._reopen()
        deadline = time.monotonic() + timeout_seconds
        skipped: list[Skipped] = []
        by_partition: Mapping[TopicPartition, list[Any]] = {}
        while True:
            remaining_ms = max(0, int((deadline - time.monotonic()) * 1000))
            try:
                keep_finished_join(self._client)
                clear_slot(self._client)
                by_partition = self._client.poll(remaining_ms, max_records=self._settings.max_poll_records)
                break
            except Exception as error:
                unreadable = find_unreadable(error)
                if unreadable is None:
                    raise self._transient("poll", error) from error
                skipped += self._step_over(unreadable, error)
                if time.monotonic() >= deadline:
                    break
        self._note_member()
        changes = self._changes()
        # The client's thread adds to it. A caller who is in the middle of a delivery has paused the partition.
        resets = {p for p in self._resets.copy() if Partition(*p) not in self._paused}
        self._resets -= resets
        lost = {Partition(*p) for p in resets} & self._reported.keys()
        records = []
        for client_partition, batch in by_partition.items():
            partition = Partition(*client_partition)
            if partition not in self._reported or partition in lost:
                continue  # taken away while this poll was on its way
            for r in batch:
                records.append(  # noqa: PERF401 - 64 at most, and it reads better
                    Envelope(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                )
        if records or changes or skipped:
            self._heard()
        else:
            self._prove_alive()
        return Polled(changes, tuple(records), tuple(skipped), frozenset(lost))

    def pause(self, partitions: Collection[Partition]) -> None:
        """See Transport.pause."""
        mine = self._reported.keys() & set(partitions)
        self._paused |= mine
        self._while_assigned(lambda client, p: client.pause(p), mine)

    def resume(self, partitions: Collection[Partition]) -> None:
        """See Transport.resume."""
        mine = self._reported.keys() & set(partitions)
        self._paused -= mine
        self._while_assigned(lambda client, p: client.resume(p), mine)

    def seek(self, partition: Partition, offset: int) -> None:
        """See Transport.seek."""
        if partition not in self._reported:
            raise KeyError(partition)
        self._reported[partition] = offset
        self._resets.discard(TopicPartition(*partition))
        self._while_assigned(lambda client, p: client.seek(p, offset), {partition})

    def position(self, partition: Partition) -> int:
        """See Transport.position."""
        if partition not in self._reported:
            raise KeyError(partition)
        if partition in self._assignment():
            now = self._client.position(TopicPartition(*partition), timeout_ms=0)
            if now is not None:  # None: the broker is looking for a new start, since retention ate the old one
                self._reported[partition] = int(now)
        return self._reported[partition]

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """See Transport.bounds."""
        place = TopicPartition(*partition)
        try:
            first = self._client.beginning_offsets([place], timeout_ms=_BOUNDS_MS)[place]
            end = self._client.end_offsets([place], timeout_ms=_BOUNDS_MS)[place]
        except Exception as error:
            raise self._transient("asking for the bounds of a partition", error) from error
        self._heard()
        return int(first), int(end)

    def lags(self) -> Mapping[Partition, int]:
        """See Transport.lags."""
        lags = {}
        for partition in self._reported.keys() & self._assignment():
            end = self._client.highwater(TopicPartition(*partition))
            if end is not None:
                lags[partition] = max(0, end - self.position(partition))
        return lags

    def commit(self, offsets: Mapping[Partition, int], timeout_seconds: float) -> None:
        """Commit what is still ours, through a rebalance if there is one. Raises TransientError."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            moved = self._moved()
            ours = {
                TopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets.items()
                if partition in self._reported and partition not in moved
            }
            if not ours:
                return
            remaining_ms = (deadline - time.monotonic()) * 1000
            if remaining_ms <= 0:
                raise TransientError("the group is still rebalancing: the offsets are not committed")
            try:
                self._client.commit(ours, timeout_ms=remaining_ms)
                self._heard()
                return
            except _MOVED_ON:
                self._rejoin(min(remaining_ms, 1000))
            except Exception as error:
                raise self._transient("commit", error) from error

    def membership(self, partitions: Collection[Partition]) -> Any:
        """What a transaction shows to commit offsets of these partitions (KIP-447): who we were at the last poll.

        The broker refuses it where the group has moved on since. Raises TransientError where we know already that
        one of them is not ours any more.
        """
        gone = sorted((set(partitions) - self._reported.keys()) | (self._moved() & set(partitions)))
        if gone:
            names = ", ".join(f"{p.topic}/{p.number}" for p in gone)
            raise TransientError(f"{names}: the group has taken it away")
        # Without an id and a generation the broker would check nothing at all.
        if self._consumer is None or self._member is None:
            raise TransientError("not a member of the group for now")
        return self._member

    def committed_metadata(self, partitions: Collection[Partition], timeout_seconds: float) -> dict[Partition, str]:
        """What was noted with the committed offset of each; one that hangs on a transaction is waited for (KIP-447).

        Raises TransientError.
        """
        deadline = time.monotonic() + timeout_seconds
        found = {}
        forget_old_answers(self._client)
        for partition in partitions:
            remaining_ms = max(1.0, (deadline - time.monotonic()) * 1000)
            try:
                committed = self._client.committed(TopicPartition(*partition), metadata=True, timeout_ms=remaining_ms)
            except Exception as error:
                hang_up(self._client)  # for the next attempt
                raise self._transient("committed offsets", error) from error
            if committed is not None:
                found[partition] = str(committed.metadata)
        return found

    def close(self) -> None:
        """Leave the group. Never raises, takes at most some seconds."""
        consumer, self._consumer = self._consumer, None
        self._reported.clear()
        self._known_as.clear()
        self._paused.clear()
        self._events.clear()
        if consumer is not None:
            closing = close_apart(consumer)
            closing.join(CLOSE_SECONDS + 1)

    # --- The parts of a poll ------------------------------------------------------------------------

    def _note_member(self) -> None:
        """Keep who we are in the group, for `membership`, where the group is at rest: else who we were.

        In a rebalance the client has the new generation before it knows what it was given in it. To show that one
        would commit for a partition that somebody else has read since:

            JoinGroup answered: generation 8 ──▶ SyncGroup answered: no longer ours ──▶ listener: revoked
                               └── until here only generation 7 is honest, and the broker refuses it ──┘
        """
        member = self._client.group_metadata()
        if member.state is not MemberState.STABLE:
            return
        left = self._known_as.keys() - self._moved()
        if any(self._known_as[partition] != member.member_id for partition in left):
            # Thrown out while it was joining, the client does not tell: others may have had our partitions since.
            self._discard()
            raise TransientError("the group had thrown us out: joining anew")
        self._member = member

    def _moved(self) -> set[Partition]:
        """What the listener has posted about and no poll has reported yet."""
        return {Partition(*p) for _, partitions in tuple(self._events) for p in partitions}

    def _changes(self) -> tuple[Assigned | Revoked, ...]:
        """What the listener posted, in order; stops at an assignment whose start is not known yet."""
        changes: list[Assigned | Revoked] = []
        while self._events:
            kind, partitions = self._events[0]
            if kind == "revoked":
                lost = frozenset(Partition(*p) for p in partitions) & self._reported.keys()
                for partition in lost:
                    del self._reported[partition], self._known_as[partition]
                    self._paused.discard(partition)
                if lost:
                    changes.append(Revoked(lost))
            else:
                # One that is not ours any more has a `revoked` further back in the queue.
                current = sorted(p for p in partitions if p in self._client.assignment())
                positions = self._first_positions(current)
                if positions is None:
                    break
                self._reported.update(positions)
                self._known_as.update(dict.fromkeys(positions, self._member.member_id if self._member else ""))
                self._while_assigned(lambda client, p: client.resume(p), positions.keys())
                if positions:
                    changes.append(Assigned(positions))
            self._events.popleft()
        return tuple(changes)

    def _first_positions(self, partitions: list[TopicPartition]) -> dict[Partition, int] | None:
        """Where they start: the committed offset (only when no transaction hangs over it), else by the reset rule."""
        deadline = time.monotonic() + _POSITION_SECONDS
        positions = {}
        for partition in partitions:  # the first call asks for all of them
            try:
                remaining_ms = max(1.0, (deadline - time.monotonic()) * 1000)
                position = self._client.position(partition, timeout_ms=remaining_ms)
            except kafka_errors.KafkaError as error:
                _log.debug("the start of %s is not known yet: %s", partition, error)
                return None
            if position is None:
                return None
            positions[Partition(*partition)] = int(position)
        return positions

    def _step_over(self, unreadable: UnreadableBatch, error: Exception) -> list[Skipped]:
        """K5: let go of the batch, or the next poll never returns. Once fetched anew, twice passed over."""
        partition = Partition(*unreadable.partition)
        unreadable.let_go()
        if partition not in self._assignment():
            return []
        start = int(self._client.position(unreadable.partition, timeout_ms=0) or unreadable.offset)
        if self._suspect != (partition, start):
            self._suspect = (partition, start)  # it may have been the wire
            return []
        end = max(start + 1, unreadable.next_offset)
        self._client.seek(unreadable.partition, end)
        return [Skipped(partition, start, end - 1, f"{type(error).__name__}: {error}")]

    def _rejoin(self, timeout_ms: float) -> None:
        """Take part in the rebalance without reading anything; what changes is reported by the next poll."""
        self._while_assigned(lambda client, p: client.pause(p), self._reported.keys())
        try:
            keep_finished_join(self._client)
            self._client.poll(timeout_ms, max_records=1)
        except Exception as error:
            raise self._transient("rejoin", error) from error
        self._while_assigned(lambda client, p: client.resume(p), self._reported.keys() - self._paused - self._moved())

    # --- Is anybody there? --------------------------------------------------------------------------

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        self._away_since = None

    def _prove_alive(self) -> None:
        """After a while without records, ask the group's coordinator something: no answer is a TransientError."""
        if time.monotonic() - self._heard_at < _QUIET_SECONDS:
            return
        at_rest = self._client.group_metadata().state is MemberState.STABLE
        try:
            if at_rest:
                self._client.committed(TopicPartition(self._topics[0], 0), timeout_ms=_PING_SECONDS * 1000)
            else:
                # While the group rebalances, the broker lets all else on this connection wait: knock at the door.
                kafka_auth.reach(self._settings, _PING_SECONDS)
        except Exception as error:
            now = time.monotonic()
            self._away_since = self._away_since or now
            if now - self._away_since > _REBUILD_SECONDS:
                kafka_auth.reach(self._settings)
                self._discard()
            elif at_rest:
                hang_up(self._client)
            raise self._transient("ping", error) from error
        self._heard()

    def _transient(self, doing: str, error: Exception) -> TransientError:
        """The error for the caller. One that is not the client's own leaves nothing to trust: begin anew."""
        if isinstance(error, TransientError):
            return error
        if not isinstance(error, kafka_errors.KafkaError):
            self._discard()
        servers = ", ".join(self._settings.bootstrap_servers)
        return TransientError(f"the broker at {servers} does not answer ({doing}: {type(error).__name__}: {error})")

    def _reopen(self) -> None:
        """Open again what was discarded. A login that worked before is not a ConfigError: it may work again."""
        try:
            self.open()
        except ConfigError as error:
            raise TransientError(str(error)) from error

    def _discard(self) -> None:
        """Drop the client; the next poll makes another, and first reports everything as revoked."""
        consumer, self._consumer = self._consumer, None
        self._member = None
        if consumer is not None:
            close_apart(consumer)

    # --- The client ---------------------------------------------------------------------------------

    @property
    def _client(self) -> KafkaConsumer:
        if self._consumer is None:
            raise TransientError("not connected to Kafka: poll again")
        return self._consumer

    def _assignment(self) -> set[Partition]:
        """What the client has: nothing between two clients, and the next poll says so."""
        return {Partition(*p) for p in self._consumer.assignment()} if self._consumer is not None else set()

    def _while_assigned(
        self, do: Callable[[KafkaConsumer, TopicPartition], Any], partitions: Collection[Partition]
    ) -> None:
        """`do` it with each partition that the client still has (K7: it learns of a revocation before we do)."""
        for partition in partitions if self._consumer is not None else ():
            try:
                do(self._client, TopicPartition(*partition))
            except (KeyError, ValueError):
                _log.debug("%s is no longer assigned", partition)


def _client_partitions(partitions: Collection[Partition]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(*partition) for partition in partitions)
