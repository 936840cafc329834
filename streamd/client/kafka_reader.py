"""A listener's reader on kafka-python: every partition of one topic, without a group, from a moment on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from streamd.client.kafka_sink import knock
from streamd.errors import TransientError

# Kafka wakes a waiting fetch when something comes; the embedded broker lets it wait half of this.
_FETCH_WAIT_MS = 100


class KafkaReader:
    """Built on the listener's thread, because building it waits for the broker.

    Args:
        positions: where to go on, by partition; kept up to date, so that the next reader goes on there.
        since_ms: where to begin in a partition that has no position.

    Raises:
        TransientError: no broker, or no such topic yet.
    """

    def __init__(
        self,
        servers: Sequence[str],
        topic: str,
        options: Mapping[str, object],
        positions: dict[Any, int],
        since_ms: int,
    ) -> None:
        if not options.get("proxy_url"):
            knock(servers)
        shared = {name: value for name, value in options.items() if name in KafkaConsumer.DEFAULT_CONFIG}
        self._positions = positions
        self._consumer = KafkaConsumer(
            **{
                **shared,
                "bootstrap_servers": list(servers),
                "group_id": None,
                "enable_auto_commit": False,
                "auto_offset_reset": "latest",
                "isolation_level": "read_committed",
                "fetch_max_wait_ms": _FETCH_WAIT_MS,
                "metrics_enabled": False,
            }
        )
        try:
            self._assign(topic, since_ms)
        except Exception:
            self._consumer.close(autocommit=False)
            raise

    def _assign(self, topic: str, since_ms: int) -> None:
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise TransientError(f"there is no topic {topic} yet")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        fresh = [partition for partition in partitions if partition not in self._positions]
        if fresh:
            # The ends first: what comes between the two questions is then behind them.
            ends = self._consumer.end_offsets(fresh)
            begin = self._consumer.offsets_for_times(dict.fromkeys(fresh, since_ms))
            for partition in fresh:
                found = begin.get(partition)
                self._positions[partition] = ends[partition] if found is None else found.offset
        for partition in partitions:
            self._consumer.seek(partition, self._positions[partition])

    def read(self, timeout_seconds: float) -> Sequence[tuple[int, bytes | None]]:
        found = []
        for partition, records in self._consumer.poll(timeout_ms=int(1000 * timeout_seconds)).items():
            found += [(record.timestamp, record.value) for record in records]
            self._positions[partition] = records[-1].offset + 1
        return found

    def close(self) -> None:
        self._consumer.close(autocommit=False)
