"""A consumer group's member as the client has it: how it is set up, what it hears of rebalances, how it ends."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection
from typing import Any, Literal

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

from streamd.transport.kafka_mends import forget_old_answers
from streamd.transport.settings import KafkaSettings

_log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0

Event = tuple[Literal["assigned", "revoked"], frozenset[TopicPartition]]


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """Runs on the client's I/O thread, where nothing may block: hold back what is new, post a message, return."""

    def __init__(self, consumer: KafkaConsumer, events: deque[Event]) -> None:
        self._consumer = consumer
        self._events = events

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        forget_old_answers(self._consumer)
        self._consumer.pause(*assigned)
        self._post("assigned", assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._post("revoked", revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._post("revoked", lost)

    def _post(self, kind: Literal["assigned", "revoked"], partitions: Collection[TopicPartition]) -> None:
        if partitions:
            self._events.append((kind, frozenset(partitions)))


def close_apart(consumer: KafkaConsumer) -> threading.Thread:
    """Close on a daemon thread: the client waits for an I/O thread that may be stuck in a name lookup."""

    def close() -> None:
        try:
            consumer.close(autocommit=False, timeout_ms=CLOSE_SECONDS * 1000)
        except Exception as error:
            _log.debug("closing the consumer: %s", error)

    thread = threading.Thread(target=close, name="streamd-close-consumer", daemon=True)
    thread.start()
    return thread


def consumer_options(settings: KafkaSettings) -> dict[str, Any]:
    """Every default that matters, written out. No deserialisers: one that raises makes the client spin (K5)."""
    cooperative = settings.assignor == "cooperative"
    return {
        "group_id": settings.group_id,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",  # also waits for offsets that are still being committed (KIP-447)
        "auto_offset_reset": settings.auto_offset_reset,
        "partition_assignment_strategy": [CooperativeStickyAssignor if cooperative else RangePartitionAssignor],
        "allow_auto_create_topics": False,
        "check_crcs": True,
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": settings.heartbeat_interval_ms,
        "max_poll_interval_ms": settings.max_poll_interval_ms,
        "max_poll_records": settings.max_poll_records,
        "fetch_min_bytes": settings.fetch_min_bytes,
        "fetch_max_wait_ms": settings.fetch_max_wait_ms,
        "fetch_max_bytes": settings.fetch_max_bytes,
        "max_partition_fetch_bytes": settings.max_partition_fetch_bytes,
        "request_timeout_ms": settings.request_timeout_ms,
        "metrics_enabled": False,  # streamd has its own, and these cost time on every fetch
    }
