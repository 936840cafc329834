"""The Kafka transport: a group member and its publisher, put together.

The caller's thread owns the consumer, one daemon thread the producer, and the client has an I/O thread for each.
How records and offsets become durable together is the publisher's: one transaction, or at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamd.model import Envelope
from streamd.transport.base import Outgoing, Partition, Polled, Revoked
from streamd.transport.kafka_admin import ensure_topics
from streamd.transport.kafka_consumer import GroupConsumer
from streamd.transport.kafka_producer import AtLeastOncePublisher, Publisher
from streamd.transport.kafka_state import StateReader
from streamd.transport.kafka_transactions import TransactionalPublisher
from streamd.transport.settings import KafkaSettings

__all__ = ["KafkaTransport", "ensure_topics"]


class KafkaTransport:
    """See `Transport` for what the methods promise.

    `open` also raises ConfigError, when the broker refuses who we are or its certificate is not trusted.

    Args:
        settings: how to reach Kafka, which group, how much at a time.
        topics: what to read.
    """

    def __init__(self, settings: KafkaSettings, topics: Collection[str]) -> None:
        self._settings = settings
        self._state_readers: dict[str, StateReader] = {}
        self._consumer = GroupConsumer(settings, topics)
        exactly_once = settings.delivery == "exactly_once"
        kind = TransactionalPublisher if exactly_once else AtLeastOncePublisher
        self._publisher: Publisher = kind(settings, self._consumer)

    def open(self) -> None:
        self._consumer.open()

    def poll(self, timeout_seconds: float) -> Polled:
        polled = self._consumer.poll(timeout_seconds)
        for change in polled.changes:
            if isinstance(change, Revoked):
                self._publisher.forget(change.partitions)
        return polled

    def pause(self, partitions: Collection[Partition]) -> None:
        self._consumer.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self._consumer.resume(partitions)

    def seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(partition, offset)

    def position(self, partition: Partition) -> int:
        return self._consumer.position(partition)

    def bounds(self, partition: Partition) -> tuple[int, int]:
        return self._consumer.bounds(partition)

    def lags(self) -> Mapping[Partition, int]:
        return self._consumer.lags()

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        self._publisher.deliver(outgoing, offsets)

    def read_state(self, topic: str, placement: bytes) -> list[Envelope]:
        reader = self._state_readers.setdefault(topic, StateReader(self._settings, topic))
        return reader.read(placement, prefix=placement)

    def close(self) -> None:
        readers, self._state_readers = self._state_readers, {}
        for reader in readers.values():
            reader.close()
        self._publisher.close()
        self._consumer.close()
