"""How to reach Kafka, and what the topics are called."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from streamd.settings import Settings

_HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.%]+\]):(\d{1,5})")

TopicName = Annotated[str, StringConstraints(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
"""What Kafka accepts as the name of a topic."""


def _split_servers(value: Any) -> Any:
    """`a:9092,b:9092`, as every other Kafka tool takes it, is the same as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_BOUNDS: dict[str, tuple[str, str, Callable[[int, int], bool]]] = {
    "heartbeat_interval_ms": ("at most a third of", "session_timeout_ms", lambda value, other: value * 3 <= other),
    "max_poll_interval_ms": ("at least", "session_timeout_ms", operator.ge),
    "max_partition_fetch_bytes": ("at most", "fetch_max_bytes", operator.le),
    "request_timeout_ms": ("greater than", "fetch_max_wait_ms", operator.gt),
    "delivery_timeout_ms": ("at least", "producer_request_timeout_ms", operator.ge),
    "transaction_timeout_ms": ("greater than", "delivery_timeout_ms", operator.gt),
}
"""Field -> how it must stand to another field, which is declared before it."""


class OauthSettings(Settings):
    """Where the token for sasl_mechanism OAUTHBEARER comes from: exactly one of token, token_file, token_url."""

    token: SecretStr | None = None
    """A token that never changes. For tests: real ones expire."""

    token_file: Path | None = None
    """A file that holds the token, read again for each login: what Kubernetes mounts and renews."""

    token_url: str | None = Field(default=None, pattern=r"^https?://")
    """The endpoint of the client-credentials grant (RFC 6749, section 4.4)."""

    client_id: str | None = None
    """Of that grant."""

    client_secret: SecretStr | None = None
    """Of that grant."""

    scope: str | None = None
    """Of that grant; null where the endpoint asks for none."""

    @property
    def sources(self) -> list[str]:
        """The names of those that are given."""
        return [name for name in ("token", "token_file", "token_url") if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len(self.sources) > 1:
            raise ValueError("give one of token, token_file and token_url, not several")
        if self.token_url is not None and (self.client_id is None or self.client_secret is None):
            raise ValueError("token_url needs client_id and client_secret")
        return self


class KafkaSettings(Settings):
    """The connection, the consumer group and the producer.

    What exactness depends on, apart from `delivery`, is not configurable: offsets are committed by streamd alone,
    reads are `read_committed`, and the producer is idempotent with `acks=all`.
    """

    bootstrap_servers: Annotated[tuple[str, ...], BeforeValidator(_split_servers)] = Field(
        default=("localhost:9092",), min_length=1
    )
    """Brokers to ask first, each `host:port`; a list, or one string with commas. The rest are learned from them."""

    group_id: str = Field(default="streamd", min_length=1)
    """The consumer group. Processes with one group_id share the partitions; another group_id watches all again."""

    client_id: str = Field(default="streamd", min_length=1)
    """How this process calls itself in the broker's logs and quotas."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """SSL encrypts, SASL authenticates."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """How to authenticate, with SASL_PLAINTEXT and SASL_SSL."""

    sasl_username: str | None = None
    """For PLAIN and SCRAM."""

    sasl_password: SecretStr | None = None
    """For PLAIN and SCRAM: `${file:/run/secrets/kafka}` or `${env:KAFKA_PASSWORD}` keeps it out of this file."""

    oauth: OauthSettings = OauthSettings()
    """For OAUTHBEARER."""

    ssl_cafile: Path | None = None
    """PEM file of the authorities that may sign the broker's certificate; null: those of the system."""

    ssl_certfile: Path | None = None
    """PEM file of this client's certificate, where the broker asks for one."""

    ssl_keyfile: Path | None = None
    """PEM file of that certificate's private key; null: it is in ssl_certfile."""

    ssl_key_password: SecretStr | None = None
    """Of the private key, when it is encrypted."""

    ssl_check_hostname: bool = True
    """Refuse a certificate that was made for another host. Turning it off lets anybody in the middle read along."""

    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where a group without committed offsets starts: earliest, since references stand at a topic's beginning."""

    on_offset_loss: Literal["stop", "earliest", "latest"] = "stop"
    """What to do when retention has removed records that were not judged yet: `stop` and say so, since nobody else
    would notice; go on with the `earliest` that is left, or with the `latest`."""

    session_timeout_ms: int = Field(default=10_000, ge=1_000)
    """A silent process loses its partitions after this: how long they stand still when one dies."""

    heartbeat_interval_ms: int = Field(default=3_000, ge=100)
    """At most a third of session_timeout_ms, so that two lost heartbeats do not cost the partitions."""

    max_poll_interval_ms: int = Field(default=300_000, ge=1_000)
    """A process that does not poll for so long loses its partitions, heartbeats or not."""

    max_poll_records: int = Field(default=64, ge=1)
    """Records that are judged and delivered together: fewer bound the latency, more raise the throughput."""

    poll_timeout_ms: int = Field(default=100, ge=1, le=250)
    """How long one poll waits for records. At most 250: a poll cannot be woken, and stopping waits for it."""

    fetch_min_bytes: int = Field(default=1, ge=1)
    """What the broker collects before it answers: 1 answers at once."""

    fetch_max_wait_ms: int = Field(default=500, ge=1)
    """How long the broker waits for fetch_min_bytes."""

    fetch_max_bytes: int = Field(default=50 * 1024 * 1024, ge=1024)
    """Of one answer: bounds the memory of what has been fetched and not yet judged."""

    max_partition_fetch_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Of one answer and partition: some 25 JSON batches of 256 rows × 32 features. A larger record still arrives."""

    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """`exactly_once` makes each delivery one transaction, which takes a few milliseconds. `at_least_once` writes the
    records and then the offsets: after a crash in between, the records are written again, with the same ids."""

    assignor: Literal["cooperative", "eager"] = "cooperative"
    """`cooperative` moves only the partitions that must move; `eager` for groups that mix with older clients."""

    request_timeout_ms: int = Field(default=30_000, ge=1_000)
    """The consumer's patience with one answer of the broker."""

    producer_request_timeout_ms: int = Field(default=4_000, ge=100)
    """The producer's; below delivery_timeout_ms, so that one lost answer leaves time for another attempt."""

    delivery_timeout_ms: int = Field(default=8_000, ge=100)
    """When an alert that cannot be written counts as failed; below transaction_timeout_ms."""

    transaction_timeout_ms: int = Field(default=10_000, ge=1_000)
    """The broker aborts a dead process's transaction after this; until then it holds back every careful reader."""

    retry_backoff_ms: int = Field(default=5, ge=1)
    """Wait between two attempts. 100, as is usual, makes each transaction wait for the markers of the last one."""

    create_topics: bool = True
    """Make the topics that are missing; false: refuse to start without them."""

    partitions: int = Field(default=4, ge=1)
    """Of topics that are made here: the most processes that can share the work. It cannot be lowered later."""

    replication_factor: int = Field(default=-1, ge=-1)
    """Of topics that are made here; -1: the broker's default."""

    @field_validator("bootstrap_servers")
    @classmethod
    def _have_ports(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            match = _HOST_AND_PORT.fullmatch(server)
            if match is None or not 0 < int(match[1]) < 65536:
                raise ValueError(f"each server is host:port, such as localhost:9092; {server!r} is not")
        return servers

    @field_validator(*_BOUNDS)
    @classmethod
    def _in_bounds(cls, value: int, info: ValidationInfo) -> int:
        words, other_name, holds = _BOUNDS[str(info.field_name)]
        other = info.data.get(other_name)  # absent: it is wrong itself, and is reported as that
        if other is not None and not holds(value, other):
            raise ValueError(f"must be {words} {other_name} ({other}), is {value}")
        return value

    @field_validator("replication_factor")
    @classmethod
    def _some_replica(cls, factor: int) -> int:
        if factor == 0:
            raise ValueError("must be at least 1, or -1 for the broker's default")
        return factor

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        problem = self._credential_problem()
        if problem:
            raise ValueError(problem)
        return self

    def _credential_problem(self) -> str | None:
        """What is missing or too much among the credentials."""
        protocol = self.security_protocol
        if not protocol.startswith("SASL"):
            if self.sasl_mechanism is not None:
                return f"sasl_mechanism needs security_protocol SASL_SSL or SASL_PLAINTEXT, not {protocol}"
            if self.sasl_password is not None:
                return f"sasl_password needs security_protocol SASL_SSL or SASL_PLAINTEXT, not {protocol}"
        elif self.sasl_mechanism is None:
            return f"security_protocol {protocol} needs a sasl_mechanism"
        elif self.sasl_mechanism == "OAUTHBEARER":
            if not self.oauth.sources:
                return "sasl_mechanism OAUTHBEARER needs one of oauth.token, oauth.token_file and oauth.token_url"
        elif self.sasl_username is None or self.sasl_password is None:
            return f"sasl_mechanism {self.sasl_mechanism} needs sasl_username and sasl_password"
        if self.ssl_certfile is None and self.ssl_keyfile is not None:
            return "ssl_keyfile needs ssl_certfile"
        return None


class TopicSettings(Settings):
    """The names of the topics. Those of one group must differ from each other."""

    features: TopicName = "streamd.features"
    """Feature batches with predictions, and references: input."""

    telemetry: TopicName = "streamd.telemetry"
    """What training runs measure: input."""

    alerts: TopicName = "streamd.alerts"
    """What was found: output."""

    control: TopicName = "streamd.control"
    """Commands, what should be done about it: output."""

    dlq: TopicName = "streamd.dlq"
    """Records that could not be used, byte for byte, and why: output."""

    state: TopicName = "streamd.state"
    """Snapshots, compacted, private to streamd."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        names = Counter(self.model_dump().values())
        for name, count in names.items():
            if count > 1:
                users = [key for key, value in self if value == name]
                raise ValueError(f"{' and '.join(users)} must be different topics, all are {name!r}")
        return self
