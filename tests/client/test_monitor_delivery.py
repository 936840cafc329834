"""TrainingMonitor against a broker: telemetry arrives as the daemon reads it, and commands find their run."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from brokers import RealKafka
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from reading import first_records, observation
from training import WAIT_SECONDS, command

from streamd.client import TrainingMonitor
from streamd.client.kafka_reader import KafkaReader
from streamd.model import Acknowledgement, Telemetry

pytestmark = [pytest.mark.slow]

PARTITIONS = 3


class Site:
    """Two topics of our own on a broker."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.telemetry, self.control = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("telemetry", "control"))
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (self.telemetry, self.control)])
        admin.close()
        self.producer = KafkaProducer(bootstrap_servers=servers)

    def send(self, *values: bytes, age_ms: int = 0) -> None:
        for value in values:
            at = time.time_ns() // 1_000_000 - age_ms
            self.producer.send(self.control, key=b"r", value=value, timestamp_ms=at).get(WAIT_SECONDS)

    def monitor(self, **arguments: Any) -> TrainingMonitor:
        return TrainingMonitor(
            "r", bootstrap_servers=self.servers, topic=self.telemetry, control_topic=self.control, **arguments
        )

    def observations(self, count: int) -> list[Any]:
        found = first_records(self.servers, self.telemetry, count)
        assert {record.key for record in found} == {b"r"}
        return [observation(record, "telemetry") for record in found]


def listening(monitor: TrainingMonitor) -> None:
    assert monitor._orders is not None
    assert monitor._orders._listener is not None
    assert monitor._orders._listener.connected.wait(WAIT_SECONDS)


def step_until(monitor: TrainingMonitor, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < deadline
        monitor.step(loss=float("nan"))


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.broker), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    broker = request.getfixturevalue("embedded_broker" if request.param == "embedded" else "kafka_broker")
    site = Site(broker.bootstrap_servers)
    yield site
    site.producer.close()


def test_a_commands_way_to_the_job_and_the_answers_way_back(site: Site) -> None:
    site.send(command("stop", id="of an earlier life"), age_ms=1000)
    with site.monitor(allow={"stop"}) as monitor:
        listening(monitor)
        monitor.step(loss=0.5)
        site.send(command("stop", run="other"), command("pause", id="2"), command("stop", id="3"))
        step_until(monitor, lambda: monitor.should_stop)
    found = site.observations(monitor.stats.sent)
    points = [point for item in found if isinstance(item, Telemetry) for point in item.points]
    assert points[0].metrics["loss"] == 0.5
    assert [point.step for point in points] == list(range(1, len(points) + 1))
    acks = [item for item in found if isinstance(item, Acknowledgement)]
    assert [(ack.stream, ack.command_id, ack.outcome) for ack in acks] == [("r", "2", "refused"), ("r", "3", "done")]


def test_a_command_sent_before_the_reader_had_connected_is_obeyed(site: Site) -> None:
    monitor = site.monitor(allow={"stop"})
    with monitor:
        site.send(command("stop"))
        step_until(monitor, lambda: monitor.should_stop)
    assert monitor.stats.failed == 0


@pytest.mark.kafka
def test_a_reader_that_is_built_anew_goes_on_where_the_last_one_stood(kafka_broker: RealKafka) -> None:
    site = Site(kafka_broker.bootstrap_servers)  # the embedded broker answers with the beginning of a batch
    positions: dict[Any, int] = {}

    def read(count: int) -> list[bytes | None]:
        reader = KafkaReader([site.servers], site.control, {}, positions, since_ms=time.time_ns() // 1_000_000)
        found: list[bytes | None] = []
        try:
            if not count:
                return []
            while len(found) < count:
                found += [value for _, value in reader.read(1.0)]
        finally:
            reader.close()
        return found

    site.send(b"before", age_ms=1000)
    read(0)
    site.send(b"1", b"2")
    assert read(2) == [b"1", b"2"]
    site.send(b"3")
    assert read(1) == [b"3"]
    site.producer.close()
