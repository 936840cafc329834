"""The daemon as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import orjson
from brokers import free_port
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from streamd.observe.families import FAMILIES, FLEET_FAMILIES

_DECLARED = {family.name for family in (*FAMILIES, *FLEET_FAMILIES)}


class Daemon:
    """`streamd run` with topics and a group of its own.

    Args:
        bootstrap_servers: the broker.
        folder: where its log goes.
        name: of its group, and what its topics begin with; None: one of its own.
        environment: further STREAMD_ variables.
    """

    def __init__(self, bootstrap_servers: str, folder: Path, name: str | None = None, **environment: str) -> None:
        self.name = name or uuid.uuid4().hex[:8]
        self.bootstrap_servers = bootstrap_servers
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = folder / f"daemon-{self.name}-{self.url.rpartition(':')[2]}.log"
        self.topics = {
            kind: f"{self.name}.{kind}" for kind in ("features", "telemetry", "alerts", "control", "dlq", "state")
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMD_")}
        self.environment = inherited | {
            "STREAMD_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            "STREAMD_KAFKA__GROUP_ID": self.name,
            "STREAMD_KAFKA__PARTITIONS": "2",
            "STREAMD_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "STREAMD_KAFKA__HEARTBEAT_INTERVAL_MS": "1500",
            "STREAMD_KAFKA__MAX_POLL_INTERVAL_MS": "10000",
            "STREAMD_ADMIN__PORT": self.url.rpartition(":")[2],
            "STREAMD_LOG__FORMAT": "json",
            **{f"STREAMD_TOPICS__{kind.upper()}": topic for kind, topic in self.topics.items()},
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._producer: Any = None

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamd", "run", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        self.wait(lambda: self.get("/readyz")[0] == 200)

    def wait(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for the condition; when the daemon ends or the time is over, fail with the end of its log."""
        until = time.monotonic() + seconds
        while not condition():
            assert self.running, f"the daemon ended with {self._process and self._process.returncode}\n{self.tail()}"
            assert time.monotonic() < until, f"not after {seconds} s\n{self.tail()}"
            time.sleep(0.1)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=2)
        if self.running:
            assert self._process is not None
            self._process.kill()
            self._process.wait()

    # --- What it shows ---

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 while nobody answers."""
        try:
            with urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except (URLError, ConnectionError, TimeoutError):
            return 0, b""

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples with these labels; 0 where there is none. An undeclared name is an error."""
        assert re.sub("_(count|sum|bucket)$", "", name) in _DECLARED, f"no family is called {name}"
        text = self.get("/metrics")[1].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines with this event."""
        lines = [orjson.loads(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in lines if event in line["event"]]

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    # --- Its topics ---

    def send(
        self,
        value: bytes | None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        kind: str = "features",
    ) -> tuple[int, int]:
        """One record on an input topic; its partition and offset."""
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=self.bootstrap_servers, acks="all", max_request_size=40_000_000, max_block_ms=30_000
            )
        sent = self._producer.send(self.topics[kind], value=value, key=key, headers=headers or []).get(30)
        return sent.partition, sent.offset

    def read(self, kind: str, seconds: float = 2.0) -> list[Any]:
        """All records of an output topic, as kafka-python gives them."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap_servers,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=40_000_000,
            fetch_max_bytes=80_000_000,
        )
        try:
            numbers = consumer.partitions_for_topic(self.topics[kind]) or set()
            consumer.assign([TopicPartition(self.topics[kind], number) for number in numbers])
            consumer.seek_to_beginning()
            records: list[Any] = []
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                polled = [record for each in consumer.poll(200).values() for record in each]
                records += polled
                until = max(until, time.monotonic() + 0.7) if polled else until
            return records
        finally:
            consumer.close(autocommit=False)

    def alerts(self) -> list[dict[str, Any]]:
        return [orjson.loads(record.value) for record in self.read("alerts")]
