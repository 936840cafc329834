"""What goes over the wire about training runs, in the order of time: steps, alerts, commands and answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streamd.client.commands import read_command
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.config import Config
from streamd.errors import TransientError
from streamd.model import Acknowledgement, Command, Envelope, Telemetry, TelemetryPoint
from streamd.transport.kafka_auth import build

Alert = dict[str, Any]
Event = TelemetryPoint | Alert | Command | Acknowledgement

_SETTLED_MS = 150  # topics have no common order: so long after its time, an event has none before it that is unread
_RANK = {TelemetryPoint: 0, dict: 1, Command: 2, Acknowledgement: 3}  # of events in the same millisecond


class Wire:
    """Reads the topics of the alerts, the commands and the telemetry, as any consumer would, from their beginning."""

    def __init__(self, config: Config) -> None:
        self._topics = config.topics
        self._consumer = build(
            KafkaConsumer,
            config.kafka,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
            metrics_enabled=False,
        )
        self._held: list[tuple[int, int, Event]] = []  # (time in ms, rank, event)
        names = (self._topics.telemetry, self._topics.alerts, self._topics.control)
        partitions = [
            TopicPartition(name, number) for name in names for number in self._consumer.partitions_for_topic(name) or ()
        ]
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)

    def read(self, seconds: float) -> Iterator[Event]:
        """What has come, waiting for so long where nothing has. Raises TransientError when the broker is gone."""
        try:
            polled = self._consumer.poll(timeout_ms=int(1000 * seconds))
        except KafkaError as error:
            raise TransientError(f"reading the demo's topics: {error}") from error
        for records in polled.values():
            for record in records:
                self._held += [(record.timestamp, _RANK[type(event)], event) for event in self._events(record)]
        self._held.sort(key=lambda held: held[:2])
        settled = time.time() * 1000 - _SETTLED_MS
        while self._held and self._held[0][0] <= settled:
            yield self._held.pop(0)[2]

    def close(self) -> None:
        self._consumer.close(autocommit=False)

    def _events(self, record: Any) -> Iterator[Event]:
        if record.topic == self._topics.alerts:
            yield orjson.loads(record.value)
        elif record.topic == self._topics.control:
            command = read_command(record.value)
            if command is not None:
                yield command
        else:
            found = decode(_envelope(record), Limits(), "telemetry")
            if isinstance(found, Telemetry):
                yield from found.points
            elif isinstance(found, Acknowledgement):
                yield found


def _envelope(record: Any) -> Envelope:
    return Envelope(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )
