"""How long a delivery takes, back to back on a real Kafka: `python tests/bench/bench_commit.py` prints p50 and p99."""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from brokers import HOW_TO_GET_KAFKA, RealKafka, kafka_launcher

from streamd.transport import kafka_admin
from streamd.transport.base import Assigned, Outgoing, Partition
from streamd.transport.kafka import KafkaTransport
from streamd.transport.settings import KafkaSettings

P50_LIMIT_MS = 10.0


def measure(
    bootstrap_servers: str, delivery: Literal["exactly_once", "at_least_once"], count: int = 500, records: int = 2
) -> list[float]:
    """The milliseconds of each of `count` deliveries, one after the other: alerts and one offset."""
    name = uuid.uuid4().hex
    settings = KafkaSettings(bootstrap_servers=(bootstrap_servers,), group_id=name, delivery=delivery)
    kafka_admin.create_topics(settings, {f"{name}-in": 1, f"{name}-out": 4})
    transport = KafkaTransport(settings, [f"{name}-in"])
    transport.open()
    while not any(isinstance(change, Assigned) for change in transport.poll(0.1).changes):
        pass
    taken = []
    for offset in range(count + 20):
        outgoing = [Outgoing(f"{name}-out", b"stream/%d" % n, bytes(600)) for n in range(records)]
        started = time.perf_counter()
        transport.deliver(outgoing, {Partition(f"{name}-in", 0): offset})
        taken.append((time.perf_counter() - started) * 1000)
    transport.close()
    return taken[20:]  # without the connections, the topics' metadata and the first transaction's id


def main() -> int:
    launcher = kafka_launcher()
    if launcher is None:
        print(HOW_TO_GET_KAFKA)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        broker = RealKafka(launcher, Path(folder) / "kafka")
        broker.start()
        try:
            kinds: tuple[Literal["exactly_once", "at_least_once"], ...] = ("exactly_once", "at_least_once")
            medians = {}
            for kind in kinds:
                p50, p99 = np.percentile(measure(broker.bootstrap_servers, kind), [50, 99])
                print(f"{kind:14} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")
                medians[kind] = p50
        finally:
            broker.kill()
    return int(medians["exactly_once"] > P50_LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
