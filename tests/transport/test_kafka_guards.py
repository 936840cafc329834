"""What kafka-python gets wrong, and the guards against it: one test each, so that an upgrade shows which can go."""

from __future__ import annotations

import gc
import logging
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import kafka.producer.kafka
import pytest
from kafka import errors as kafka_errors
from kafka.coordinator.base import Generation, MemberState
from kafka.future import Future
from kafka.record.default_records import DefaultRecordBatch

from streamd.errors import TransientError
from streamd.model import Envelope
from streamd.transport import kafka_admin, kafka_auth, kafka_producer
from streamd.transport.base import Outgoing, Partition, Skipped
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka import KafkaTransport
from streamd.transport.kafka_mends import keep_finished_join
from streamd.transport.kafka_producer import ProducerThread, send_all
from streamd.transport.settings import KafkaSettings


class FakeFuture:
    def __init__(self, error: Exception | None, is_done: bool = True) -> None:
        self.exception = error
        self.is_done = is_done

    def failed(self) -> bool:
        return self.exception is not None


class FakeProducer:
    """Answers each record in turn with what it is told; keeps how much it held at most."""

    def __init__(self, *answers: FakeFuture) -> None:
        self.answers = list(answers)
        self.held_bytes = self.most_held_bytes = 0
        self.closed = False

    def send(self, topic: str, value: bytes, key: bytes | None, headers: object, timestamp_ms: object) -> FakeFuture:
        self.held_bytes += len(value)
        self.most_held_bytes = max(self.most_held_bytes, self.held_bytes)
        return self.answers.pop(0) if self.answers else FakeFuture(None)

    def flush(self, timeout: float) -> None:
        """Returns normally, as the client's does, whatever became of the records."""
        self.held_bytes = 0

    def close(self, timeout: float) -> None:
        self.closed = True


def _some(count: int, size: int = 1) -> list[Outgoing]:
    return [Outgoing("t", None, bytes(size)) for _ in range(count)]


def test_k1_a_record_that_failed_is_an_error_although_flush_returns_normally() -> None:
    lost = kafka_errors.KafkaTimeoutError("lost")
    producer = FakeProducer(FakeFuture(None), FakeFuture(lost), FakeFuture(None))
    with pytest.raises(kafka_errors.KafkaTimeoutError, match="lost"):
        send_all(producer, _some(3), 1.0)


def test_k1_a_record_that_has_no_answer_yet_is_an_error() -> None:
    with pytest.raises(kafka_errors.KafkaTimeoutError, match="not acknowledged"):
        send_all(FakeProducer(FakeFuture(None, is_done=False)), _some(1), 1.0)


def test_k2_after_a_failure_the_next_job_gets_a_new_producer() -> None:
    made: list[FakeProducer] = []

    def build() -> FakeProducer:
        made.append(FakeProducer())
        return made[-1]

    thread = ProducerThread(build)
    thread.run(lambda producer: None, 5.0)
    with pytest.raises(TransientError, match="ValueError: no"):
        thread.run(_raise, 5.0)
    assert [producer.closed for producer in made] == [True]
    assert thread.run(lambda producer: producer, 5.0) is made[1]
    thread.close()
    assert [producer.closed for producer in made] == [True, True]


def _raise(producer: object) -> None:
    raise ValueError("no")


def test_k4_a_job_without_an_end_is_abandoned_with_its_producer_at_its_deadline() -> None:
    stuck = threading.Event()
    made: list[FakeProducer] = []

    def build() -> FakeProducer:
        made.append(FakeProducer())
        return made[-1]

    thread = ProducerThread(build)
    with pytest.raises(TransientError, match="outcome unknown"):
        thread.run(lambda producer: stuck.wait(), 0.05)
    assert thread.run(lambda producer: producer, 5.0) is made[1]
    stuck.set()
    thread.close()
    deadline = time.monotonic() + 5
    while not made[0].closed:
        assert time.monotonic() < deadline


def test_k8_the_client_never_holds_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_producer, "_BUFFER_BYTES", 100)
    producer = FakeProducer()
    send_all(producer, _some(50, size=30), 1.0)
    assert producer.most_held_bytes == 90


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_given_up_and_leaves_no_thread(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_auth, "BOOTSTRAP_SECONDS", 0.3)
    before = threading.active_count()
    transport = KafkaTransport(KafkaSettings(bootstrap_servers=(silent_server,)), ["t"])
    for _ in range(3):
        with pytest.raises(TransientError, match="does not answer as a Kafka broker"):
            transport.open()
    transport.close()
    assert threading.active_count() <= before


def test_a_name_lookup_that_hangs_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: hang.wait() and [])
    with pytest.raises(TransientError, match=r"no answer within 0\.1 s"):
        kafka_auth.reach(KafkaSettings(bootstrap_servers=("broker.example:9092",)), 0.1)
    hang.set()


def test_one_server_of_several_that_answers_is_enough(silent_server: str) -> None:
    kafka_auth.reach(KafkaSettings(bootstrap_servers=("127.0.0.1:1", silent_server)), 2.0)


class FakeCoordinator:
    """What `keep_finished_join` touches of the client."""

    def __init__(self, task: Any) -> None:
        self._join_task = task
        self.state = MemberState.REBALANCING
        self._generation = Generation(1, "member", "cooperative-sticky")
        self.rejoin_needed = False

    def request_rejoin(self) -> None:
        self.rejoin_needed = True


def test_a_join_that_ended_between_two_polls_is_gone_through_with() -> None:
    coordinator = FakeCoordinator(Future().success(b"assignment"))
    keep_finished_join(SimpleNamespace(_coordinator=coordinator))
    assert coordinator.rejoin_needed  # the next poll looks at the join,
    assert not coordinator._join_task.is_done  # does not begin another one,
    answers: list[bytes] = []
    coordinator._join_task.add_callback(answers.append)
    assert answers == [b"assignment"]  # and gets this one's answer at once


def test_a_join_under_way_is_waited_for_and_one_that_is_lost_is_not_revived() -> None:
    under_way, finished = Future(), Future().success(b"assignment")
    waiting, lost = FakeCoordinator(under_way), FakeCoordinator(finished)
    lost.state = MemberState.UNJOINED
    for coordinator in (waiting, lost):
        keep_finished_join(SimpleNamespace(_coordinator=coordinator))
        assert coordinator.rejoin_needed
    assert (waiting._join_task, lost._join_task) == (under_way, finished)


# --- With a broker ------------------------------------------------------------------------------------


def _transport(broker: EmbeddedBroker) -> tuple[KafkaTransport, str]:
    topic = uuid.uuid4().hex
    settings = KafkaSettings(
        bootstrap_servers=(broker.bootstrap_servers,),
        group_id=topic,
        session_timeout_ms=1_000,
        heartbeat_interval_ms=300,
        max_poll_interval_ms=4_000,
    )
    kafka_admin.create_topics(settings, {topic: 1})
    return KafkaTransport(settings, [topic]), topic


def _read(transport: KafkaTransport, last: bytes) -> tuple[list[Envelope], list[Skipped]]:
    records: list[Envelope] = []
    skipped: list[Skipped] = []
    deadline = time.monotonic() + 20
    while not records or records[-1].value != last:
        assert time.monotonic() < deadline
        polled = transport.poll(0.1)
        records += polled.records
        skipped += polled.skipped
    return records, skipped


@pytest.mark.broker
@pytest.mark.slow
def test_k5_a_batch_with_a_wrong_checksum_is_passed_over_once_and_the_rest_arrives(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, topic = _transport(embedded_broker)
    for values in ((b"0", b"1"), (b"2", b"3", b"4"), (b"5",)):
        transport.deliver([Outgoing(topic, b"k", value) for value in values], {})
    valid = DefaultRecordBatch.validate_crc
    damaged = [2]

    def validate(batch: Any) -> bool:
        return batch.base_offset not in damaged and valid(batch)

    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", validate)
    records, skipped = _read(transport, b"5")
    assert len(skipped) == 1
    assert skipped[0].partition == Partition(topic, 0)
    assert skipped[0].first_offset == 2
    # The client may have made one batch of the three records, or two.
    assert [r.offset for r in records] == [0, 1, *range(skipped[0].last_offset + 1, 6)]
    assert "crc check" in skipped[0].error
    transport.close()


@pytest.mark.broker
@pytest.mark.slow
def test_k5_a_checksum_that_was_wrong_on_the_wire_alone_costs_nothing(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, topic = _transport(embedded_broker)
    transport.deliver([Outgoing(topic, b"k", b"0"), Outgoing(topic, b"k", b"1")], {})
    answers = iter([False])
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda batch: next(answers, True))
    records, skipped = _read(transport, b"1")
    assert ([r.value for r in records], skipped) == ([b"0", b"1"], [])
    transport.close()


@pytest.mark.broker
@pytest.mark.slow
def test_k6_the_clients_log_still_speaks_after_a_producer_was_discarded(embedded_broker: EmbeddedBroker) -> None:
    transport, topic = _transport(embedded_broker)
    transport.deliver([Outgoing(topic, b"k", b"v")], {})
    transport.close()
    del transport
    gc.collect()
    assert isinstance(kafka.producer.kafka.log, logging.Logger)


@pytest.mark.broker
@pytest.mark.slow
def test_closing_leaves_no_thread(embedded_broker: EmbeddedBroker) -> None:
    before = threading.active_count()
    transport, topic = _transport(embedded_broker)
    transport.open()
    transport.deliver([Outgoing(topic, b"k", b"v")], {})
    _read(transport, b"v")
    transport.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
