"""A real Kafka, and daemons that wait at its topic until a whole load is committed at once: the starting gun.

daemon: references, trained, waits ……… reads, judges, delivers
load:   begin ── produced, not visible ── commit         ── all rows judged
                                          └─ measured ─┘
"""

from __future__ import annotations

import json
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench_load import DETECTORS, ROWS, STREAMS, Format, Message, batches, references
from brokers import HOW_TO_GET_KAFKA, ExternalKafka, RealKafka, kafka_launcher
from daemons import Daemon
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from streamd.transport.kafka_admin import create_topics
from streamd.transport.settings import KafkaSettings

PARTITIONS = 4
LOOK_SECONDS = 1.0
DRIFTING = (0,)

_SETTINGS = {
    **{f"STREAMD_DETECTORS__{name.upper()}": json.dumps(options) for name, options in DETECTORS.items()},
    "STREAMD_KAFKA__MAX_POLL_INTERVAL_MS": "300000",
    "STREAMD_POLICY__COOLDOWN_SECONDS": "0",  # the load drifts again within seconds
    "STREAMD_LOG__LEVEL": "warning",
}


def no_kafka() -> str:
    """Why there is no real Kafka; empty where there is one."""
    return "" if os.environ.get("STREAMD_TEST_KAFKA") or kafka_launcher() is not None else HOW_TO_GET_KAFKA


@contextmanager
def kafka() -> Iterator[tuple[str, Path]]:
    """The bootstrap servers of a real Kafka, and a folder for logs; both gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        external, launcher = os.environ.get("STREAMD_TEST_KAFKA"), kafka_launcher()
        if external or launcher is None:
            yield ExternalKafka(external or "").bootstrap_servers, Path(name)
            return
        broker = RealKafka(launcher, Path(name) / "kafka")
        broker.start()
        try:
            yield broker.bootstrap_servers, Path(name)
        finally:
            broker.kill()


class Rate(NamedTuple):
    """Rows per second, and rows per second of the daemon's own CPU time, which a busy machine disturbs less."""

    rows: float
    cpu: float


class Look(NamedTuple):
    """When, how many rows were judged by then, and how much CPU time the daemon had."""

    seconds: float
    rows: float
    cpu_seconds: float


class Watched:
    """A daemon on a topic of its own, all streams trained.

    Args:
        servers, folder: as `kafka` gives them.
        form: of the load.
        workers: processes.
        profiled: for `profile_of`.
        settings: further STREAMD_ variables.
    """

    def __init__(
        self, servers: str, folder: Path, form: Format, workers: int = 1, profiled: bool = False, **settings: str
    ) -> None:
        self.servers = servers
        self.topic = f"bench-{uuid.uuid4().hex[:8]}"
        self.form = form
        self.records = 0  # on the topic
        self.judged = 0  # rows
        self._profile = folder / f"{self.topic}.profile"
        create_topics(KafkaSettings(bootstrap_servers=(servers,)), {self.topic: PARTITIONS})
        with Load(servers, self.topic) as load:
            load.send(references(form))
        self.records += len(references(form))
        self.daemon = (_Profiled if profiled else Daemon)(
            servers, folder, **_SETTINGS, STREAMD_TOPICS__FEATURES=self.topic, **settings
        )
        self.daemon.environment["BENCH_PROFILE"] = str(self._profile)
        self.daemon.start(*(["--workers", str(workers)] if workers > 1 else []))

    def wait_until_trained(self) -> None:
        self.daemon.wait(lambda: self.daemon.metric("streamd_fit_seconds_count") >= STREAMS, 120)
        self.daemon.wait_until_ready()

    def run(self, count: int) -> Rate:
        """Send `count` batches in one transaction and measure from its commit to the last look before the end."""
        distinct = batches(self.form, drifting=DRIFTING)
        with Load(self.servers, self.topic) as load:
            load.send([distinct[i % len(distinct)] for i in range(count)])
            before = self.judged
        first = self.look()
        self.records += count
        self.judged += ROWS * count
        looks = [first]
        while looks[-1].rows < self.judged:
            time.sleep(LOOK_SECONDS)  # a scrape costs the daemon some ten milliseconds
            looks.append(self.look())
            stands = len(looks) > 10 and looks[-1].rows == looks[-10].rows
            assert not stands, f"{looks[-1].rows - before:.0f} rows judged, and no more\n{self.daemon.tail()}"
        assert not self.daemon.metric("streamd_records_rejected_total"), "the load cannot be read"
        last = looks[-2] if len(looks) > 3 else looks[-1]  # the very last came after the end, nobody knows how long
        rows = last.rows - first.rows
        return Rate(rows / (last.seconds - first.seconds), rows / max(last.cpu_seconds - first.cpu_seconds, 1e-9))

    def look(self) -> Look:
        scrape = self.daemon.get("/metrics")[1].decode()
        totals = dict.fromkeys(("streamd_rows_judged_total", "process_cpu_seconds_total"), 0.0)
        for family in text_string_to_metric_families(scrape):
            for sample in family.samples:
                if sample.name in totals:
                    totals[sample.name] += sample.value
        return Look(time.perf_counter(), *totals.values())

    def profile_of(self, count: int) -> pstats.Stats:
        """Run `count` batches; what the pump's thread did with its time meanwhile."""
        os.kill(self.daemon.pid, signal.SIGUSR1)
        self.run(count)
        os.kill(self.daemon.pid, signal.SIGUSR2)
        self.daemon.wait(self._profile.exists)
        return pstats.Stats(str(self._profile))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.daemon.close()


class _Profiled(Daemon):
    """The same daemon, which profiles its main thread, the pump's, between SIGUSR1 and SIGUSR2."""

    def start(self, *arguments: str) -> None:
        script = Path(__file__).with_name("bench_profiled.py")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(script), "run", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


class Load:
    """Records that become visible together, when it is left."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer: Any = KafkaProducer(
            bootstrap_servers=servers,
            transactional_id=uuid.uuid4().hex,
            transaction_timeout_ms=600_000,
            acks="all",
            linger_ms=5,
            max_request_size=8 << 20,
            retry_backoff_ms=5,
        )

    def __enter__(self) -> Self:
        self._producer.init_transactions()
        self._producer.begin_transaction()
        return self

    def send(self, messages: Sequence[Message]) -> None:
        pending = []
        for i, message in enumerate(messages):
            number = message.stream % PARTITIONS  # not the key's hash: every partition gets as much as the others
            headers = list(message.headers)
            pending.append(self._producer.send(self._topic, message.value, message.key, headers, partition=number))
            if i % 200 == 199:
                self._producer.flush()  # the client's own buffer has no bound
        self._producer.flush()
        for sent in pending:
            sent.get(10)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._producer.commit_transaction()
        self._producer.close()
