"""From `send` to the alert in the hands of a `read_committed` consumer, at half of what the daemon can bear."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from bench_kafka import PARTITIONS, Watched, kafka, no_kafka
from bench_load import ROWS, batches
from bench_table import Row
from daemons import Daemon
from kafka import KafkaProducer

P99_LIMIT_MS = 300
NEXT_STEP = "fewer records a poll (kafka.max_poll_records), since the first of them waits for the last and its commit"
DRIFTING = (0, 2, 4, 6, 8)

# A process of its own, so that what it measures does not wait for us. Its clock is the machine's, as ours is.
ALERT_READER = """
import json, sys, time
from kafka import KafkaConsumer
servers, topic = sys.argv[1:]
consumer = KafkaConsumer(
    topic, bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed",
    enable_auto_commit=False,
)
print("{}", flush=True)
while True:
    for records in consumer.poll(100).values():
        now = time.monotonic()
        for record in records:
            window = json.loads(record.value)["window"]
            print(json.dumps([now, window["partition"], window["last_offset"]]), flush=True)
"""


def rows(quick: bool) -> Iterator[Row]:
    if reason := no_kafka():
        yield Row("produce → alert, p99", "ms", None, limit=P99_LIMIT_MS, skipped=reason)
        return
    with kafka() as (servers, folder), Watched(servers, folder, "json") as watched:
        watched.wait_until_trained()
        most = watched.run(400 if quick else 2000).rows
        wanted = most / 2 / ROWS
        took, rate = _latencies(watched, wanted, seconds=8 if quick else 40)
        assert took.size, f"no alert came\n{watched.daemon.tail()}"
        load = f"{rate * ROWS:,.0f} rows/s ({rate * ROWS / most:.0%} of the most)"
        p50, p99 = np.percentile(took, [50, 99])
        yield Row(f"produce → alert, p50 of {took.size} alerts, at {load}", "ms", float(p50))
        row = Row(f"produce → alert, p99 of {took.size} alerts, at {load}", "ms", float(p99), limit=P99_LIMIT_MS)
        yield row if row.met else replace(row, where=where_time_goes(watched.daemon), next_step=NEXT_STEP)


def where_time_goes(daemon: Daemon) -> tuple[str, ...]:
    """What the daemon says of its own turns."""
    parts = {"a record's judgement": "streamd_processing_seconds", "a poll's delivery": "streamd_delivery_seconds"}
    means = []
    for what, name in parts.items():
        total, number = daemon.metric(f"{name}_sum"), daemon.metric(f"{name}_count")
        means.append(f"{1000 * total / max(number, 1):.1f} ms on average for {what}")
    return tuple(means)


def _latencies(watched: Watched, rate: float, seconds: float) -> tuple[Any, float]:
    """Milliseconds of each alert that a record of ours led to, and the batches per second that were really sent."""
    command = [sys.executable, "-c", ALERT_READER, watched.servers, watched.daemon.topics["alerts"]]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    reader.stdout.readline()
    try:
        sent, real_rate = _send(watched, rate, seconds)
        watched.daemon.wait(lambda: watched.daemon.metric("streamd_consumer_lag_records") == 0)
        time.sleep(2.0)  # the reader's last poll
    finally:
        reader.kill()
        lines = reader.communicate()[0].splitlines()
    heard = [json.loads(line) for line in lines if line.endswith("]")]
    took = [1000 * (at - sent[place, last]) for at, place, last in heard if (place, last) in sent]
    return np.array(took), real_rate


def _send(watched: Watched, rate: float, seconds: float) -> tuple[dict[tuple[int, int], float], float]:
    """Batches one after the other, evenly; when each was given to the client, by its partition and offset."""
    producer: Any = KafkaProducer(bootstrap_servers=watched.servers, acks="all", max_request_size=8 << 20)
    load, pending = cycle(batches("json", drifting=DRIFTING)), []
    started = time.monotonic()
    for i in range(int(rate * seconds)):
        message = next(load)
        time.sleep(max(0.0, started + i / rate - time.monotonic()))
        at = time.monotonic()
        number = message.stream % PARTITIONS
        headers = list(message.headers)
        pending.append((at, producer.send(watched.topic, message.value, message.key, headers, partition=number)))
    real_rate = len(pending) / (time.monotonic() - started)
    producer.flush()
    placed = [(at, future.get(10)) for at, future in pending]
    producer.close()
    return {(where.partition, where.offset): at for at, where in placed}, real_rate
