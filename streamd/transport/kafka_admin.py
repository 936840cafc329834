"""Topics that must be there, and whether Kafka can be used at all: what `run` and `check` do before they start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from streamd.errors import ConfigError, StreamdError
from streamd.transport import kafka_auth
from streamd.transport.settings import KafkaSettings, TopicSettings

_RECORD_BYTES_MAX = 64 * 1024 * 1024
"""Of the topics that hold other records whole (dead letters: a record and its headers) or snapshots."""

_KEPT_BY_SIZE = {"retention.ms": "-1", "retention.bytes": str(1024**3)}
"""Of dead letters: each has its original's time, and retention by time would remove that of an old record at once."""

_COMPACTED = {
    "cleanup.policy": "compact",
    # The segment that is written to is never compacted: with Kafka's 1 GB and seven days, whoever restores reads all
    # snapshots of a week. At least max.message.bytes.
    "segment.bytes": str(2 * _RECORD_BYTES_MAX),
    "segment.ms": str(60 * 60 * 1000),
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One stage of the check, and how it went, as a sentence."""

    stage: Literal["reach", "login", "topics"]
    ok: bool
    detail: str


def ensure_topics(settings: KafkaSettings, topics: TopicSettings, create: bool) -> list[str]:
    """Make the topics that are missing; returns their names, sorted.

    Raises ConfigError that names the missing ones when `create` is false or the broker refuses to make them,
    TransientError when the broker is away.
    """
    admin = _admin(settings)
    try:
        missing = sorted(_names(topics) - set(admin.list_topics()))
        if not missing:
            return []
        if not create:
            raise ConfigError(
                f"topics: {', '.join(missing)}: not there; make them, or allow streamd to (kafka.create_topics)"
            )
        _make(admin, {name: _shape(name, settings, topics) for name in missing})
        return missing
    except kafka_errors.KafkaError as error:
        raise kafka_auth.explained(error, settings) from error
    finally:
        admin.close()


def create_topics(settings: KafkaSettings, topics: Mapping[str, int]) -> None:
    """Make topics of so many partitions each; those that are there stay as they are.

    Raises TransientError or ConfigError.
    """
    admin = _admin(settings)
    try:
        shapes = {
            name: {"num_partitions": count, "replication_factor": settings.replication_factor}
            for name, count in topics.items()
        }
        _make(admin, shapes)
    except kafka_errors.KafkaError as error:
        raise kafka_auth.explained(error, settings) from error
    finally:
        admin.close()


def list_topics(settings: KafkaSettings) -> list[str]:
    """The names of all topics, sorted. Raises TransientError or ConfigError."""
    admin = _admin(settings)
    try:
        return sorted(admin.list_topics())
    except kafka_errors.KafkaError as error:
        raise kafka_auth.explained(error, settings) from error
    finally:
        admin.close()


def probe(settings: KafkaSettings, topics: TopicSettings) -> list[Probe]:
    """Try the connection, then the login, then look for the topics; ends at the first stage that fails."""
    servers = ", ".join(settings.bootstrap_servers)
    try:
        kafka_auth.reach(settings)
    except StreamdError as error:
        return [Probe("reach", False, str(error))]
    found = [Probe("reach", True, f"{servers} answers ({settings.security_protocol})")]
    try:
        admin = _admin(settings)
    except StreamdError as error:
        return [*found, Probe("login", False, str(error))]
    try:
        found.append(Probe("login", True, settings.sasl_mechanism or "no login is asked for"))
        missing = sorted(_names(topics) - set(admin.list_topics()))
    except kafka_errors.KafkaError as error:
        return [*found, Probe("topics", False, str(kafka_auth.explained(error, settings)))]
    finally:
        admin.close()
    if not missing:
        return [*found, Probe("topics", True, "all topics are there")]
    verb = "will be made at the start" if settings.create_topics else "are missing, and kafka.create_topics is false"
    return [*found, Probe("topics", settings.create_topics, f"{', '.join(missing)}: {verb}")]


def _admin(settings: KafkaSettings) -> Any:
    """Raises TransientError or ConfigError."""
    return kafka_auth.build(KafkaAdminClient, settings, request_timeout_ms=15_000)


def _names(topics: TopicSettings) -> set[str]:
    return set(topics.model_dump().values())


def _shape(name: str, settings: KafkaSettings, topics: TopicSettings) -> dict[str, Any]:
    configs: dict[str, str] = {}
    if name in (topics.dlq, topics.state):
        configs["max.message.bytes"] = str(_RECORD_BYTES_MAX)
    if name == topics.dlq:
        configs |= _KEPT_BY_SIZE
    if name == topics.state:
        configs |= _COMPACTED
    return {
        "num_partitions": settings.partitions,
        "replication_factor": settings.replication_factor,
        "configs": configs,
    }


def _make(admin: Any, shapes: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the topics and wait until they can be used. ConfigError when the broker refuses."""
    answer = admin.create_topics(dict(shapes), timeout_ms=10_000, raise_errors=False)
    refused = [
        f"topics: {made['name']}: the broker refuses to make it: {_reason(made)}"
        for made in answer["topics"]
        # Another process may have been faster.
        if made["error_code"] not in (0, kafka_errors.TopicAlreadyExistsError.errno)
    ]
    if refused:
        raise ConfigError(*refused)
    admin.wait_for_topics(list(shapes))


def _reason(made: dict[str, Any]) -> str:
    error = kafka_errors.for_code(made["error_code"])
    return str(made.get("error_message") or error.__name__)
