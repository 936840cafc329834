"""The doctor's questions that change nothing: topics, their settings, our rights, the group and its lag."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource

from streamd.transport import kafka_auth
from streamd.transport.settings import KafkaSettings, TopicSettings

_T = TypeVar("_T")


class Found(NamedTuple):
    """A finding before it is one: see kafka_probe.Finding."""

    subject: Literal["topics", "rights", "group", "clock", "transactions"]
    outcome: Literal["ok", "warning", "problem"]
    sentence: str


_NEEDED = {  # what streamd does with each topic
    "features": ("READ", "DESCRIBE"),
    "telemetry": ("READ", "DESCRIBE"),
    "alerts": ("WRITE", "DESCRIBE"),
    "control": ("WRITE", "DESCRIBE"),
    "dlq": ("WRITE", "DESCRIBE"),
    "state": ("READ", "WRITE", "DESCRIBE"),
}
_INPUTS = ("features", "telemetry")
_HEADER_BYTES = 8192  # what a dead letter has more than its original: an error of 4 KB and some names
_PATIENCE_SECONDS = 6.0  # the first question about any group makes a new cluster create its offsets topic
_NOT_YET = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
)
_OLD_SHARE = 0.5  # of the retention: whoever lags by more should hear of it before the rest is gone too


def look(admin: Any, settings: KafkaSettings, topics: TopicSettings, brokers: int) -> Iterator[Found]:
    """Ask one thing after the other. Raises KafkaError when the broker stops answering."""
    names = topics.model_dump()
    described = {topic["name"]: topic for topic in admin.describe_topics(sorted(names.values()))}
    there = {role: described[name] for role, name in names.items() if described[name]["error_code"] == 0}
    yield from _topics(names, described, there, settings, brokers)
    configs = _configs(admin, [names[role] for role in there])
    yield from _settings(names, there, configs, brokers)
    yield from _topic_rights(names, there, described)
    retention_ms = {
        names[role]: int(configs[names[role]].get("retention.ms", "-1")) for role in _INPUTS if role in there
    }
    try:
        members = _group(admin, settings.group_id)
        yield members
        if members.outcome != "problem":
            yield from _lag(admin, settings, retention_ms, there)
    except _NOT_YET as error:
        sentence = f"group {settings.group_id}: its coordinator is not ready ({type(error).__name__}); try again"
        yield Found("group", "problem", sentence)


def _topics(
    names: Mapping[str, str],
    described: Mapping[str, Any],
    there: Mapping[str, Any],
    settings: KafkaSettings,
    brokers: int,
) -> Iterator[Found]:
    refused = kafka_errors.TopicAuthorizationFailedError.errno
    hidden = sorted(name for name in names.values() if described[name]["error_code"] == refused)
    missing = sorted(name for name in names.values() if described[name]["error_code"] not in (0, refused))
    if hidden:
        yield Found("topics", "problem", f"{_list(hidden)}: not allowed to see; grant Describe on the topic")
    if missing and settings.create_topics:
        yield Found("topics", "warning", f"{_list(missing)}: not there yet; `streamd run` makes what is missing")
    elif missing:
        sentence = f"{_list(missing)}: not there, and kafka.create_topics is false; make them, or allow it"
        yield Found("topics", "problem", sentence)
    counts = {role: len(topic["partitions"]) for role, topic in there.items()}
    if counts:
        text = ", ".join(f"{role} {count}" for role, count in counts.items())
        yield Found("topics", "ok", f"partitions: {text}; streamd shares the work among {_workers(counts)}")
    inputs = max((counts[role] for role in _INPUTS if role in counts), default=0)
    if 0 < counts.get("state", inputs) < inputs:
        yield Found(
            "topics",
            "warning",
            f"{names['state']} has fewer partitions ({counts['state']}) than the input ({inputs}): each restore reads "
            "others' state too; make it with as many before the first start, since its number must never change later",
        )
    for role, topic in there.items():
        yield from _replicas(names[role], topic["partitions"], brokers)


def _replicas(name: str, partitions: list[dict[str, Any]], brokers: int) -> Iterator[Found]:
    leaderless = sum(p["leader_id"] < 0 for p in partitions)
    behind = sum(len(p["isr_nodes"]) < len(p["replica_nodes"]) for p in partitions)
    if leaderless:
        yield Found("topics", "problem", f"{name}: {leaderless} of {len(partitions)} partitions have no leader")
    elif behind:
        yield Found("topics", "warning", f"{name}: replicas of {behind} of {len(partitions)} partitions are behind")
    if brokers > 1 and any(len(p["replica_nodes"]) == 1 for p in partitions):
        yield Found("topics", "warning", f"{name} has one replica: what it holds is gone with its broker's disk")


def _workers(counts: Mapping[str, int]) -> str:
    most = max((counts[role] for role in _INPUTS if role in counts), default=0)
    return f"at most {most} process{'' if most == 1 else 'es'}"


def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    """The settings of each topic; empty where the broker does not say."""
    if not names:
        return {}
    answer = admin.describe_configs([ConfigResource("TOPIC", name) for name in names], config_filter="all")
    topics = answer.get("topic", {})
    return {name: {key: str(entry["value"]) for key, entry in topics.get(name, {}).items()} for name in names}


def _settings(
    names: Mapping[str, str], there: Mapping[str, Any], configs: Mapping[str, Mapping[str, str]], brokers: int
) -> Iterator[Found]:
    """Topic settings that would lose something, or make streamd stand still."""
    found: list[Found] = []
    unsaid = []
    for role in there:
        name, config = names[role], configs[names[role]]
        policy = config.get("cleanup.policy")
        if policy is None:
            unsaid.append(role)
        elif role == "state" and policy != "compact":
            sentence = (
                f"{name}: cleanup.policy is {policy}: snapshots would be deleted by age; {_alter(name, 'compact')}"
            )
            found.append(Found("topics", "problem", sentence))
        elif role != "state" and "compact" in policy:
            sentence = f"{name}: cleanup.policy is {policy}: of each stream only the last record would stay"
            found.append(Found("topics", "problem", f"{sentence}; {_alter(name, 'delete')}"))
        if brokers > 1 and config.get("min.insync.replicas") == "1":
            sentence = f"{name}: min.insync.replicas is 1: what is acknowledged may be on one disk alone; set 2"
            found.append(Found("topics", "warning", sentence))
    largest = {role: int(configs[names[role]].get("max.message.bytes", "0")) for role in there}
    accepted = max((largest[role] for role in _INPUTS if role in largest), default=0)
    if largest.get("dlq") and largest["dlq"] < accepted + _HEADER_BYTES:
        found.append(
            Found(
                "topics",
                "problem" if largest["dlq"] < accepted else "warning",
                f"{names['dlq']}: max.message.bytes is {largest['dlq']}, the inputs take {accepted}: a bad record of "
                f"that size cannot become a dead letter and stops its partition; set {accepted + _HEADER_BYTES}",
            )
        )
    yield from found
    if unsaid and len(unsaid) == len(there):
        yield Found(
            "topics", "warning", "the broker does not tell the topics' settings: grant DescribeConfigs to check"
        )
    elif not found and there:
        yield Found("topics", "ok", "their settings fit: state is compacted, and a dead letter has room for its record")


def _alter(name: str, policy: str) -> str:
    return f"kafka-configs --alter --topic {name} --add-config cleanup.policy={policy}"


def _topic_rights(names: Mapping[str, str], there: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[Found]:
    told = {role: topic["authorized_operations"] for role, topic in there.items()}
    if not told:
        return
    if all(operations is None for operations in told.values()):
        yield Found("rights", "warning", "the broker does not tell who may do what with a topic: nothing to check")
        return
    lacking = {
        role: [need for need in _NEEDED[role] if need not in operations]
        for role, operations in told.items()
        if operations is not None
    }
    lacking = {role: needs for role, needs in lacking.items() if needs}
    for role, needs in lacking.items():
        words = " and ".join(need.capitalize() for need in needs)
        yield Found("rights", "problem", f"{names[role]}: not allowed to {words.lower()}; grant {words} on the topic")
    if not lacking:
        yield Found("rights", "ok", "may read the inputs, write the outputs, and both with the state")


def _group(admin: Any, group_id: str) -> Found:
    """The group's members, and whether we may be one."""
    try:
        group = patiently(lambda: admin.describe_groups([group_id]))[group_id]
    except kafka_errors.GroupAuthorizationFailedError:
        return Found("rights", "problem", f"group {group_id}: not allowed to join; grant Read on the group")
    except ValueError:  # the client cannot read what an embedded broker says about rights
        return Found("group", "ok", f"group {group_id}: its coordinator answers")
    if "GroupAuthorizationFailed" in str(group["error"]):
        return Found("rights", "problem", f"group {group_id}: not allowed to join; grant Read on the group")
    operations = group.get("authorized_operations")
    if operations is not None and group["error"] is None and "READ" not in operations:
        return Found("rights", "problem", f"group {group_id}: not allowed to join; grant Read on the group")
    members = len(group["members"] or ())
    state = f"{members} member{'' if members == 1 else 's'} ({group['group_state']})" if members else "nobody is in it"
    return Found("group", "ok", f"group {group_id}: {state}")


def _lag(
    admin: Any, settings: KafkaSettings, retention_ms: Mapping[str, int], there: Mapping[str, Any]
) -> Iterator[Found]:
    """How far the group is behind, and whether retention is about to overtake it."""
    partitions = [
        TopicPartition(topic["name"], p["partition_index"])
        for role, topic in there.items()
        if role in _INPUTS
        for p in topic["partitions"]
    ]
    committed = patiently(lambda: admin.list_group_offsets({settings.group_id: None}))[settings.group_id]
    places = {p: committed[p].offset for p in partitions if p in committed and committed[p].offset >= 0}
    if not places:
        sentence = f"it has committed nothing yet, and will begin at the {settings.auto_offset_reset} record"
        yield Found("group", "ok", sentence)
        return
    consumer = kafka_auth.build(
        KafkaConsumer,
        settings,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    try:
        first, last = consumer.beginning_offsets(list(places)), consumer.end_offsets(list(places))
        lag = sum(max(0, last[p] - max(offset, first[p])) for p, offset in places.items())
        yield Found("group", "ok", f"lag: {lag:,} records in {len(places)} partitions")
        for p in sorted(p for p, offset in places.items() if offset < first[p]):
            yield Found(
                "group",
                "problem",
                f"{p.topic}/{p.partition}: retention has removed {first[p] - places[p]:,} records that were not read; "
                "raise retention.ms, and set on_offset_loss to go on without them",
            )
        behind = {p: offset for p, offset in places.items() if first[p] <= offset < last[p]}
        for p, age_seconds in _ages(consumer, behind).items():
            limit_seconds = retention_ms[p.topic] / 1000
            if 0 < limit_seconds * _OLD_SHARE < age_seconds:
                yield Found(
                    "group",
                    "warning",
                    f"{p.topic}/{p.partition}: the next record is {age_seconds / 3600:.1f} h old and retention.ms "
                    f"keeps {limit_seconds / 3600:.1f} h: catch up, or raise it",
                )
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


def _ages(consumer: Any, behind: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
    """The age in seconds of the next record of each partition, where it could be had soon."""
    if not behind:
        return {}
    consumer.assign(list(behind))
    for partition, offset in behind.items():
        consumer.seek(partition, offset)
    ages: dict[TopicPartition, float] = {}
    deadline = time.monotonic() + 2.0
    while len(ages) < len(behind) and time.monotonic() < deadline:
        for partition, records in consumer.poll(timeout_ms=200).items():
            ages.setdefault(partition, time.time() - records[0].timestamp / 1000)
            consumer.pause(partition)
    return ages


def patiently(ask: Callable[[], _T]) -> _T:
    """Ask again while the cluster is still making its internal topics."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except _NOT_YET:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _list(names: list[str]) -> str:
    return ", ".join(names)
