"""A quick member of a group of its own, on the embedded broker: for tests of what the Kafka client does to it."""

from __future__ import annotations

import time
import uuid

from streamd.model import Envelope
from streamd.transport import kafka_admin
from streamd.transport.base import Skipped
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka import KafkaTransport
from streamd.transport.settings import KafkaSettings


def quick_member(broker: EmbeddedBroker, **more: object) -> tuple[KafkaTransport, str]:
    """It, not yet open, and its topic of one partition; `more` are settings over the quick ones."""
    topic = uuid.uuid4().hex
    quick = {"session_timeout_ms": 1_000, "heartbeat_interval_ms": 300, "max_poll_interval_ms": 4_000}
    settings = KafkaSettings(bootstrap_servers=(broker.bootstrap_servers,), group_id=topic, **(quick | more))  # type: ignore[arg-type]
    kafka_admin.create_topics(settings, {topic: 1})
    return KafkaTransport(settings, [topic]), topic


def read_until(transport: KafkaTransport, last: bytes) -> tuple[list[Envelope], list[Skipped]]:
    """Poll until this value has come: the records, and what was passed over."""
    records: list[Envelope] = []
    skipped: list[Skipped] = []
    deadline = time.monotonic() + 20
    while not records or records[-1].value != last:
        assert time.monotonic() < deadline
        polled = transport.poll(0.1)
        records += polled.records
        skipped += polled.skipped
    return records, skipped
