"""The Kafka transport on real brokers: crashes, topics, and a stretch of a topic as a file."""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.testing
from brokers import ExternalKafka, RealKafka
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from streamd.cli import record
from streamd.errors import ConfigError, TransientError
from streamd.model import Envelope
from streamd.transport import kafka_admin, kafka_consumer
from streamd.transport.base import Assigned, Outgoing, Partition, RecordTooLargeError
from streamd.transport.kafka import KafkaTransport
from streamd.transport.kafka_range import parse_place, read_range
from streamd.transport.recording import read_recording
from streamd.transport.settings import KafkaSettings, TopicSettings

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # kafka-python leaves a socket that could not connect to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

Broker = RealKafka | ExternalKafka


def _settings(broker: Broker, **more: object) -> KafkaSettings:
    quick = {"session_timeout_ms": 2_000, "heartbeat_interval_ms": 500, "producer_request_timeout_ms": 500}
    quick |= {"delivery_timeout_ms": 1_000}
    return KafkaSettings(bootstrap_servers=(broker.bootstrap_servers,), group_id=uuid.uuid4().hex, **quick, **more)  # type: ignore[arg-type]


def _topic(broker: Broker, partitions: int = 1) -> str:
    name = f"t{uuid.uuid4().hex}"
    kafka_admin.create_topics(_settings(broker), {name: partitions})
    return name


def _read(transport: KafkaTransport, count: int, seconds: float = 30.0) -> list[Envelope]:
    """Poll, through whatever happens, until so many records have come."""
    records: list[Envelope] = []
    deadline = time.monotonic() + seconds
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        try:
            records += transport.poll(0.1).records
        except TransientError:
            continue
    return records


def _poll_on(transport: KafkaTransport) -> None:
    """Poll until an error comes, or for 10 s."""
    for _ in range(100):
        transport.poll(0.1)


def test_a_crash_of_the_broker_is_a_transient_error_and_then_the_same_objects_go_on(
    make_kafka: Callable[..., RealKafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "_QUIET_SECONDS", 0.5)
    broker = make_kafka()
    broker.start()
    topic = _topic(broker)
    place = Partition(topic, 0)
    transport = KafkaTransport(_settings(broker), [topic])
    transport.open()
    transport.deliver([Outgoing(topic, b"k", b"before")], {})
    assert [r.value for r in _read(transport, 1)] == [b"before"]
    broker.kill()
    with pytest.raises(TransientError):
        transport.deliver([Outgoing(topic, b"k", b"while away")], {place: transport.position(place)})
    with pytest.raises(TransientError):
        _poll_on(transport)
    broker.start()
    deadline = time.monotonic() + 30
    while True:
        try:
            transport.deliver([Outgoing(topic, b"k", b"after")], {place: 1})
            break
        except TransientError:
            assert time.monotonic() < deadline
    assert [r.value for r in _read(transport, 1)] == [b"after"]
    transport.close()


def _no_answer(*args: object, **kwargs: object) -> None:
    raise KafkaTimeoutError("no answer")


def test_a_broker_that_stays_away_for_long_is_looked_up_again_and_everything_assigned_anew(
    make_kafka: Callable[..., RealKafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "_QUIET_SECONDS", 0.5)
    broker = make_kafka()
    broker.start()
    topic = _topic(broker)
    transport = KafkaTransport(_settings(broker), [topic])
    transport.deliver([Outgoing(topic, b"k", b"one")], {})
    assert len(_read(transport, 1)) == 1
    broker.kill()
    with pytest.raises(TransientError):
        _poll_on(transport)
    first_client = transport._consumer._consumer
    broker.start()
    monkeypatch.setattr(kafka_consumer, "_REBUILD_SECONDS", -1.0)
    monkeypatch.setattr(KafkaConsumer, "committed", _no_answer)
    with pytest.raises(TransientError):
        _poll_on(transport)
    monkeypatch.undo()
    # Nothing was committed: the new client begins at the beginning again, and says so.
    assert [r.value for r in _read(transport, 1)] == [b"one"]
    assert transport._consumer._consumer is not first_client
    transport.close()


def test_an_absent_broker_is_one_sentence_and_closing_afterwards_is_harmless() -> None:
    transport = KafkaTransport(KafkaSettings(bootstrap_servers=("127.0.0.1:1",)), ["t"])
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(TransientError, match=r"no broker answers at 127\.0\.0\.1:1: .*refused"):
            transport.open()
    with pytest.raises(TransientError):
        transport.deliver([Outgoing("t", None, b"v")], {})
    transport.close()
    assert threading.active_count() <= before


def test_missing_topics_are_made_with_the_shape_that_their_purpose_needs(kafka_broker: Broker) -> None:
    prefix = uuid.uuid4().hex
    topics = TopicSettings(**{name: f"{prefix}.{name}" for name in TopicSettings.model_fields})
    settings = _settings(kafka_broker, partitions=3)
    with pytest.raises(ConfigError, match=f"{prefix}.alerts.*not there"):
        kafka_admin.ensure_topics(settings, topics, create=False)
    assert kafka_admin.probe(settings, topics)[-1].detail.endswith("will be made at the start")
    assert kafka_admin.ensure_topics(settings, topics, create=True) == sorted(topics.model_dump().values())
    assert kafka_admin.ensure_topics(settings, topics, create=True) == []
    assert kafka_admin.probe(settings, topics)[-1].ok
    with kafka_admin._admin(settings) as admin:
        described = {t["name"]: len(t["partitions"]) for t in admin.describe_topics([topics.state, topics.dlq])}
        from kafka.admin import ConfigResource, ConfigResourceType

        answers = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topics.state)])
    assert described == {topics.state: 3, topics.dlq: 3}
    assert "compact" in str(answers)


def test_a_record_that_the_broker_never_takes_is_named_and_nothing_beside_it_is_visible(
    kafka_broker: Broker,
) -> None:
    topic = _topic(kafka_broker)
    transport = KafkaTransport(_settings(kafka_broker), [topic])
    transport.open()
    large = Outgoing(topic, b"k", bytes(3_000_000))
    with pytest.raises(RecordTooLargeError) as caught:
        transport.deliver([Outgoing(topic, b"k", b"small"), large], {})
    assert caught.value.record is large
    transport.deliver([Outgoing(topic, b"k", b"next")], {})
    assert [r.value for r in _read(transport, 1)] == [b"next"]
    transport.close()


def test_at_least_once_leaves_the_offsets_of_a_lost_partition_alone_without_an_error(kafka_broker: Broker) -> None:
    topic = _topic(kafka_broker)
    settings = _settings(kafka_broker, delivery="at_least_once")
    transport = KafkaTransport(settings, [topic])
    transport.deliver([Outgoing(topic, b"k", b"v")], {Partition("elsewhere", 0): 5})
    assert len(_read(transport, 1)) == 1
    transport.close()


def _write(broker: Broker, topic: str, count: int) -> None:
    transport = KafkaTransport(_settings(broker), [topic])
    transport.deliver([Outgoing(topic, b"%d" % i, b"%d" % i, (), 1_700_000_000_000 + i) for i in range(count)], {})
    transport.close()


@pytest.mark.parametrize("kind", ["kafka_broker", "embedded_broker"])
def test_a_whole_topic_is_recorded_and_read_back(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    broker = request.getfixturevalue(kind)
    topic = _topic(broker, partitions=3)
    _write(broker, topic, 500)
    app = typer.Typer()
    app.command()(record.command)
    arguments = [topic, "--out", str(tmp_path / "r"), "--bootstrap-servers", broker.bootstrap_servers]
    result = typer.testing.CliRunner().invoke(app, arguments)
    assert result.output == f"500 records of {topic} in {tmp_path / 'r'}\n"
    recorded = list(read_recording(tmp_path / "r"))
    assert sorted(int(e.value or b"") for e in recorded) == list(range(500))


def test_a_recording_keeps_to_its_offsets_its_times_and_its_number(kafka_broker: Broker) -> None:
    topic = _topic(kafka_broker)
    _write(kafka_broker, topic, 100)
    settings = _settings(kafka_broker)

    def offsets(start: int | datetime.datetime | None, end: int | datetime.datetime | None) -> list[int]:
        return [e.offset for e in read_range(settings, topic, start, end)]

    assert offsets(10, 20) == list(range(10, 20))
    start, end = (datetime.datetime.fromtimestamp(1_700_000_000 + ms / 1000, datetime.UTC) for ms in (30, 40))
    assert offsets(start, end) == list(range(30, 40))
    assert offsets(95, None) == list(range(95, 100))
    assert offsets(95, 1000) == list(range(95, 100))
    assert offsets(1000, None) == []
    with pytest.raises(ConfigError, match="there is no topic"):
        list(read_range(settings, "not-there", None, None))


def test_a_place_is_an_offset_or_a_time() -> None:
    assert parse_place("1200") == 1200
    assert parse_place("2026-11-22T08:00:00Z") == parse_place("2026-11-22T09:00:00+01:00")
    assert parse_place("2026-11-22") == datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    with pytest.raises(ValueError, match="neither an offset"):
        parse_place("yesterday")


def test_an_eager_member_is_assigned_like_a_cooperative_one(kafka_broker: Broker) -> None:
    topic = _topic(kafka_broker, partitions=2)
    transport = KafkaTransport(_settings(kafka_broker, assignor="eager"), [topic])
    transport.open()
    changes: list[object] = []
    deadline = time.monotonic() + 20
    while not changes and time.monotonic() < deadline:
        changes += transport.poll(0.1).changes
    assert changes == [Assigned({Partition(topic, 0): 0, Partition(topic, 1): 0})]
    transport.close()


def test_records_that_retention_removed_before_they_were_read_are_reported_lost(kafka_broker: Broker) -> None:
    topic = _topic(kafka_broker)
    partition = Partition(topic, 0)
    settings = _settings(kafka_broker, max_poll_records=1, max_partition_fetch_bytes=1024)
    transport = KafkaTransport(settings, [topic])
    transport.open()
    transport.deliver([Outgoing(topic, b"k", bytes(2000)) for _ in range(20)], {})
    _read(transport, 3)
    transport.pause([partition])
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 0): 15})
    admin.close()
    transport.seek(partition, 0)  # as a process that was slow; what follows 3 has been fetched already
    transport.resume([partition])
    deadline = time.monotonic() + 20
    lost: frozenset[Partition] = frozenset()
    while not lost:
        assert time.monotonic() < deadline, "nothing was said"
        polled = transport.poll(0.1)
        assert not polled.records, "records came although those before them are gone"
        lost = polled.lost
    assert lost == {partition}
    assert transport.bounds(partition)[0] == 15
    transport.seek(partition, 15)
    assert [envelope.offset for envelope in _read(transport, 5)] == [15, 16, 17, 18, 19]
    transport.close()
