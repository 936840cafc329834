"""A consumer at the end of a topic, for a verb that sends something and waits for what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from streamd.cli.tail import partitions_of
from streamd.config import Config
from streamd.errors import TransientError
from streamd.model import Envelope
from streamd.transport.kafka_auth import build

_POLL_SECONDS = 0.25


@contextmanager
def listening(settings: Config, topic: str, group: str | None = None) -> Iterator[Any]:
    """The consumer of all partitions of `topic`. With a `group` its committed offsets can be asked for; it joins none.

    Raises:
        TransientError: the broker is away.
    """
    consumer = build(
        KafkaConsumer,
        settings.kafka,
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        metrics_enabled=False,
    )
    try:
        partitions = partitions_of(consumer, topic)
        consumer.assign(partitions)
        consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)  # now, not at the first poll
        yield consumer
    except KafkaError as error:
        raise TransientError(f"reading {topic}: {error}") from error
    finally:
        consumer.close(autocommit=False)


def heard(consumer: Any) -> Iterator[Envelope]:
    """What has come; waits a quarter of a second for it."""
    for records in consumer.poll(timeout_ms=int(1000 * _POLL_SECONDS)).values():
        for r in records:
            yield Envelope(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
