"""FeatureProducer against a broker: what is sent arrives, keyed, in order, and decodes."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import kafka.producer.kafka
import numpy as np
import pytest
from brokers import RealKafka
from kafka.admin import KafkaAdminClient, NewTopic
from reading import WAIT_SECONDS, first_records, observation

from streamd.client import FeatureProducer, TransientError
from streamd.model import FeatureBatch, ReferencePart, Reset
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3


@pytest.fixture
def topic(embedded_broker: EmbeddedBroker) -> str:
    name = f"features-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=embedded_broker.bootstrap_servers)
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=1)])
    admin.close()
    return name


@pytest.fixture
def producer(embedded_broker: EmbeddedBroker, topic: str) -> Iterator[FeatureProducer]:
    producer = FeatureProducer(embedded_broker.bootstrap_servers, topic)
    yield producer
    producer.close(WAIT_SECONDS)


def test_batches_arrive_keyed_in_order_and_decode_to_what_was_sent(
    embedded_broker: EmbeddedBroker, topic: str, producer: FeatureProducer
) -> None:
    generator = np.random.default_rng(0)
    sent: dict[str, list[np.ndarray[Any, Any]]] = defaultdict(list)
    for i in range(300):
        stream = f"model/{i % 7}"
        values = generator.normal(size=16)
        logits = np.stack([values, -values], axis=1)
        assert producer.send(
            stream, {"x": values, "c": ["DE", "FR"] * 8}, logits=logits, ids=[f"r{j}" for j in range(16)]
        )
        sent[stream].append(values)
    assert producer.flush(WAIT_SECONDS)
    assert producer.stats.sent == 300
    got: dict[str, list[np.ndarray[Any, Any]]] = defaultdict(list)
    partitions: dict[str, set[int]] = defaultdict(set)
    for record in first_records(embedded_broker.bootstrap_servers, topic, 300):
        batch = observation(record, "features")
        assert isinstance(batch, FeatureBatch)
        assert record.key.decode() == batch.stream
        assert batch.table.predictions is not None
        assert batch.table.predictions.kind == "logits"
        assert batch.table.categorical["c"].categories == ("DE", "FR")
        assert batch.ids == tuple(f"r{j}" for j in range(16))
        got[batch.stream].append(batch.table.numeric["x"])
        partitions[batch.stream].add(record.partition)
    assert {stream: np.concatenate(parts).tolist() for stream, parts in got.items()} == {
        stream: np.concatenate(parts).tolist() for stream, parts in sent.items()
    }
    assert all(len(numbers) == 1 for numbers in partitions.values())


def test_a_batch_as_arrow_decodes_to_what_was_sent(embedded_broker: EmbeddedBroker, topic: str) -> None:
    with FeatureProducer(embedded_broker.bootstrap_servers, topic, format="arrow") as producer:
        producer.send("s", {"x": np.arange(4.0), "c": ["a", None, "b", "a"]}, probabilities=np.full((4, 2), 0.5))
    (record,) = first_records(embedded_broker.bootstrap_servers, topic, 1)
    batch = observation(record, "features")
    assert isinstance(batch, FeatureBatch)
    assert batch.table.numeric["x"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert batch.table.categorical["c"].codes.tolist()[1] == -1


def test_a_reference_stands_between_the_data_sent_before_and_after_it(
    embedded_broker: EmbeddedBroker, topic: str, producer: FeatureProducer
) -> None:
    producer.send("s", {"x": [1.0]})
    assert producer.send_reference("s", {"x": np.arange(25.0)}, rows_per_batch=10, timeout_seconds=WAIT_SECONDS) == 3
    producer.reset("s", timeout_seconds=WAIT_SECONDS)
    producer.send("s", {"x": [2.0]})
    assert producer.flush(WAIT_SECONDS)
    found = [observation(record, "features") for record in first_records(embedded_broker.bootstrap_servers, topic, 6)]
    assert [type(item) for item in found] == [
        FeatureBatch,
        ReferencePart,
        ReferencePart,
        ReferencePart,
        Reset,
        FeatureBatch,
    ]
    parts = [item for item in found if isinstance(item, ReferencePart)]
    assert [(part.part, part.parts) for part in parts] == [(1, 3), (2, 3), (3, 3)]
    assert np.concatenate([part.batch.table.numeric["x"] for part in parts]).tolist() == np.arange(25.0).tolist()


def test_what_was_queued_before_the_broker_came_is_delivered_when_it_comes(
    embedded_broker: EmbeddedBroker, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamd.client")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    producer = FeatureProducer(f"127.0.0.1:{port}", topic)
    producer.send("s", {"x": [1.0]})
    with pytest.raises(TransientError):
        producer.connect(0.5)
    door = Door(port, embedded_broker.bootstrap_servers)
    try:
        assert producer.close(WAIT_SECONDS)
    finally:
        door.shut()
    assert len(first_records(embedded_broker.bootstrap_servers, topic, 1)) == 1
    messages = [record.getMessage() for record in caplog.records if record.name == "streamd.client"]
    assert ["cannot send" in messages[0], "again" in messages[-1], len(messages)] == [True, True, 2]


@pytest.mark.kafka
def test_a_missing_topic_is_named_and_nothing_is_lost(kafka_broker: RealKafka) -> None:
    # The embedded broker makes any topic that is asked for.
    producer = FeatureProducer(kafka_broker.bootstrap_servers, "not-there", max_block_ms=300)
    producer.send("s", {"x": [1.0]})
    with pytest.raises(TransientError, match="not-there"):
        producer.connect(2.0)
    assert producer.stats.queued == 1
    producer.close(0.0)
    assert producer._thread is not None
    producer._thread.join(WAIT_SECONDS)  # before the broker goes, or the client's sockets outlive the test
    assert not producer._thread.is_alive()


def test_a_batch_over_the_request_limit_fails_with_the_remedy(producer: FeatureProducer) -> None:
    producer.send("s", {"x": np.random.default_rng(0).normal(size=200_000)})
    producer.send("s", {"x": [1.0]})
    assert producer.flush(WAIT_SECONDS)
    assert (producer.stats.failed, producer.stats.sent) == (1, 1)
    assert "fewer rows" in str(producer.last_error)


def test_the_kafka_clients_logger_survives_its_producers(producer: FeatureProducer) -> None:
    """K6: kafka-python replaces its module's logger when a producer is finalised."""
    producer.send("s", {"x": [1.0]})
    assert producer.close(WAIT_SECONDS)
    client = producer._courier._sink._client  # type: ignore[union-attr]
    client.__del__()
    assert isinstance(kafka.producer.kafka.log, logging.Logger)


def test_threads_share_one_producer(embedded_broker: EmbeddedBroker, topic: str, producer: FeatureProducer) -> None:
    def send_many(stream: str) -> None:
        for i in range(50):
            producer.send(stream, {"x": [float(i)]})

    threads = [threading.Thread(target=send_many, args=(f"s/{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.flush(WAIT_SECONDS)
    got: dict[str, list[float]] = defaultdict(list)
    for record in first_records(embedded_broker.bootstrap_servers, topic, 200):
        batch = observation(record, "features")
        assert isinstance(batch, FeatureBatch)
        got[batch.stream].extend(batch.table.numeric["x"].tolist())
    assert dict(got) == {f"s/{n}": [float(i) for i in range(50)] for n in range(4)}


class Door:
    """Lets connections to `port` through to the broker's first answer: a broker that has just come up."""

    def __init__(self, port: int, target: str) -> None:
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        self._listener.close()
        for end in self._open:
            end.close()
