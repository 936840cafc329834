"""What `streamd doctor` finds out about a broker: sentences, in order, and the guarantee that follows from them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from streamd.errors import StreamdError, TransientError
from streamd.transport import kafka_auth, kafka_probe_cluster, kafka_probe_writes
from streamd.transport.settings import KafkaSettings, TopicSettings

_OLDEST = (2, 5)  # TxnOffsetCommit with the member's generation: KIP-447
_ROUND_TRIPS = 5
_SLOW_SECONDS = 0.05  # a transaction takes about four round trips


class Outcome(StrEnum):
    """Fine; works, and should be looked at; must be mended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


Subject = Literal["reach", "login", "broker", "topics", "rights", "group", "clock", "transactions", "guarantee"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, as a sentence that says what to do where something is to be done."""

    subject: Subject
    outcome: Outcome
    sentence: str


class Guarantee(StrEnum):
    """What streamd can promise on this broker."""

    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of the examination."""

    guarantee: Guarantee
    finding: Finding


def examine(settings: KafkaSettings, topics: TopicSettings, write: bool) -> Generator[Finding | Verdict, None, None]:
    """Look at one thing after the other; the Verdict comes last, and not at all when the broker cannot be used.

    Nothing that is there is changed. With `write` a topic of its own is made, written to, and deleted.
    """
    servers = ", ".join(settings.bootstrap_servers)
    try:
        kafka_auth.reach(settings)
        admin = kafka_auth.build(KafkaAdminClient, settings, request_timeout_ms=15_000)
    except TransientError as error:
        yield Finding("reach", Outcome.PROBLEM, f"{error}; is the address right, and the broker up?")
        return
    except StreamdError as error:  # ConfigError: it answers, and does not want us
        yield Finding("reach", Outcome.OK, f"{servers} answers ({settings.security_protocol})")
        yield Finding("login", Outcome.PROBLEM, str(error))
        return
    try:
        yield _reached(admin, servers, settings)
        yield Finding("login", Outcome.OK, _login(settings))
        yield from _cluster(admin, settings, topics)
        promises = None
        if write:
            with closing(kafka_probe_writes.experiment(admin, settings, topics)) as experiment:
                for found in experiment:
                    if isinstance(found, kafka_probe_writes.Promises):
                        promises = found
                    else:
                        yield Finding(found[0], Outcome(found[1]), found[2])
        yield verdict(promises, write)
    except kafka_errors.KafkaError as error:
        yield Finding(
            "reach", Outcome.PROBLEM, f"the broker stopped answering: {kafka_auth.explained(error, settings)}"
        )
    finally:
        admin.close()


def verdict(promises: kafka_probe_writes.Promises | None, write: bool) -> Verdict:
    """The guarantee, and why, in a sentence."""
    broken = [words for kept, words in zip(promises or (), kafka_probe_writes.BROKEN, strict=False) if kept is False]
    if promises is not None and promises.drops_offsets is False:
        sentence = f"none: {' and '.join(broken)}; use Apache Kafka 2.5 or newer"
        return Verdict(Guarantee.NONE, Finding("guarantee", Outcome.PROBLEM, sentence))
    if broken:
        sentence = (
            f"at least once only: {' and '.join(broken)}. With kafka.delivery = at_least_once nothing is lost; after a "
            "crash or a rebalance an alert may come twice, with the same id (with transactions, a partition may stop "
            "for good). For exactly once use Apache Kafka 2.5 or newer"
        )
        return Verdict(Guarantee.AT_LEAST_ONCE, Finding("guarantee", Outcome.PROBLEM, sentence))
    if promises is None or None in promises:
        why = "the experiments could not be made" if write else "--no-write leaves the experiments out"
        sentence = f"not known: {why}; what a broker keeps of its promises only a write can tell"
        return Verdict(Guarantee.UNKNOWN, Finding("guarantee", Outcome.WARNING, sentence))
    sentence = (
        "exactly once: alerts, snapshots and offsets become visible together or not at all "
        "to whoever reads with read_committed"
    )
    return Verdict(Guarantee.EXACTLY_ONCE, Finding("guarantee", Outcome.OK, sentence))


def _reached(admin: Any, servers: str, settings: KafkaSettings) -> Finding:
    trips = []
    for _ in range(_ROUND_TRIPS):
        started = time.monotonic()
        admin.describe_cluster()
        trips.append(time.monotonic() - started)
    best = min(trips)
    sentence = f"{servers} answers in {1000 * best:.1f} ms ({settings.security_protocol})"
    if best > _SLOW_SECONDS:
        sentence += "; a transaction takes about four such trips: run streamd nearer to the broker"
    return Finding("reach", Outcome.WARNING if best > _SLOW_SECONDS else Outcome.OK, sentence)


def _login(settings: KafkaSettings) -> str:
    if settings.sasl_mechanism is None:
        how = "with a client certificate" if settings.ssl_certfile else "and no login is asked for"
        return f"let in, {how}"
    return f"let in as {settings.sasl_username or 'the owner of the token'} ({settings.sasl_mechanism})"


def _cluster(admin: Any, settings: KafkaSettings, topics: TopicSettings) -> Iterator[Finding]:
    cluster = admin.describe_cluster()
    version = admin._manager.broker_version
    brokers = len(cluster["brokers"])
    sentence = (
        f"{brokers} broker{'' if brokers == 1 else 's'}, protocol of Kafka {'.'.join(map(str, version))}, "
        f"cluster {cluster['cluster_id']}"
    )
    if version < _OLDEST:
        sentence += "; streamd needs 2.5 or newer, where a transaction knows the group's generation (KIP-447)"
    yield Finding("broker", Outcome.OK if version >= _OLDEST else Outcome.PROBLEM, sentence)
    for found in kafka_probe_cluster.look(admin, settings, topics, brokers):
        yield Finding(found[0], Outcome(found[1]), found[2])
