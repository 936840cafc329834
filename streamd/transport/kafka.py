"""The Kafka transport: a group member and its publisher, put together.

The caller's thread owns the consumer, one daemon thread the producer, and the client has an I/O thread for each.
Exactly-once comes by another `Publisher` that puts records and offsets into one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamd.transport.base import Outgoing, Partition, Polled
from streamd.transport.kafka_admin import ensure_topics
from streamd.transport.kafka_consumer import GroupConsumer
from streamd.transport.kafka_producer import AtLeastOncePublisher, Publisher
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
        self._consumer = GroupConsumer(settings, topics)
        self._publisher: Publisher = AtLeastOncePublisher(settings, self._consumer)

    def open(self) -> None:
        self._consumer.open()

    def poll(self, timeout_seconds: float) -> Polled:
        return self._consumer.poll(timeout_seconds)

    def pause(self, partitions: Collection[Partition]) -> None:
        self._consumer.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self._consumer.resume(partitions)

    def seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(partition, offset)

    def position(self, partition: Partition) -> int:
        return self._consumer.position(partition)

    def lags(self) -> Mapping[Partition, int]:
        return self._consumer.lags()

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        self._publisher.deliver(outgoing, offsets)

    def close(self) -> None:
        self._publisher.close()
        self._consumer.close()
