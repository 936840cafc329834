"""A state partition is read whole, as far as it is committed: on memory, on the embedded broker, on a real Kafka."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import pytest
from brokers import ExternalKafka, RealKafka
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.record.default_records import DefaultRecordBatch

from streamd.errors import TransientError
from streamd.model import Envelope
from streamd.sinks.state import Part, assemble, part_records, tombstones
from streamd.transport import kafka_admin, kafka_state
from streamd.transport.base import Outgoing
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka import KafkaTransport
from streamd.transport.kafka_state import StateReader, partition_of
from streamd.transport.memory import MemoryBroker, MemoryStateReader, MemoryTransport
from streamd.transport.settings import KafkaSettings, TopicSettings

# kafka-python leaves a socket that could not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

Broker = RealKafka | ExternalKafka | EmbeddedBroker
OWNER = "g/streamd.features/0"
PLACE = OWNER.encode()
PARTITIONS = 3


class Reader(Protocol):
    def read(self, placement: bytes, prefix: bytes = b"") -> list[Envelope]: ...


def _settings(broker: Broker, **more: Any) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=(broker.bootstrap_servers,), **more)


def _topic(broker: Broker, partitions: int = PARTITIONS, **configs: str) -> str:
    topic = f"s{uuid.uuid4().hex}"
    settings = _settings(broker)
    admin = kafka_admin._admin(settings)
    shape = {"num_partitions": partitions, "replication_factor": -1, "configs": configs}
    kafka_admin._make(admin, {topic: shape})
    admin.close()
    return topic


@pytest.fixture
def producer_of() -> Iterator[Callable[..., Any]]:
    """Makes bare producers, transactional where an option says so."""
    made: list[Any] = []

    def make(broker: Broker, transactional: bool = False, **options: Any) -> Any:
        if transactional:
            options |= {"transactional_id": uuid.uuid4().hex, "retry_backoff_ms": 5}
        made.append(KafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", **options))
        if transactional:
            made[-1].init_transactions()
        return made[-1]

    yield make
    for producer in made:
        producer.close(timeout=0)


def _send(producer: Any, records: Iterable[Outgoing], partitions: int = PARTITIONS) -> None:
    futures = []
    for r in records:
        assert r.placement is not None
        place = partition_of(r.placement, partitions)
        futures.append(producer.send(r.topic, r.value, r.key, headers=list(r.headers), partition=place))
    producer.flush(timeout=20)
    for future in futures:
        future.get(20)


def _transaction(producer: Any, records: Iterable[Outgoing], *, commit: bool, partitions: int = PARTITIONS) -> None:
    producer.begin_transaction()
    _send(producer, records, partitions)
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


# --- Everywhere ---


@pytest.fixture(
    params=[
        "memory",
        pytest.param("embedded_broker", marks=[pytest.mark.broker, pytest.mark.slow]),
        pytest.param("kafka_broker", marks=[pytest.mark.kafka, pytest.mark.slow]),
    ]
)
def stage(
    request: pytest.FixtureRequest, producer_of: Callable[..., Any]
) -> tuple[str, Reader, Callable[[Iterable[Outgoing]], None]]:
    """A topic, its reader, and how to write to it."""
    if request.param == "memory":
        memory = MemoryBroker()
        memory.create_topic("s", PARTITIONS)

        def append(records: Iterable[Outgoing]) -> None:
            for r in records:
                memory.append(r.topic, r.key, r.value, r.headers, placement=r.placement)

        return "s", MemoryStateReader(memory, "s"), append
    broker = request.getfixturevalue(request.param)
    topic = _topic(broker)
    # Batches of several records: end_offsets of the embedded broker then says too little.
    producer = producer_of(broker, linger_ms=5)
    return topic, StateReader(_settings(broker), topic), lambda records: _send(producer, records)


def test_all_records_of_a_placement_come_in_their_order_whatever_their_key(stage: Any) -> None:
    topic, reader, write = stage
    places = [b"a", b"b", b"f"]
    assert {partition_of(place, PARTITIONS) for place in places} == {0, 1, 2}
    sent = [Outgoing(topic, b"%d" % i, b"v%d" % i, (("h", b"%d" % i),), placement=places[i % 3]) for i in range(900)]
    write(sent)
    for place in places:
        found = reader.read(place)
        assert [(r.key, r.value, r.headers) for r in found] == [
            (s.key, s.value, s.headers) for s in sent if s.placement == place
        ]
        assert [r.offset for r in found] == list(range(300))
        assert {(r.topic, r.partition) for r in found} == {(topic, partition_of(place, PARTITIONS))}


def test_with_a_prefix_only_keys_that_begin_so_are_kept(stage: Any) -> None:
    topic, reader, write = stage
    keys = [b"a/1", b"b/1", b"a/2", None, b"a"]
    write([Outgoing(topic, key, b"v", placement=b"x") for key in keys])
    assert [r.key for r in reader.read(b"x", prefix=b"a/")] == [b"a/1", b"a/2"]


def test_a_partition_without_records_gives_none(stage: Any) -> None:
    _, reader, _ = stage
    assert reader.read(b"x") == []


def test_what_parts_were_written_is_put_together(stage: Any) -> None:
    topic, reader, write = stage
    parts = [Part("snapshot/0", 10, b"a" * 5000), Part("snapshot/1", 20, bytes(range(256)) * 20)]
    write([r for part in parts for r in part_records(OWNER, part, topic, chunk_bytes=64)])
    found = assemble(reader.read(PLACE, prefix=PLACE), OWNER, committed=20)
    assert found.parts == {part.name: part for part in parts}
    assert found.problems == []


def test_without_the_topic_it_is_a_transient_error() -> None:
    with pytest.raises(TransientError, match="there is no topic nowhere"):
        MemoryStateReader(MemoryBroker(), "nowhere").read(b"x")


@pytest.mark.broker
@pytest.mark.slow
def test_without_the_topic_or_the_broker_it_is_a_transient_error(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(TransientError, match="there is no topic"):
        StateReader(_settings(embedded_broker), uuid.uuid4().hex).read(b"x")
    with pytest.raises(TransientError, match="no broker answers"):
        StateReader(KafkaSettings(bootstrap_servers=("127.0.0.1:1",)), "t").read(b"x")


@pytest.mark.parametrize("kind", ["memory", pytest.param("embedded_broker", marks=[pytest.mark.broker])])
def test_a_transport_reads_back_what_it_delivered(kind: str, request: pytest.FixtureRequest) -> None:
    transport: MemoryTransport | KafkaTransport
    if kind == "memory":
        memory, topic = MemoryBroker(), "s"
        memory.create_topic(topic, PARTITIONS)
        transport = MemoryTransport(memory, ["t"])
    else:
        broker = request.getfixturevalue(kind)
        topic = _topic(broker)
        transport = KafkaTransport(_settings(broker), ["t"])
    parts = [Part(f"snapshot/{i}", i, bytes(range(200))) for i in range(2)]
    owners = [f"g/t/{i}" for i in range(5)]
    transport.deliver([r for o in owners for part in parts for r in part_records(o, part, topic, 50)], {})
    for owner in owners:
        found = assemble(transport.read_state(topic, owner.encode()), owner, committed=1)
        assert found.parts == {part.name: part for part in parts}
    transport.close()


# --- Transactions ---


@pytest.mark.parametrize(
    ("kind", "visible"),
    [
        pytest.param("embedded_broker", True, marks=[pytest.mark.broker, pytest.mark.slow]),
        pytest.param("kafka_broker", False, marks=[pytest.mark.kafka, pytest.mark.slow]),
    ],
)
def test_what_was_aborted_is_not_believed_even_where_the_broker_shows_it(
    kind: str, visible: bool, request: pytest.FixtureRequest, producer_of: Callable[..., Any]
) -> None:
    broker = request.getfixturevalue(kind)
    topic = _topic(broker)
    producer = producer_of(broker, transactional=True)
    good, aborted = Part("snapshot/0", 10, bytes(range(200))), Part("snapshot/0", 20, b"aborted")
    _transaction(producer, part_records(OWNER, good, topic, 50), commit=True)
    records = part_records(OWNER, aborted, topic, 50)
    records += tombstones(OWNER, "snapshot/0", 9, topic, start=len(records), offset=20)
    _transaction(producer, records, commit=False)
    read = StateReader(_settings(broker), topic).read(PLACE)
    assert any(dict(r.headers)["state-offset"] == b"20" for r in read) is visible
    found = assemble(read, OWNER, committed=10)
    assert found.parts == {"snapshot/0": good}
    assert bool(found.problems) is visible


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Any]]]:
    """Runs something on another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit


def _held_back(reading: Future[Any]) -> None:
    with pytest.raises(TimeoutError):
        reading.result(2.0)  # long enough to have had its first answer, also on a busy machine


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("commit", [True, False])
def test_a_reader_waits_for_a_transaction_that_is_open_and_holds_its_outcome(
    kafka_broker: Broker, producer_of: Callable[..., Any], aside: Callable[..., Future[Any]], commit: bool
) -> None:
    topic = _topic(kafka_broker)
    plain, dying = producer_of(kafka_broker), producer_of(kafka_broker, transactional=True)
    old, new, other = Part("snapshot/0", 10, b"old"), Part("snapshot/1", 20, b"new"), Part("snapshot/2", 5, b"other")
    _send(plain, part_records(OWNER, old, topic))
    dying.begin_transaction()
    _send(dying, part_records(OWNER, new, topic))
    _send(plain, part_records(OWNER, other, topic))  # held back too: another process's
    reading = aside(StateReader(_settings(kafka_broker), topic).read, PLACE)
    _held_back(reading)
    if commit:
        dying.commit_transaction()
    else:
        dying.abort_transaction()
    found = assemble(reading.result(20), OWNER, committed=20).parts
    assert set(found) == {"snapshot/0", "snapshot/2"} | ({"snapshot/1"} if commit else set())


@pytest.mark.kafka
@pytest.mark.slow
def test_a_transaction_that_begins_after_the_reading_is_not_waited_for(
    kafka_broker: Broker, producer_of: Callable[..., Any], aside: Callable[..., Future[Any]]
) -> None:
    topic = _topic(kafka_broker)
    first, later = (producer_of(kafka_broker, transactional=True) for _ in range(2))
    first.begin_transaction()
    _send(first, part_records(OWNER, Part("snapshot/0", 10, b"first"), topic))
    reading = aside(StateReader(_settings(kafka_broker), topic).read, PLACE)
    _held_back(reading)
    later.begin_transaction()
    _send(later, part_records(OWNER, Part("snapshot/1", 20, b"later"), topic))
    first.commit_transaction()
    assert set(assemble(reading.result(20), OWNER, committed=20).parts) == {"snapshot/0"}
    later.abort_transaction()


@pytest.mark.kafka
@pytest.mark.slow
def test_the_transaction_of_a_dead_process_is_waited_for_until_the_broker_ends_it(
    make_kafka: Callable[..., RealKafka], producer_of: Callable[..., Any]
) -> None:
    broker = make_kafka("transaction.abort.timed.out.transaction.cleanup.interval.ms=200")
    broker.start()
    topic = _topic(broker)
    plain, dying = producer_of(broker), producer_of(broker, transactional=True, transaction_timeout_ms=2_000)
    _send(plain, part_records(OWNER, Part("snapshot/0", 10, b"old"), topic))
    dying.begin_transaction()
    _send(dying, part_records(OWNER, Part("snapshot/1", 20, b"new"), topic))
    reader = StateReader(_settings(broker), topic)
    reader._patience_seconds = 0.1
    with pytest.raises(TransientError, match=rf"a transaction in {topic}/\d is open at offset 1 for more than 0.1 s"):
        reader.read(PLACE)
    reader._patience_seconds = 20.0
    assert set(assemble(reader.read(PLACE), OWNER, committed=20).parts) == {"snapshot/0"}


@pytest.mark.kafka
@pytest.mark.slow
def test_a_broker_that_dies_while_it_is_read_from_is_a_transient_error_soon(
    make_kafka: Callable[..., RealKafka],
    producer_of: Callable[..., Any],
    aside: Callable[..., Future[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_state, "_QUIET_SECONDS", 0.2)
    monkeypatch.setattr(kafka_state, "_ANSWER_SECONDS", 1.0)
    broker = make_kafka()
    broker.start()
    topic = _topic(broker)
    dying = producer_of(broker, transactional=True)
    dying.begin_transaction()
    _send(dying, part_records(OWNER, Part("snapshot/1", 20, b"new"), topic))
    reader = StateReader(_settings(broker), topic)
    reading = aside(reader.read, PLACE)
    _held_back(reading)
    broker.kill()
    with pytest.raises(TransientError):
        reading.result(15)


@pytest.mark.kafka
@pytest.mark.slow
def test_closing_breaks_off_what_waits(
    kafka_broker: Broker, producer_of: Callable[..., Any], aside: Callable[..., Future[Any]]
) -> None:
    topic = _topic(kafka_broker)
    dying = producer_of(kafka_broker, transactional=True)
    dying.begin_transaction()
    _send(dying, part_records(OWNER, Part("snapshot/1", 20, b"new"), topic))
    threads = threading.active_count()
    transport = KafkaTransport(_settings(kafka_broker), ["t"])
    reading = aside(transport.read_state, topic, PLACE)
    _held_back(reading)
    transport.close()
    with pytest.raises(TransientError, match="broken off"):
        reading.result(3)
    assert threading.active_count() <= threads + 1  # that of `aside`
    dying.abort_transaction()


# --- Damage and compaction ---


@pytest.mark.broker
@pytest.mark.slow
def test_k5_a_batch_that_cannot_be_read_is_left_out_and_the_rest_is_read(
    embedded_broker: EmbeddedBroker,
    producer_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = _topic(embedded_broker)
    producer = producer_of(embedded_broker)
    for i in range(4):  # each is a batch
        _send(producer, [Outgoing(topic, b"%d" % i, b"v", placement=PLACE)])
    valid = DefaultRecordBatch.validate_crc
    asked: list[int] = []

    def validate(batch: Any) -> bool:
        asked.append(batch.base_offset)
        return batch.base_offset != 2 and valid(batch)

    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", validate)
    assert [r.offset for r in StateReader(_settings(embedded_broker), topic).read(PLACE)] == [0, 1, 3]
    assert asked.count(2) == 2  # it may have been the wire
    assert "offsets 2 to 2 cannot be read and are left out" in caplog.text


@pytest.mark.kafka
@pytest.mark.slow
def test_the_state_topic_that_is_made_lets_kafka_compact_what_is_an_hour_old(kafka_broker: Broker) -> None:
    prefix = uuid.uuid4().hex
    topics = TopicSettings(**{name: f"{prefix}.{name}" for name in TopicSettings.model_fields})
    kafka_admin.ensure_topics(_settings(kafka_broker), topics, create=True)
    with kafka_admin._admin(_settings(kafka_broker)) as admin:
        described = str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topics.state)]))
    for value in ("compact", "3600000", "134217728"):
        assert f"'{value}'" in described


@pytest.mark.kafka
@pytest.mark.slow
def test_a_topic_that_kafka_has_compacted_gives_the_newest_of_every_part(
    make_kafka: Callable[..., RealKafka], producer_of: Callable[..., Any]
) -> None:
    broker = make_kafka("log.cleaner.backoff.ms=50")
    broker.start()
    compact = {"cleanup.policy": "compact", "segment.ms": "50", "min.cleanable.dirty.ratio": "0.01"}
    topic = _topic(broker, partitions=1, **compact, **{"delete.retention.ms": "0"})
    producer, reader = producer_of(broker, transactional=True), StateReader(_settings(broker), topic)
    count: dict[str, int] = {}
    sent = 0
    newest: dict[str, Part] = {}
    for generation in range(300):
        # Sizes go up and down, so that chunks of several generations lie beside each other.
        part = Part(f"snapshot/{generation % 2}", generation, bytes(range(10 + 37 * generation % 150)))
        records = part_records(OWNER, part, topic, chunk_bytes=32)
        removed = tombstones(OWNER, part.name, count.get(part.name, 0), topic, start=len(records), offset=generation)
        commit = generation % 5 != 3
        if commit:
            newest[part.name], count[part.name] = part, len(records)
        _transaction(producer, records + removed, commit=commit, partitions=1)
        sent += len(records) if commit else 0
        if generation % 20 == 19:
            read = reader.read(PLACE)
            found = assemble(read, OWNER, committed=generation)
            assert found.parts == newest
            assert found.chunks == count
            assert found.problems == []
            if generation > 50 and len(read) < sent / 4:
                return
    pytest.fail(f"Kafka has not compacted: {len(read)} of {sent} records are there")
