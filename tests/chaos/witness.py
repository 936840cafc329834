"""Looks on from outside: what a careful reader gets while it happens, and whether committed offsets ever go back."""

from __future__ import annotations

import threading
import time
from typing import Any

from chaos.oracle import Told
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from streamd.config import Config
from streamd.transport.base import Partition

Place = tuple[str, int, int]


class Reader:
    """Reads the output topics from their beginning, `read_committed`, on a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopped = threading.Event()
        self._seen: dict[Place, Told] = {}
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    @property
    def count(self) -> int:
        return len(self._seen)

    def told(self) -> list[Told]:
        """Each partition's in its order."""
        return [self._seen[place] for place in sorted(self._seen)]

    def places(self) -> dict[Place, Told]:
        return dict(self._seen)

    def _run(self) -> None:
        consumer: Any = None
        try:
            consumer = consumer_of(self._config)
            topics = self._config.topics
            partitions = [
                TopicPartition(topic, number)
                for topic in (topics.alerts, topics.control, topics.dlq)
                for number in range(self._config.kafka.partitions)
            ]
            consumer.assign(partitions)
            while not self._stopped.is_set():
                for records in consumer.poll(200).values():
                    for r in records:
                        timestamp_ms = r.timestamp if r.topic == topics.dlq else None
                        place = (r.topic, r.partition, r.offset)
                        assert place not in self._seen, f"the broker gave {place} twice"
                        self._seen[place] = Told(r.topic, r.key, r.value, tuple(r.headers), timestamp_ms)
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
        try:
            consumer = consumer_of(self._config, group_id=self._config.kafka.group_id)
            topic = self._config.topics.features
            while not self._stopped.is_set():
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


def consumer_of(config: Config, group_id: str | None = None) -> Any:
    return KafkaConsumer(
        bootstrap_servers=list(config.kafka.bootstrap_servers),
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        reconnect_backoff_ms=100,
        reconnect_backoff_max_ms=500,
    )


def read_again(config: Config, seconds: float = 30.0, until: int = 0) -> dict[Place, Told]:
    """Everything that a careful reader finds afterwards, at least `until` records if they come in time."""
    reader = Reader(config)
    reader.start()
    deadline = time.monotonic() + seconds
    count, still = -1, 0
    while time.monotonic() < deadline and (still < 3 or reader.count < until):
        time.sleep(0.3)
        still = still + 1 if reader.count == count else 0
        count = reader.count
    reader.stop()
    if reader.error is not None:
        raise reader.error
    return reader.places()


def ends_of(config: Config) -> dict[Partition, int]:
    """Where each partition of the input ends; those without records are left out."""
    consumer = consumer_of(config)
    try:
        topic = config.topics.features
        places = [TopicPartition(topic, number) for number in range(config.kafka.partitions)]
        return {Partition(p.topic, p.partition): int(end) for p, end in consumer.end_offsets(places).items() if end}
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)
