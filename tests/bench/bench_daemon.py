"""The whole daemon as a process of its own, on a real Kafka with a topic that was filled before."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench_load import DETECTORS, ROWS, STREAMS, Format, batches, references
from bench_table import Row
from brokers import HOW_TO_GET_KAFKA, ExternalKafka, RealKafka, kafka_launcher
from daemons import Daemon
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from streamd.transport.kafka_admin import create_topics
from streamd.transport.settings import KafkaSettings

PARTITIONS = 4
TARGETS: dict[Format, float] = {"json": 120_000, "arrow": 200_000}
NAMES: dict[Format, str] = {"json": "the daemon, JSON", "arrow": "the daemon, Arrow"}
LOOK_SECONDS = 1.0

_SETTINGS = {
    **{f"STREAMD_DETECTORS__{name.upper()}": json.dumps(options) for name, options in DETECTORS.items()},
    "STREAMD_KAFKA__MAX_POLL_INTERVAL_MS": "300000",
    "STREAMD_LOG__LEVEL": "warning",
}

BARE_CONSUMER = """
import sys, time
from kafka import KafkaConsumer, TopicPartition
servers, topic, partitions, records = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
consumer = KafkaConsumer(
    bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed",
    max_partition_fetch_bytes=4 << 20, metrics_enabled=False, enable_auto_commit=False,
)
consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
seen, started = 0, None
while seen < records:
    polled = sum(map(len, consumer.poll(100, max_records=64).values()))
    started = started or (polled and time.perf_counter())
    seen += polled
print(time.perf_counter() - started)
consumer.close(autocommit=False)
"""


def rows(quick: bool) -> Iterator[Row]:
    if not os.environ.get("STREAMD_TEST_KAFKA") and kafka_launcher() is None:
        for form, target in TARGETS.items():
            yield Row(NAMES[form], "rows/s", None, limit=target, skipped=HOW_TO_GET_KAFKA)
        return
    with tempfile.TemporaryDirectory() as folder, _kafka(Path(folder)) as servers:
        for form in TARGETS:
            yield from _rows(form, servers, Path(folder), 2000 if quick else 4000, 1 if quick else 3)


def _rows(form: Format, servers: str, folder: Path, records: int, repeat: int) -> Iterator[Row]:
    """Rows per second, and rows per second of the daemon's own CPU time, which a busy machine disturbs less."""
    topic = f"bench-{form}-{uuid.uuid4().hex[:8]}"
    total = _fill(servers, topic, form, records)
    bare, rates, cpu_rates = [], [], []
    for _ in range(repeat):
        bare.append(_bare(servers, topic, total))
        rate, cpu_rate = _daemon(servers, topic, folder, records)
        rates.append(rate)
        cpu_rates.append(cpu_rate)
    work = f"{NAMES[form]}: ks, zscore, entropy, autoencoder"
    peer = statistics.median(bare)
    yield Row(work, "rows/s", statistics.median(rates), "bare consumer", peer, limit=TARGETS[form])
    yield Row(f"{NAMES[form]}: the same, per second of CPU", "rows/s", statistics.median(cpu_rates))


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    external = os.environ.get("STREAMD_TEST_KAFKA")
    launcher = kafka_launcher()
    if external or launcher is None:
        yield ExternalKafka(external or "").bootstrap_servers
        return
    broker = RealKafka(launcher, folder / "kafka")
    broker.start()
    try:
        yield broker.bootstrap_servers
    finally:
        broker.kill()


def _fill(servers: str, topic: str, form: Format, records: int) -> int:
    """Write the references, then the batches; how many records that is."""
    create_topics(KafkaSettings(bootstrap_servers=(servers,)), {topic: PARTITIONS})
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5, max_request_size=8 << 20)

    normal, load = references(form), batches(form)
    pending = []
    for i, message in enumerate([*normal, *(load[i % len(load)] for i in range(records))]):
        number = message.stream % PARTITIONS  # not the key's hash: every partition gets as much as the others
        pending.append(producer.send(topic, message.value, message.key, list(message.headers), partition=number))
        if i % 200 == 0:
            producer.flush()  # the client's own buffer has no bound
    producer.flush()
    for sent in pending:
        sent.get(10)
    producer.close()
    return len(pending)


def _bare(servers: str, topic: str, records: int) -> float:
    """Rows/s of a consumer that does nothing with them."""
    command = [sys.executable, "-c", BARE_CONSUMER, servers, topic, str(PARTITIONS), str(records)]
    seconds = float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    return ROWS * records / seconds


def _daemon(servers: str, topic: str, folder: Path, records: int) -> tuple[float, float]:
    """Rows/s, and rows per second of CPU, from when all streams are trained to the last look before the end."""
    daemon = Daemon(servers, folder, **_SETTINGS, STREAMD_TOPICS__FEATURES=topic)
    try:
        daemon.start()
        daemon.wait(lambda: daemon.metric("streamd_fit_seconds_count") >= STREAMS, 120)
        looks = [_look(daemon)]
        while looks[-1].rows < ROWS * records:
            time.sleep(LOOK_SECONDS)  # a scrape costs the daemon some ten milliseconds
            looks.append(_look(daemon))
            assert looks[-1].rows > looks[-2].rows, f"nothing was judged for {LOOK_SECONDS} s\n{daemon.tail()}"
        assert not daemon.metric("streamd_records_rejected_total"), "the load is not healthy"
        first, last = looks[0], looks[-2]  # the very last look came after the end, nobody knows how long
        assert last.rows > first.rows, f"{records} records are over before they can be measured"
        rows = last.rows - first.rows
        return rows / (last.seconds - first.seconds), rows / (last.cpu_seconds - first.cpu_seconds)
    finally:
        daemon.close()


class Look(NamedTuple):
    """When, how many rows were judged by then, and how much CPU time the daemon had."""

    seconds: float
    rows: float
    cpu_seconds: float


def _look(daemon: Daemon) -> Look:
    scrape = daemon.get("/metrics")[1].decode()
    totals = dict.fromkeys(("streamd_rows_judged_total", "process_cpu_seconds_total"), 0.0)
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += sample.value
    return Look(time.perf_counter(), *totals.values())
