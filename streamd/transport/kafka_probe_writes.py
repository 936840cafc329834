"""The doctor's experiments: a topic of its own, transactions that are aborted, producers that should be fenced.

abort A, commit B ──▶ read_committed sees B alone?                (Tansu shows A too)
first producer, second of the same id ──▶ first can commit?       (it must not)
offsets of a member that the group never had ──▶ taken?           (they must not: KIP-447)
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from streamd.transport import kafka_auth
from streamd.transport.kafka_probe_cluster import Found, patiently
from streamd.transport.kafka_producer import _discard, _Producer, _producer_options
from streamd.transport.settings import KafkaSettings, TopicSettings

_DEADLINE_SECONDS = 30.0  # of all experiments together: the client's own transactional calls have none (K4)
_READ_SECONDS = 10.0
_CLOSE_SECONDS = 3.0
_SKEW_WARNING_SECONDS = 1.0
_SKEW_PROBLEM_SECONDS = 60.0  # event time, retention and "no batch for 5 minutes" are all wrong by so much
_SUFFIX = ".doctor-"


class Promises(NamedTuple):
    """Whether the broker keeps each of them; None: it could not be seen."""

    hides_aborted: bool | None = None
    fences: bool | None = None
    checks_generation: bool | None = None
    drops_offsets: bool | None = None


BROKEN = (
    "records of aborted transactions are visible to read_committed readers",
    "a producer that was replaced can still commit",
    "offsets of a process that has lost its partitions are taken",
    "offsets of aborted transactions are committed, so that records can be lost",
)
_KEPT = (
    "aborted records are hidden from read_committed",
    "a replaced producer is fenced",
    "offsets with a stale generation are refused",
    "aborted offsets are dropped",
)


Tell = Callable[[Found | Promises], None]


def experiment(admin: Any, settings: KafkaSettings, topics: TopicSettings) -> Generator[Found | Promises, None, None]:
    """Make a topic, try, delete it; what was found, and the Promises where it got so far.

    The topic is called after the state topic, so that rights on a prefix hold for it, and is deleted on Ctrl-C too.
    """
    prefix = topics.state[:220] + _SUFFIX
    left = sorted(name for name in admin.list_topics() if name.startswith(prefix))
    if left:
        yield Found(
            "topics", "warning", f"{', '.join(left)}: left by a doctor that was killed (or is at work); delete it"
        )
    topic = prefix + uuid.uuid4().hex[:8]
    try:
        refusal = _make(admin, settings, topic)
        if refusal:
            sentence = (
                f"cannot try: the broker refuses to make the topic {topic}: {refusal}; grant Create on the prefix"
            )
            yield Found("transactions", "warning", sentence)
            return
        yield from _in_time(lambda tell: _try(admin, settings, topic, tell))
    finally:
        with suppress(kafka_errors.KafkaError):
            admin.delete_topics([topic], timeout_ms=10_000, raise_errors=False)
        # Only a broker that takes offsets of a group that does not exist has such a group now.
        with suppress(kafka_errors.KafkaError, ValueError):
            admin.delete_groups([_group(settings, topic)])


def _make(admin: Any, settings: KafkaSettings, topic: str) -> str:
    """Why not; empty when it is there."""
    shape = {
        "num_partitions": 1,
        "replication_factor": settings.replication_factor,
        "configs": {"message.timestamp.type": "LogAppendTime", "retention.ms": "3600000"},
    }
    try:
        (made,) = admin.create_topics({topic: shape}, timeout_ms=10_000, raise_errors=False)["topics"]
        if made["error_code"]:
            return str(made.get("error_message") or kafka_errors.for_code(made["error_code"]).__name__)
        admin.wait_for_topics([topic])
    except kafka_errors.KafkaError as error:
        return str(error)
    return ""


def _in_time(job: Callable[[Tell], None]) -> Generator[Found | Promises, None, None]:
    """Run it on a thread that may hang without harm; what it tells, as it comes."""
    told: queue.SimpleQueue[Found | Promises | None] = queue.SimpleQueue()
    over = threading.Event()

    def tell(found: Found | Promises) -> None:
        if over.is_set():
            raise kafka_errors.KafkaError("nobody listens any more")
        told.put(found)

    def work() -> None:
        try:
            job(tell)
        except kafka_errors.KafkaError as error:
            told.put(Found("transactions", "problem", f"the experiment failed: {type(error).__name__}: {error}"))
        finally:
            told.put(None)

    thread = threading.Thread(target=work, name="streamd-doctor", daemon=True)
    thread.start()
    deadline = time.monotonic() + _DEADLINE_SECONDS
    try:
        while (found := told.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
            yield found
    except queue.Empty:
        late = f"no answer within {_DEADLINE_SECONDS:g} s: transactions do not work"
        yield Found("transactions", "problem", late)
    finally:  # after Ctrl-C it is in the midst of something, and its topic is about to be deleted
        over.set()
        thread.join(_CLOSE_SECONDS)


def _try(admin: Any, settings: KafkaSettings, topic: str, tell: Tell) -> None:
    transactional_id = f"{settings.group_id}-{topic.rpartition('.')[2]}"  # streamd's own begin with the group too
    made: list[Any] = []

    def producer() -> Any:
        made.append(
            kafka_auth.build(
                _Producer,
                settings,
                **_producer_options(settings)
                | {"transactional_id": transactional_id, "transaction_timeout_ms": settings.transaction_timeout_ms},
            )
        )
        patiently(made[-1].init_transactions)
        return made[-1]

    try:
        try:
            first = producer()
        except kafka_errors.TransactionalIdAuthorizationFailedError:
            sentence = f"transactional ids that begin with {settings.group_id}-: not allowed; grant Write on the prefix"
            tell(Found("rights", "problem", sentence))
            return
        tell(_skew(first, topic))
        hides = _hides_aborted(first, settings, topic)
        checks = _checks_generation(first, topic, _group(settings, topic))
        drops = _drops_offsets(first, admin, topic, _group(settings, topic))
        promises = Promises(hides, _fences(producer, topic), checks, drops)
        kept = [words for holds, words in zip(promises, _KEPT, strict=True) if holds]
        if kept:
            tell(Found("transactions", "ok", "; ".join(kept)))
        for holds, words in zip(promises, BROKEN, strict=True):
            if holds is not True:
                tell(
                    Found("transactions", "warning", words if holds is False else f"could not be seen: whether {words}")
                )
        tell(promises)
    finally:
        for each in made:
            _discard(each)


def _skew(producer: Any, topic: str) -> Found:
    """The broker's clock against ours, from the time that it stamps on a record."""
    producer.begin_transaction()
    best: tuple[float, float] | None = None  # round trip and skew in seconds, of the fastest
    for _ in range(3):
        before = time.time()
        sent = producer.send(topic, value=b"clock")
        producer.flush(timeout=5)
        after = time.time()
        stamp = sent.get(timeout=5).timestamp
        if stamp is not None and stamp >= 0 and (best is None or after - before < best[0]):
            best = (after - before, stamp / 1000 - (before + after) / 2)
    producer.abort_transaction()
    if best is None:
        return Found("clock", "warning", "the broker does not stamp records with its own time")
    trip, skew = best
    words = f"the broker's clock and this one agree within {max(abs(skew), trip / 2, 0.001) * 1000:.0f} ms"
    if abs(skew) <= _SKEW_WARNING_SECONDS:
        return Found("clock", "ok", words)
    ahead = "ahead of" if skew > 0 else "behind"
    return Found(
        "clock",
        "problem" if abs(skew) > _SKEW_PROBLEM_SECONDS else "warning",
        f"the broker's clock is {abs(skew):.1f} s {ahead} this one: run NTP on both, "
        "or silence and retention are judged wrong",
    )


def _hides_aborted(producer: Any, settings: KafkaSettings, topic: str) -> bool | None:
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        sent = producer.send(topic, value=value)
        producer.flush(timeout=5)
        sent.get(timeout=5)
        end()
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
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        values: set[bytes] = set()
        deadline = time.monotonic() + _READ_SECONDS
        while b"committed" not in values:
            if time.monotonic() > deadline:
                return None
            values.update(r.value for records in consumer.poll(timeout_ms=200).values() for r in records)
        return values == {b"committed"}
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


def _checks_generation(producer: Any, topic: str, group: str) -> bool:
    """A member that was never there commits offsets. The transaction is aborted either way."""
    member = ConsumerGroupMetadata(group, 7, "nobody", None)
    producer.begin_transaction()
    try:
        producer.send_offsets_to_transaction({TopicPartition(topic, 0): OffsetAndMetadata(1, "", -1)}, member)
    except (kafka_errors.CommitFailedError, kafka_errors.IllegalGenerationError, kafka_errors.UnknownMemberIdError):
        return True
    finally:
        producer.abort_transaction()
    return False


def _drops_offsets(producer: Any, admin: Any, topic: str, group: str) -> bool:
    """Somebody without a generation, which is allowed, sends offsets and aborts."""
    partition = TopicPartition(topic, 0)
    producer.begin_transaction()
    producer.send_offsets_to_transaction({partition: OffsetAndMetadata(1, "", -1)}, ConsumerGroupMetadata(group))
    producer.abort_transaction()
    committed = patiently(lambda: admin.list_group_offsets({group: [partition]}))[group]
    return partition not in committed or committed[partition].offset < 0


def _fences(producer: Callable[[], Any], topic: str) -> bool:
    """Two producers with one transactional id: the second must lock the first out, in the midst of its transaction."""
    old = producer()
    old.begin_transaction()
    old.send(topic, value=b"old").get(timeout=5)
    producer()
    try:
        sent = old.send(topic, value=b"old")
        old.flush(timeout=5)
        old.commit_transaction()
        return bool(sent.failed())
    except kafka_errors.KafkaError:
        return True


def _group(settings: KafkaSettings, topic: str) -> str:
    return f"{settings.group_id}{_SUFFIX}{topic[-8:]}"
