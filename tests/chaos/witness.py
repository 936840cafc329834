"""Looks on from outside: what a careful reader gets while it happens, and whether committed offsets ever go back."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import closing
from typing import Any

import orjson
from chaos.oracle import Place, Ticks, Told
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from streamd.config import Config
from streamd.model import Envelope
from streamd.transport.base import Partition
from streamd.transport.kafka_range import read_range


class Seen:
    """What has been read of the topics that the members write.

    Attributes:
        told: alerts, commands and dead letters, by their place.
        ticks: of the journal in the state topic, by the input partition: the offset before which, and the time.
        silent: the streams of which the last that was told is that they say nothing.
    """

    def __init__(self, config: Config) -> None:
        self._topics = config.topics
        self.told: dict[Place, Told] = {}
        self.ticks: Ticks = defaultdict(set)
        self.silent: set[str] = set()

    def take(self, record: Envelope) -> None:
        if record.topic == self._topics.state:
            self._take_state(record)
            return
        place = (record.topic, record.partition, record.offset)
        assert place not in self.told, f"the broker gave {place} twice"
        timestamp_ms = record.timestamp_ms if record.topic == self._topics.dlq else None
        self.told[place] = Told(record.topic, record.key, record.value, tuple(record.headers), timestamp_ms)
        if record.topic == self._topics.alerts:
            alert = orjson.loads(record.value or b"{}")
            if alert["test"] == "silence":
                change = self.silent.add if alert["status"] == "firing" else self.silent.discard
                change(alert["stream"])

    def _take_state(self, record: Envelope) -> None:
        """Read here by hand: `<group>/<topic>/<partition>/tick/<epoch ms>/0`, and the offset in a header."""
        _, topic, number, kind, *more = (record.key or b"").decode().split("/")
        if kind == "tick" and record.value is not None:
            offset = int(dict(record.headers)["state-offset"] or b"")
            self.ticks[Partition(topic, int(number))].add((offset, int(more[0])))


class Reader:
    """Reads what the members write from its beginning, `read_committed`, on a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.seen = Seen(config)
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _run(self) -> None:
        consumer: Any = None
        try:
            consumer = consumer_of(self._config)
            consumer.assign(_written(self._config))
            while not self._stopped.is_set():
                for records in consumer.poll(200).values():
                    for r in records:
                        key, headers = r.key, tuple(r.headers)
                        self.seen.take(Envelope(r.topic, r.partition, r.offset, r.timestamp, key, r.value, headers))
        except BaseException as error:
            self.error = error
        finally:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1000)


class Offsets:
    """Asks again and again what the group has committed.

    Attributes:
        committed: as of the last answer.
        backwards: a sentence for each time that an offset was less than before.
        gaps_seconds: of each partition that has moved, the longest time between two moves.
    """

    def __init__(self, config: Config, every_seconds: float = 0.25) -> None:
        self._config = config
        self._every_seconds = every_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="offsets", daemon=True)
        self.committed: dict[Partition, int] = {}
        self.backwards: list[str] = []
        self.gaps_seconds: dict[Partition, float] = {}
        self._moved_at: dict[Partition, float] = {}
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(60)

    def total(self) -> int:
        return sum(self.committed.values())

    def _run(self) -> None:
        consumer: Any = None
        topics = self._config.topics
        try:
            consumer = consumer_of(self._config, group_id=self._config.kafka.group_id)
            while not self._stopped.is_set():
                for topic in (topics.features, topics.telemetry):
                    for number in range(self._config.kafka.partitions):
                        self._look(consumer, Partition(topic, number))
                self._stopped.wait(self._every_seconds)
        except BaseException as error:
            self.error = error
        finally:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1000)

    def _look(self, consumer: Any, partition: Partition) -> None:
        try:
            found: OffsetAndMetadata | int | None = consumer.committed(TopicPartition(*partition), timeout_ms=5000)
        except Exception:  # the broker is away, or a transaction hangs over it: the next look will tell
            return
        now = int(found) if found is not None else 0
        before = self.committed.get(partition, 0)
        if now > before:
            moved_at = self._moved_at.get(partition, time.monotonic())
            self._moved_at[partition] = time.monotonic()
            gap = max(self.gaps_seconds.get(partition, 0.0), self._moved_at[partition] - moved_at)
            self.gaps_seconds[partition] = gap
        if now < before:
            self.backwards.append(f"{partition.topic}/{partition.number}: {before} → {now}")
        self.committed[partition] = now


def consumer_of(config: Config, group_id: str | None = None, isolation: str = "read_committed") -> Any:
    return KafkaConsumer(
        bootstrap_servers=list(config.kafka.bootstrap_servers),
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        allow_auto_create_topics=False,
        reconnect_backoff_ms=100,
        reconnect_backoff_max_ms=500,
    )


def everything_is_decided(config: Config) -> bool:
    """Whether no transaction is open that hides something from a careful reader."""
    ends = []
    for isolation in ("read_committed", "read_uncommitted"):
        with closing(consumer_of(config, isolation=isolation)) as consumer:
            ends.append(consumer.end_offsets(_written(config)))
    return bool(ends[0] == ends[1])


def read_again(config: Config) -> Seen:
    """What a careful reader finds afterwards."""
    seen = Seen(config)
    for topic in _topics(config):
        for record in read_range(config.kafka, topic, None, None):
            seen.take(record)
    return seen


def _topics(config: Config) -> tuple[str, ...]:
    topics = config.topics
    return topics.alerts, topics.control, topics.dlq, topics.state


def _written(config: Config) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in _topics(config) for number in range(config.kafka.partitions)]
