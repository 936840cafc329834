"""The whole daemon as a process of its own on a real Kafka, beside a bare consumer and a loop of other libraries."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import orjson
from bench_kafka import DRIFTING, PARTITIONS, Rate, Watched, kafka, no_kafka
from bench_load import ROWS, Format, name_of
from bench_peers import NoPeersError, Peer
from bench_profile import with_profile
from bench_table import Row

from streamd.transport.kafka_admin import create_topics
from streamd.transport.settings import KafkaSettings

TARGETS: dict[Format, float] = {"json": 120_000, "arrow": 200_000}
NAMES: dict[Format, str] = {"json": "the daemon, JSON", "arrow": "the daemon, Arrow"}
SAME_WITHIN = 0.9
LOOP_RATIO = 50
LOOP = "kafka-python + orjson + alibi-detect + scikit-learn"

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
    if reason := no_kafka():
        for form, target in TARGETS.items():
            yield Row(NAMES[form], "rows/s", None, limit=target, skipped=reason)
        yield Row("exactly once beside at least once", "rows/s", None, ratio_min=SAME_WITHIN, skipped=reason)
        yield Row("the daemon, JSON, beside a loop", "rows/s", None, LOOP, ratio_min=LOOP_RATIO, skipped=reason)
        return
    with kafka() as (servers, folder):
        for form in TARGETS:
            yield from _rows(form, servers, folder, 400 if quick else 4000, 1 if quick else 3)


def _rows(form: Format, servers: str, folder: Path, count: int, repeat: int) -> Iterator[Row]:
    once: list[Rate] = []
    least: list[Rate] = []
    bare = []
    with ExitStack() as stack:
        exactly = stack.enter_context(Watched(servers, folder, form))
        exactly.wait_until_trained()
        at_least = None
        if form == "json":
            at_least = stack.enter_context(Watched(servers, folder, form, STREAMD_KAFKA__DELIVERY="at_least_once"))
            at_least.wait_until_trained()
        for _ in range(repeat):
            once.append(exactly.run(count))
            if at_least is not None:
                least.append(at_least.run(count))
            bare.append(_bare(exactly))
        _check(exactly)
    rate, peer = statistics.median(each.rows for each in once), statistics.median(bare)
    work = f"{NAMES[form]}, exactly once: ks, zscore, entropy, autoencoder"
    row = Row(work, "rows/s", rate, "bare consumer", peer, limit=TARGETS[form])
    yield _explained(row, servers, folder, form, count)
    cpu = statistics.median(each.cpu for each in once)
    yield Row(f"{NAMES[form]}: the same, per second of CPU", "rows/s", cpu)
    if form == "json":
        peer = statistics.median(each.rows for each in least)
        yield Row("exactly once beside at least once", "rows/s", rate, "at least once", peer, ratio_min=SAME_WITHIN)
        yield from _beside_loop(exactly, rate, seconds=5 if repeat == 1 else 20)


def _check(watched: Watched) -> None:
    """Alerts came out, each once, of the streams that drift and of no others."""
    told = [orjson.loads(record.value) for record in watched.daemon.read("alerts")]
    assert len({alert["id"] for alert in told}) == len(told), "an alert came twice"
    streams = {alert["stream"] for alert in told}
    assert streams == {name_of(stream) for stream in DRIFTING}, f"alerts of {sorted(streams)}"


def _explained(row: Row, servers: str, folder: Path, form: Format, count: int) -> Row:
    if row.met is not False:
        return row
    with Watched(servers, folder, form, profiled=True) as watched:
        watched.wait_until_trained()
        watched.run(count)  # everything has been imported and compiled by then
        return with_profile(row, watched.profile_of(count), by_package=True)


def _beside_loop(watched: Watched, rate: float, seconds: int) -> Iterator[Row]:
    """The same records, judged as often as here (once a window of 1,000 rows), and at every batch."""
    create_topics(KafkaSettings(bootstrap_servers=(watched.servers,)), {f"{watched.topic}-loop": 1})
    for every, ratio_min in (("window", LOOP_RATIO), ("batch", None)):
        work = f"the daemon, JSON, beside a loop that judges every {every}"
        try:
            with Peer("peer_loop.py", watched.servers, watched.topic, every, str(seconds)) as peer:
                found = peer.ask()
        except NoPeersError as error:
            yield Row(work, "rows/s", None, LOOP, ratio_min=ratio_min, skipped=str(error))
            continue
        peer_rate = found["rows"] / found["seconds"]
        assert set(found["streams"]) <= {name_of(stream) for stream in DRIFTING}, f"it alerted on {found['streams']}"
        row = Row(work, "rows/s", rate, LOOP, peer_rate, ratio_min=ratio_min)
        yield row if row.met is not False else replace(row, next_step=f"see {NAMES['json']}")


def _bare(watched: Watched) -> float:
    """Rows/s of a consumer that does nothing with them."""
    arguments = [watched.servers, watched.topic, str(PARTITIONS), str(watched.records)]
    command = [sys.executable, "-c", BARE_CONSUMER, *arguments]
    seconds = float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    return ROWS * watched.records / seconds
