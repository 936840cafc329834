"""The doctor's probes, on the embedded broker, on a real Kafka, and on one that lets us do little."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import HOW_TO_GET_KAFKA, RealKafka, kafka_launcher
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.admin import ACLResourcePatternType as PatternType
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError
from kafka.structs import OffsetAndMetadata

from streamd.transport import kafka_probe, kafka_probe_cluster, kafka_probe_writes
from streamd.transport.base import Outgoing
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka_admin import ensure_topics, list_topics
from streamd.transport.kafka_probe import Finding, Guarantee, Verdict
from streamd.transport.kafka_resend import Resender
from streamd.transport.settings import KafkaSettings, TopicSettings


def settings_of(bootstrap_servers: str, **more: Any) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=(bootstrap_servers,), group_id=f"g-{uuid.uuid4().hex[:8]}", **more)


def own_topics() -> TopicSettings:
    name = uuid.uuid4().hex[:8]
    return TopicSettings(**{role: f"{name}.{role}" for role in TopicSettings.model_fields})


def examined(settings: KafkaSettings, topics: TopicSettings, write: bool = True) -> tuple[list[Finding], Verdict]:
    *findings, verdict = kafka_probe.examine(settings, topics, write)
    assert isinstance(verdict, Verdict)
    return [f for f in findings if isinstance(f, Finding)], verdict


def of(findings: list[Finding], subject: str, outcome: str) -> str:
    return "\n".join(f.sentence for f in findings if f.subject == subject and f.outcome == outcome)


def remains(settings: KafkaSettings, prefix: str, besides: list[str]) -> list[str]:
    """Topics with this prefix that stay; a deleted one is listed a moment longer."""
    deadline = time.monotonic() + 5
    while True:
        names = [name for name in list_topics(settings) if name.startswith(prefix) and name not in besides]
        if not names or time.monotonic() > deadline:
            return names


def admin_of(broker: Any, **options: Any) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers, **options)


# --- The guarantee --------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.slow
def test_a_real_kafka_gives_exactly_once_and_nothing_is_wrong_with_it(kafka_broker: RealKafka) -> None:
    settings, topics = settings_of(kafka_broker.bootstrap_servers), own_topics()
    ensure_topics(settings, topics, create=True)
    before = list_topics(settings)
    findings, verdict = examined(settings, topics)
    assert verdict.guarantee is Guarantee.EXACTLY_ONCE
    assert verdict.finding.sentence.startswith("exactly once: ")
    assert [f for f in findings if f.outcome != "ok"] == []
    assert of(findings, "rights", "ok") == "may read the inputs, write the outputs, and both with the state"
    assert "features 4, telemetry 4" in of(findings, "topics", "ok")
    assert "agree within" in of(findings, "clock", "ok")
    assert remains(settings, topics.state, before) == []


@pytest.mark.broker
@pytest.mark.slow
def test_the_embedded_broker_gives_at_least_once_only_and_it_says_why(embedded_broker: EmbeddedBroker) -> None:
    settings, topics = settings_of(embedded_broker.bootstrap_servers), own_topics()
    ensure_topics(settings, topics, create=True)
    before = list_topics(settings)
    findings, verdict = examined(settings, topics)
    assert verdict.guarantee is Guarantee.AT_LEAST_ONCE
    assert verdict.finding.outcome == "problem"
    assert "aborted transactions are visible" in verdict.finding.sentence
    assert "offsets of a process that has lost its partitions are taken" in verdict.finding.sentence
    assert of(findings, "transactions", "ok") == "a replaced producer is fenced; aborted offsets are dropped"
    assert [f for f in findings if f.outcome == "problem"] == []
    assert sorted(list_topics(settings)) == sorted(before)
    admin = admin_of(embedded_broker)
    assert not any("doctor" in group["group_id"] for group in admin.list_groups())
    admin.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_without_writing_the_guarantee_is_not_known_and_no_topic_is_made(
    kafka_broker: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KafkaAdminClient, "create_topics", lambda *_, **__: pytest.fail("a topic was made"))
    findings, verdict = examined(settings_of(kafka_broker.bootstrap_servers), own_topics(), write=False)
    assert verdict.guarantee is Guarantee.UNKNOWN
    assert "--no-write" in verdict.finding.sentence
    assert {f.subject for f in findings} == {"reach", "login", "broker", "topics", "group"}


@pytest.mark.parametrize(
    ("promises", "guarantee"),
    [
        ((True, True, True, True), Guarantee.EXACTLY_ONCE),
        ((False, True, True, True), Guarantee.AT_LEAST_ONCE),
        ((True, False, True, True), Guarantee.AT_LEAST_ONCE),
        ((True, True, False, True), Guarantee.AT_LEAST_ONCE),
        ((True, True, True, False), Guarantee.NONE),
        ((None, True, False, True), Guarantee.AT_LEAST_ONCE),
        ((None, True, True, True), Guarantee.UNKNOWN),
        (None, Guarantee.UNKNOWN),
    ],
)
def test_exactly_once_needs_every_promise(promises: tuple[bool | None, ...] | None, guarantee: Guarantee) -> None:
    kept = None if promises is None else kafka_probe_writes.Promises(*promises)
    assert kafka_probe.verdict(kept, write=True).guarantee is guarantee


# --- What is wrong --------------------------------------------------------------------------------


def test_a_broker_that_is_not_there_is_the_only_finding() -> None:
    (finding,) = kafka_probe.examine(settings_of("127.0.0.1:9"), TopicSettings(), True)
    assert isinstance(finding, Finding)
    assert (finding.subject, finding.outcome) == ("reach", "problem")
    assert "127.0.0.1:9" in finding.sentence


@pytest.mark.kafka
@pytest.mark.slow
def test_missing_topics_are_a_problem_where_they_may_not_be_made(kafka_broker: RealKafka) -> None:
    topics = own_topics()
    settings = settings_of(kafka_broker.bootstrap_servers)
    findings, _ = examined(settings, topics, write=False)
    assert topics.features in of(findings, "topics", "warning")
    findings, _ = examined(settings.model_copy(update={"create_topics": False}), topics, write=False)
    assert "kafka.create_topics is false" in of(findings, "topics", "problem")


@pytest.mark.kafka
@pytest.mark.slow
def test_topic_settings_that_lose_data_or_stop_the_daemon_are_named_with_the_remedy(kafka_broker: RealKafka) -> None:
    settings, topics = settings_of(kafka_broker.bootstrap_servers), own_topics()
    admin = admin_of(kafka_broker)
    shapes = {
        name: {"num_partitions": 3, "replication_factor": 1, "configs": {}} for name in topics.model_dump().values()
    }
    shapes[topics.state] = {"num_partitions": 1, "replication_factor": 1, "configs": {"cleanup.policy": "delete"}}
    shapes[topics.features]["configs"] = {"max.message.bytes": "5000000", "cleanup.policy": "compact"}
    admin.create_topics(shapes)
    admin.wait_for_topics(list(shapes))
    admin.close()
    findings, _ = examined(settings, topics, write=False)
    problems = of(findings, "topics", "problem").splitlines()
    assert f"{topics.state}: cleanup.policy is delete: snapshots would be deleted by age" in problems[1]
    assert f"kafka-configs --alter --topic {topics.state} --add-config cleanup.policy=compact" in problems[1]
    assert (
        f"{topics.features}: cleanup.policy is compact: of each stream only the last record would stay" in problems[0]
    )
    assert f"{topics.dlq}: max.message.bytes is 1048588, the inputs take 5000000" in problems[2]
    assert "has fewer partitions (1) than the input (3)" in of(findings, "topics", "warning")
    assert "at most 3 processes" in of(findings, "topics", "ok")


@pytest.mark.kafka
@pytest.mark.slow
def test_lag_is_counted_and_what_retention_takes_or_will_take_is_named(kafka_broker: RealKafka) -> None:
    """Partition 0 lost two records that were not read; partition 1 has one that is nearly as old as may be."""
    settings, topics = settings_of(kafka_broker.bootstrap_servers, partitions=2), own_topics()
    ensure_topics(settings, topics, create=True)
    old_ms = int((time.time() - 5 * 86_400) * 1000)  # of the 7 days that Kafka keeps by default
    resender = Resender(settings)
    resender.send([(Outgoing(topics.features, None, b"x"), 0)] * 5, keep_partition=True)
    resender.send([(Outgoing(topics.features, None, b"x", (), old_ms), 1)], keep_partition=True)
    resender.close()
    zero, one = TopicPartition(topics.features, 0), TopicPartition(topics.features, 1)
    consumer = KafkaConsumer(bootstrap_servers=kafka_broker.bootstrap_servers, group_id=settings.group_id)
    consumer.assign([zero, one])
    consumer.commit({zero: OffsetAndMetadata(1, "", -1), one: OffsetAndMetadata(0, "", -1)})
    consumer.close(autocommit=False)
    admin = admin_of(kafka_broker)
    admin.delete_records({zero: 3})
    admin.close()
    findings, _ = examined(settings, topics, write=False)
    assert "lag: 3 records in 2 partitions" in of(findings, "group", "ok")
    assert f"{topics.features}/0: retention has removed 2 records" in of(findings, "group", "problem")
    assert f"{topics.features}/1: the next record is 120.0 h old and retention.ms keeps 168.0 h" in of(
        findings, "group", "warning"
    )


@pytest.mark.kafka
@pytest.mark.slow
def test_what_a_killed_doctor_left_is_named(kafka_broker: RealKafka) -> None:
    settings, topics = settings_of(kafka_broker.bootstrap_servers), own_topics()
    admin = admin_of(kafka_broker)
    left = f"{topics.state}.doctor-0badcafe"
    admin.create_topics({left: {"num_partitions": 1, "replication_factor": 1}})
    admin.wait_for_topics([left])
    findings, _ = examined(settings, topics)
    assert f"{left}: left by a doctor that was killed" in of(findings, "topics", "warning")
    admin.delete_topics([left])
    admin.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_an_interrupted_examination_leaves_no_topic(kafka_broker: RealKafka) -> None:
    settings, topics = settings_of(kafka_broker.bootstrap_servers), own_topics()
    examination = kafka_probe.examine(settings, topics, True)
    for found in examination:
        if isinstance(found, Finding) and found.subject == "clock":
            break
    assert any(topic.startswith(topics.state) for topic in list_topics(settings))
    examination.close()
    assert remains(settings, topics.state, []) == []


@pytest.mark.parametrize(
    ("skew_seconds", "outcome", "words"),
    [
        (0.0, "ok", "agree within 1 ms"),
        (-0.4, "ok", "agree within 400 ms"),
        (5.0, "warning", "5.0 s ahead of this one: run NTP"),
        (-300.0, "problem", "300.0 s behind this one"),
    ],
)
def test_a_clock_that_is_wrong_is_measured(
    monkeypatch: pytest.MonkeyPatch, skew_seconds: float, outcome: str, words: str
) -> None:
    now = 1_763_769_600.0
    monkeypatch.setattr(kafka_probe_writes.time, "time", lambda: now)

    class Stamped:
        """A producer, and the future of what it sends."""

        timestamp = int((now + skew_seconds) * 1000)

        def begin_transaction(self) -> None: ...
        def abort_transaction(self) -> None: ...
        def flush(self, timeout: float) -> None: ...
        def send(self, topic: str, value: bytes) -> Stamped:
            return self

        def get(self, timeout: float) -> Stamped:
            return self

    found = kafka_probe_writes._skew(Stamped(), "t")
    assert (found.outcome, words in found.sentence) == (outcome, True)


def test_an_experiment_that_hangs_is_a_problem_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_probe_writes, "_DEADLINE_SECONDS", 0.05)
    found = list(kafka_probe_writes._in_time(lambda tell: time.sleep(0.5)))
    assert [(f.outcome, "no answer within" in f.sentence) for f in found] == [("problem", True)]  # type: ignore[union-attr]


def test_a_coordinator_that_is_still_loading_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question about a group after a start of the broker."""
    monkeypatch.setattr(kafka_probe_cluster.time, "sleep", lambda _: None)
    answers: list[Exception | str] = [CoordinatorLoadInProgressError(), CoordinatorNotAvailableError(), "ready"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert kafka_probe_cluster.patiently(ask) == "ready"


# --- Rights ---------------------------------------------------------------------------------------

_LISTENERS = "PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl}"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@pytest.fixture(scope="module")
def strict_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """What is not granted is denied; we on the plain port may do anything, alice only what a test grants."""
    launcher = kafka_launcher()
    if launcher is None:
        pytest.skip(HOW_TO_GET_KAFKA)
    broker = RealKafka(
        launcher,
        tmp_path_factory.mktemp("strict") / "data",
        f"listeners={_LISTENERS},CONTROLLER://127.0.0.1:{{controller}}",
        f"advertised.listeners={_LISTENERS}",
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms=PLAIN",
        f'listener.name.sasl_plaintext.plain.sasl.jaas.config={_PLAIN} user_alice="secret";',
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
        more=("sasl",),
    )
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def grant(strict_kafka: RealKafka) -> Iterator[Callable[..., None]]:
    """Lets alice do these things with what begins so."""
    admin = admin_of(strict_kafka)

    def let(kind: ResourceType, prefix: str, *operations: ACLOperation) -> None:
        pattern = ResourcePattern(kind, prefix, PatternType.PREFIXED)
        admin.create_acls([ACL("User:alice", "*", each, ACLPermissionType.ALLOW, pattern) for each in operations])
        wanted = ACLFilter("User:alice", "*", ACLOperation.ANY, ACLPermissionType.ALLOW, pattern)
        while len(admin.describe_acls(wanted)[0]) < len(operations):
            pass  # the broker hears of it from its controller a moment later; pytest's timeout ends it

    yield let
    admin.close()


def alice(broker: RealKafka) -> KafkaSettings:
    server = f"127.0.0.1:{broker.ports['sasl']}"
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "alice", "sasl_password": "secret"}
    return settings_of(server, security_protocol="SASL_PLAINTEXT", **login)


@pytest.mark.kafka
@pytest.mark.slow
def test_who_may_do_nothing_is_told_what_to_grant(strict_kafka: RealKafka) -> None:
    settings, topics = alice(strict_kafka), own_topics()
    ensure_topics(settings_of(strict_kafka.bootstrap_servers), topics, create=True)
    findings, verdict = examined(settings, topics)
    assert of(findings, "login", "ok") == "let in as alice (PLAIN)"
    assert f"{topics.features}" in of(findings, "topics", "problem")
    assert "grant Describe on the topic" in of(findings, "topics", "problem")
    assert f"group {settings.group_id}: not allowed to join; grant Read on the group" in of(
        findings, "rights", "problem"
    )
    assert "refuses to make the topic" in of(findings, "transactions", "warning")
    assert verdict.guarantee is Guarantee.UNKNOWN


@pytest.mark.kafka
@pytest.mark.slow
def test_each_right_that_is_lacking_is_named_until_none_is(strict_kafka: RealKafka, grant: Callable[..., None]) -> None:
    settings, topics = alice(strict_kafka), own_topics()
    ensure_topics(settings_of(strict_kafka.bootstrap_servers), topics, create=True)
    prefix = topics.state.partition(".")[0]
    grant(ResourceType.TOPIC, prefix, ACLOperation.READ, ACLOperation.CREATE, ACLOperation.DELETE)
    grant(ResourceType.GROUP, settings.group_id, ACLOperation.READ)
    findings, verdict = examined(settings, topics)
    assert f"{topics.alerts}: not allowed to write; grant Write on the topic" in of(findings, "rights", "problem")
    assert topics.features not in of(findings, "rights", "problem")
    assert "transactional ids that begin with" in of(findings, "rights", "problem")
    assert "grant DescribeConfigs to check" in of(findings, "topics", "warning")
    assert verdict.guarantee is Guarantee.UNKNOWN
    grant(ResourceType.TOPIC, prefix, ACLOperation.WRITE, ACLOperation.DESCRIBE_CONFIGS)
    grant(ResourceType.TRANSACTIONAL_ID, settings.group_id, ACLOperation.WRITE, ACLOperation.DESCRIBE)
    findings, verdict = examined(settings, topics)
    assert [f for f in findings if f.outcome != "ok"] == []
    assert verdict.guarantee is Guarantee.EXACTLY_ONCE


@pytest.mark.kafka
@pytest.mark.slow
def test_a_login_that_is_refused_is_a_problem_and_not_an_absent_broker(strict_kafka: RealKafka) -> None:
    guessed = alice(strict_kafka).model_dump() | {"sasl_password": "guess"}
    *_, finding = kafka_probe.examine(KafkaSettings.model_validate(guessed), TopicSettings(), True)
    assert isinstance(finding, Finding)
    assert (finding.subject, finding.outcome) == ("login", "problem")
    assert "refuses 'alice'" in finding.sentence


def test_every_doctor_topic_has_a_name_that_kafka_takes(tmp_path: Path) -> None:
    longest = TopicSettings(state="s" * 249)
    assert len(longest.state[:220] + kafka_probe_writes._SUFFIX + "0" * 8) <= 249
