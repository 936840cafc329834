"""Reads what is committed of one partition of the state topic: a client of its own, on whatever thread calls.

The end is the high-water mark of the broker's first answer, not the last stable offset below it. What belongs to
the committed offset of an input partition is in the log before that offset is, so once everything up to the mark is
decided, nothing of it can be missing; where a transaction is still open, the reader waits for its end:

    ├── committed ──┼── a dead process's open transaction ──┼── others' ──┤
    0          last stable                                           high water
                    └─ waits: transaction_timeout_ms, and until the broker looks at its clock

`end_offsets` would not do: under read_committed it is the last stable offset, and on Tansu it is short.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from streamd.errors import ConfigError, TransientError
from streamd.model import Envelope
from streamd.transport import kafka_auth
from streamd.transport.kafka_unreadable import find_unreadable
from streamd.transport.settings import KafkaSettings

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_QUIET_SECONDS = 2.0  # without progress for so long, ask whether the broker is there: the client would never say
_ANSWER_SECONDS = 10.0
_CLOSE_SECONDS = 1.0

# A broker ends what is overdue when it next looks: transaction.abort.timed.out.transaction.cleanup.interval.ms, 10 s.
_CLEANUP_SECONDS = 10.0
_GRACE_SECONDS = 5.0


def partition_of(placement: bytes, partitions: int) -> int:
    """Where a topic of so many partitions has the records of this placement: as Kafka places a key."""
    return int((murmur2(placement) & 0x7FFFFFFF) % partitions)


class StateReader:
    """Reads partitions of a state topic. `read` may run on several threads at once.

    Args:
        settings: how to reach Kafka.
        topic: the state topic. Its number of partitions must never change: it says where everything is.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._closed = threading.Event()
        self._patience_seconds = settings.transaction_timeout_ms / 1000 + _CLEANUP_SECONDS + _GRACE_SECONDS

    def read(self, placement: bytes, prefix: bytes = b"") -> list[Envelope]:
        """The committed records, oldest first, of the partition that `placement` maps to.

        Ask for it after the committed offsets are known: it holds whatever became visible together with them.

        Args:
            placement: of the records that are wanted.
            prefix: leave out, and do not hold in memory, records whose key does not begin so.

        Raises TransientError when the broker is away, a transaction does not end in time, or `close` was called;
        may be called again.
        """
        try:
            consumer = kafka_auth.build(KafkaConsumer, self._settings, **_consumer_options(self._settings))
        except ConfigError as error:  # the transport's login works: what is refused here may be mended while we run
            raise TransientError(str(error)) from error
        try:
            # The client may have heard of the topic before all brokers have.
            partitions = consumer.partitions_for_topic(self._topic)
            if not partitions:
                raise TransientError(f"there is no topic {self._topic}")
            partition = TopicPartition(self._topic, partition_of(placement, len(partitions)))
            return self._read(consumer, partition, prefix)
        except kafka_errors.KafkaError as error:
            raise TransientError(f"reading {self._topic}: {type(error).__name__}: {error}") from error
        finally:
            consumer.close(autocommit=False, timeout_ms=_CLOSE_SECONDS * 1000)

    def close(self) -> None:
        """Make every `read`, under way or to come, raise TransientError soon. May be called on any thread."""
        self._closed.set()

    def _read(self, consumer: Any, partition: TopicPartition, prefix: bytes) -> list[Envelope]:
        consumer.assign([partition])
        # Asked before the first fetch: a leader that is new in office answers it only when its own mark is right.
        self._last_stable(consumer, partition)
        consumer.seek(partition, consumer.beginning_offsets([partition], timeout_ms=_ANSWER_SECONDS * 1000)[partition])
        found: list[Envelope] = []
        end: int | None = None
        position = suspect = -1
        moved_at = asked_at = time.monotonic()
        while not self._closed.is_set():
            try:
                polled = consumer.poll(timeout_ms=_POLL_SECONDS * 1000)
            except Exception as error:
                polled = {}
                suspect = self._step_over(consumer, error, suspect)
            found += [
                Envelope(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                for r in polled.get(partition, ())
                if (r.key or b"").startswith(prefix)
            ]
            end = consumer.highwater(partition) if end is None else end
            before, position = position, int(consumer.position(partition, timeout_ms=0) or 0)
            if end is not None and position >= end:
                return found
            now = time.monotonic()
            if position != before:
                moved_at = asked_at = now
            elif now - moved_at > self._patience_seconds:
                raise TransientError(self._stuck(consumer, partition, position, end))
            elif now - asked_at > _QUIET_SECONDS:
                self._last_stable(consumer, partition)
                asked_at = time.monotonic()
        raise TransientError(f"reading {self._topic} was broken off")

    def _stuck(self, consumer: Any, partition: TopicPartition, position: int, end: int | None) -> str:
        place = f"{partition.topic}/{partition.partition}"
        if self._last_stable(consumer, partition) <= position:
            return (
                f"a transaction in {place} is open at offset {position} for more than {self._patience_seconds:g} s: "
                "the broker should have ended it by then (kafka-transactions.sh find-hanging)"
            )
        return f"reading {place} stands at offset {position} of {end} for more than {self._patience_seconds:g} s"

    def _last_stable(self, consumer: Any, partition: TopicPartition) -> int:
        """The first offset that is not decided. Raises KafkaError when the broker does not answer."""
        return int(consumer.end_offsets([partition], timeout_ms=_ANSWER_SECONDS * 1000)[partition])

    def _step_over(self, consumer: Any, error: Exception, suspect: int) -> int:
        """K5: let go of a batch that cannot be unpacked, or the next poll never returns.

        Fetched anew once, since it may have been the wire; then passed over: what it held is missing, and whoever
        puts the state together finds that out by its checksums. Returns where the batch is.
        """
        unreadable = find_unreadable(error)
        if unreadable is None:
            if isinstance(error, kafka_errors.KafkaError):
                raise error
            raise TransientError(f"reading {self._topic}: {type(error).__name__}: {error}") from error
        unreadable.let_go()
        if unreadable.offset == suspect:
            _log.error(
                "%s: offsets %d to %d cannot be read and are left out: %s",
                unreadable.partition,
                unreadable.offset,
                unreadable.next_offset - 1,
                error,
            )
            consumer.seek(unreadable.partition, unreadable.next_offset)
        return unreadable.offset


def _consumer_options(settings: KafkaSettings) -> dict[str, Any]:
    """Without a group: nobody's place moves, and nothing is committed."""
    return {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",  # where the cleaner removes the beginning while we read
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "check_crcs": True,
        "fetch_max_wait_ms": int(_POLL_SECONDS * 1000),  # a partition without records answers at once
        "fetch_max_bytes": settings.fetch_max_bytes,
        "max_partition_fetch_bytes": min(settings.fetch_max_bytes, 16 * 1024 * 1024),  # there is only this partition
        "max_poll_records": 10_000,
        "request_timeout_ms": settings.request_timeout_ms,
        "metrics_enabled": False,
    }
