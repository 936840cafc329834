"""What lies on a topic, for tests of those who wrote it."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, TopicPartition

from streamd.codec.decode import TopicKind, decode
from streamd.codec.limits import Limits
from streamd.model import Envelope, Observation

WAIT_SECONDS = 30.0


def first_records(bootstrap_servers: str, topic: str, count: int) -> list[Any]:
    """The first `count` records of the topic, in the order of each partition; fewer when the time is up."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()])
    found: list[Any] = []
    for _ in range(int(WAIT_SECONDS)):
        for batch in consumer.poll(timeout_ms=1000).values():
            found.extend(batch)
        if len(found) >= count:
            break
    consumer.close()
    return found


def observation(record: Any, kind: TopicKind) -> Observation:
    """The record as the daemon reads it."""
    envelope = Envelope(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers)
    )
    return decode(envelope, Limits(), kind)
