"""K1 to K9, what kafka-python gets wrong: a test for each guard, so that an upgrade shows which can go.

Where the client can be shown to be wrong without a broker, a second test does: when it turns red, the guard can go.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import kafka.producer.kafka
import pytest
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.base import MemberState
from kafka.future import Future
from kafka.producer.transaction_manager import (
    ProducerIdAndEpoch,
    TransactionalRequestResult,
    TransactionManager,
    TransactionState,
    TxnOffsetCommitHandler,
)
from kafka.protocol.producer import EndTxnRequest
from kafka.record.default_records import DefaultRecordBatch
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata
from members import quick_member, read_until

from streamd.errors import TransientError
from streamd.transport import kafka_auth, kafka_producer, kafka_transactions
from streamd.transport.base import Outgoing, Partition
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka_consumer import GroupConsumer
from streamd.transport.kafka_producer import ProducerThread, _producer_options, send_all
from streamd.transport.kafka_transactions import TransactionalProducer, TransactionalPublisher
from streamd.transport.settings import KafkaSettings

A, B = Partition("t", 0), Partition("t", 1)


class FakeFuture:
    def __init__(self, error: Exception | None = None, is_done: bool = True) -> None:
        self.exception = error
        self.is_done = is_done

    def failed(self) -> bool:
        return self.exception is not None


class FakeProducer:
    """Answers each record in turn with what it is told; keeps how much it held at most, and what was called."""

    unanswered = False
    call_seconds = 0.0

    def __init__(self, *answers: FakeFuture, **options: Any) -> None:
        self.answers = list(answers)
        self.options = options
        self.held_bytes = self.most_held_bytes = 0
        self.closed = False
        self.calls: list[str] = []
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self.fails_at = ""
        self.may_commit = threading.Event()
        self.may_commit.set()
        self._sender = SimpleNamespace(force_close=lambda: None)
        self._metadata = SimpleNamespace(cluster_id="a")

    def send(self, topic: str, *, value: bytes, **_: object) -> FakeFuture:
        self._called("send")
        self.held_bytes += len(value)
        self.most_held_bytes = max(self.most_held_bytes, self.held_bytes)
        return self.answers.pop(0) if self.answers else FakeFuture()

    def flush(self, timeout: float) -> None:
        """Returns normally, as the client's does, whatever became of the records."""
        self.held_bytes = 0

    def close(self, timeout: float) -> None:
        self.closed = True

    def init_transactions(self) -> None:
        self._called("init")

    def begin_transaction(self) -> None:
        self._called("begin")

    def send_offsets_to_transaction(self, offsets: Any, member: object) -> None:
        self._called("offsets")
        self.offsets = offsets

    def commit_transaction(self) -> None:
        self._called("commit")
        assert self.may_commit.wait(10)

    def try_to_abort(self) -> None:
        self._called("abort")

    def add_partitions(self, partitions: object) -> None: ...

    def abort_transaction(self) -> None:
        self._called("abort")

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if what == self.fails_at:
            raise kafka_errors.KafkaTimeoutError("no answer")


class FakeConsumer:
    """A member of the group that has everything; `marks` is what is committed."""

    def __init__(self) -> None:
        self.marks: dict[Partition, str] = {}
        self.asked: list[set[Partition]] = []

    def membership(self, partitions: object) -> object:
        return SimpleNamespace(group_id="g")

    def committed_metadata(self, partitions: set[Partition], timeout_seconds: float) -> dict[Partition, str]:
        self.asked.append(set(partitions))
        return {p: mark for p, mark in self.marks.items() if p in partitions}


class Bench:
    """A transactional publisher whose producers and consumer are fakes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.made: list[FakeProducer] = []
        self.prepare: Callable[[FakeProducer], None] = lambda producer: None
        self.consumer = FakeConsumer()
        self.publisher = TransactionalPublisher(KafkaSettings(**settings), self.consumer)  # type: ignore[arg-type]
        monkeypatch.setattr(kafka_transactions.kafka_auth, "build", self._build)

    def _build(self, factory: object, settings: object, **options: Any) -> FakeProducer:
        self.made.append(FakeProducer(**options))
        self.prepare(self.made[-1])
        return self.made[-1]

    def deliver(self, **offsets: int) -> None:
        places = {Partition("t", int(name[1:])): offset for name, offset in offsets.items()}
        self.publisher.deliver([Outgoing("out", None, b"v")], places)

    def fail(self, at: str, **offsets: int) -> None:
        """A delivery that fails at a call of its producer, which is the next one that is made, or the last."""

        def prepare(producer: FakeProducer) -> None:
            producer.fails_at = at
            self.prepare = lambda _: None

        if self.made and not self.made[-1].closed:
            self.made[-1].fails_at = at
        else:
            self.prepare = prepare
        with pytest.raises(TransientError, match="no answer"):
            self.deliver(**offsets)

    @property
    def mark(self) -> str:
        """Of the last offsets that were sent."""
        return next(iter(p for p in reversed(self.made) if p.offsets)).offsets[TopicPartition("t", 0)].metadata


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(monkeypatch)
    yield bench
    bench.publisher.close()


def _some(count: int, size: int = 1) -> list[Outgoing]:
    return [Outgoing("t", None, bytes(size)) for _ in range(count)]


# --- K1: a record that was lost is committed with the rest -------------------------------------------


def test_k1_a_record_that_failed_is_an_error_although_flush_returns_normally() -> None:
    lost = kafka_errors.KafkaTimeoutError("lost")
    producer = FakeProducer(FakeFuture(None), FakeFuture(lost), FakeFuture(None))
    with pytest.raises(kafka_errors.KafkaTimeoutError, match="lost"):
        send_all(producer, _some(3), 1.0)


def test_k1_a_record_that_has_no_answer_yet_is_an_error() -> None:
    with pytest.raises(kafka_errors.KafkaTimeoutError, match="not acknowledged"):
        send_all(FakeProducer(FakeFuture(None, is_done=False)), _some(1), 1.0)


def test_k1_a_transaction_with_a_record_that_failed_is_aborted_and_never_committed(bench: Bench) -> None:
    bench.prepare = lambda producer: producer.answers.append(FakeFuture(kafka_errors.KafkaTimeoutError("lost")))
    with pytest.raises(TransientError, match="lost"):
        bench.deliver(p0=5)
    assert bench.made[0].calls == ["init", "begin", "send", "abort"]
    assert bench.made[0].closed


# --- K2: offsets of a failed transaction go out with the next ----------------------------------------


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


@pytest.mark.parametrize("at", ["begin", "send", "offsets", "commit"])
def test_k2_after_a_failure_anywhere_a_new_producer_with_the_same_transactional_id_goes_on(
    bench: Bench, at: str
) -> None:
    bench.fail(at, p0=5)
    assert bench.made[0].closed
    bench.deliver(p0=5)
    first, second = bench.made
    assert first.options["transactional_id"] == second.options["transactional_id"]
    swept = ["begin", "offsets", "abort"]
    assert second.calls == ["init", *swept, "begin", "send", "offsets", "commit"]


def _manager(state: TransactionState = TransactionState.IN_TRANSACTION) -> TransactionManager:
    """The client's own, as after `begin_transaction`."""
    manager = TransactionManager("id", 10_000, api_version=(3, 9))
    manager.producer_id_and_epoch = ProducerIdAndEpoch(1, 7)
    manager._current_state = state
    return manager


def test_k2_the_client_keeps_the_offsets_that_the_group_has_refused() -> None:
    manager = _manager()
    manager._pending_txn_offset_commits[TopicPartition(*A)] = OffsetAndMetadata(5, "", -1)
    member = ConsumerGroupMetadata("g", 3, "member", None)
    handler = TxnOffsetCommitHandler(manager, member, manager._pending_txn_offset_commits, TransactionalRequestResult())
    handler.handle_response(SimpleNamespace(topics=[("t", [(0, kafka_errors.IllegalGenerationError.errno)])]))
    assert handler.result.failed
    assert manager._pending_txn_offset_commits, "mended: the guard of K2 may go"


# --- K3: a commit that is reported and was an abort --------------------------------------------------


def _producer(manager: TransactionManager) -> TransactionalProducer:
    """Ours, around the client's own transaction manager and no connection."""
    producer = object.__new__(TransactionalProducer)
    producer.unanswered = False
    producer._transaction_manager = manager
    producer._sender = SimpleNamespace(wakeup=lambda: None)
    return producer


def test_k3_a_transaction_in_which_the_client_has_raised_its_epoch_is_not_committed() -> None:
    manager = _manager(TransactionState.READY)
    producer = _producer(manager)
    producer.begin_transaction()
    manager.bump_producer_id_and_epoch()
    manager.set_producer_id_and_epoch(ProducerIdAndEpoch(1, 8))  # the broker's answer, which has aborted
    manager._complete_epoch_bump()
    with pytest.raises(kafka_errors.KafkaError, match="has left its transaction"):
        producer.commit_transaction()


def test_k3_a_commit_after_which_the_epoch_is_another_is_an_error() -> None:
    manager = _manager(TransactionState.READY)
    producer = _producer(manager)

    def raise_epoch() -> None:
        manager.producer_id_and_epoch = ProducerIdAndEpoch(1, 8)
        for _, _, request in manager._pending_requests:
            request.result.done()

    producer.begin_transaction()
    producer._sender.wakeup = raise_epoch
    with pytest.raises(kafka_errors.KafkaError, match="has left its transaction"):
        producer.commit_transaction()


# --- K4: calls that never return ---------------------------------------------------------------------


def test_k4_a_commit_and_offsets_without_an_answer_end_at_their_deadline() -> None:
    for call in (
        lambda producer: producer.commit_transaction(),
        lambda producer: producer.send_offsets_to_transaction({}, ConsumerGroupMetadata("g", 3, "member", None)),
    ):
        producer = _producer(_manager(TransactionState.READY))
        producer.call_seconds = 0.01
        producer.begin_transaction()
        with pytest.raises(kafka_errors.KafkaTimeoutError, match="did not answer"):
            call(producer)


def test_k4_an_abort_without_an_answer_is_given_up_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_transactions, "_ABORT_SECONDS", 0.01)
    manager = _manager()
    _producer(manager).try_to_abort()
    assert manager.is_aborting()
    _producer(manager).try_to_abort()  # nor where there is nothing to abort


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


def test_k4_a_job_that_was_given_up_while_its_producer_was_made_never_begins() -> None:
    """Its producer has the newest epoch: it could commit a second time what has been repeated meanwhile."""
    may_build, made, ran = threading.Event(), deque[FakeProducer](), []

    def build() -> FakeProducer:
        assert may_build.wait(10)
        made.append(FakeProducer())
        return made[-1]

    thread = ProducerThread(build)
    with pytest.raises(TransientError, match="outcome unknown"):
        thread.run(lambda producer: ran.append("given up"), 0.05)
    abandoned = next(t for t in threading.enumerate() if t.name == "streamd-producer")
    may_build.set()
    abandoned.join(10)
    assert [producer.closed for producer in made] == [True]
    thread.run(lambda producer: ran.append("next"), 5.0)
    thread.close()
    assert ran == ["next"]


def test_k4_a_transaction_past_its_deadline_is_in_doubt_and_what_was_committed_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, transaction_timeout_ms=1_000, delivery_timeout_ms=500, producer_request_timeout_ms=200)
    bench.publisher._deadline_seconds = 0.05
    bench.prepare = lambda producer: producer.may_commit.clear()
    with pytest.raises(TransientError, match="outcome unknown"):
        bench.deliver(p0=5)
    bench.prepare = lambda producer: None
    bench.consumer.marks = {A: bench.mark}
    bench.deliver(p0=5)
    first, second = bench.made
    assert second.calls == ["init"]
    first.may_commit.set()
    bench.publisher.close()


# --- What is done about an outcome that nobody knows (K2, K3, K4 lead here) ---------------------------


def test_a_transaction_in_doubt_that_was_not_committed_is_sent_again_with_another_mark(bench: Bench) -> None:
    bench.fail("commit", p0=5, p1=6)
    first_mark = bench.mark
    bench.consumer.marks = {A: "another's", B: "another's"}
    bench.deliver(p0=5, p1=6)
    assert bench.consumer.asked == [{A, B}]
    assert bench.made[1].calls[-1] == "commit"
    assert bench.mark != first_mark


def test_one_offset_with_the_mark_proves_the_whole_transaction(bench: Bench) -> None:
    bench.fail("commit", p0=5, p1=6)
    bench.consumer.marks = {A: "the next owner's", B: bench.mark}
    bench.deliver(p0=5, p1=6)
    assert bench.made[1].calls == ["init"]


def test_a_doubt_outlives_a_second_failure_before_it_is_settled(bench: Bench) -> None:
    bench.fail("commit", p0=5)
    bench.fail("init", p0=5)
    bench.consumer.marks = {A: bench.mark}
    bench.deliver(p0=5)
    assert "begin" not in bench.made[-1].calls


def test_the_mark_of_a_partition_that_was_revoked_decides_nothing(bench: Bench) -> None:
    bench.fail("commit", p0=5)
    bench.publisher.forget([A])
    bench.consumer.marks = {A: bench.mark}
    bench.deliver(p0=5)  # assigned again, and a tick had an effect at the same place
    assert bench.made[1].calls[-1] == "commit"


def test_other_work_after_a_doubt_is_delivered_without_asking(bench: Bench) -> None:
    bench.fail("commit", p0=5)
    bench.consumer.marks = {A: bench.mark}
    bench.deliver(p0=7)
    assert bench.made[1].calls[-1] == "commit"


def test_a_producer_with_a_transactional_request_that_was_not_answered_is_used_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.deliver(p0=5)
    first = bench.made[0]
    monkeypatch.setattr(first, "commit_transaction", lambda: setattr(first, "unanswered", True))
    bench.deliver(p0=6)  # the client's second attempt was answered
    assert first.closed
    bench.deliver(p0=7)
    assert bench.made[1].calls == ["init", "begin", "send", "offsets", "commit"]
    assert bench.consumer.asked == []


def test_a_request_without_an_answer_is_noted_where_a_late_one_does_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    futures: list[Future] = []

    def send(node: int, request: object) -> Future:
        futures.append(Future())
        return futures[-1]

    client = SimpleNamespace(send=send)
    sender = SimpleNamespace(_client=client)
    monkeypatch.setattr(kafka_transactions._Producer, "__init__", lambda self: setattr(self, "_sender", sender))
    producer = TransactionalProducer()
    for request in (EndTxnRequest(), object(), EndTxnRequest()):
        client.send(0, request)
    futures[0].success(None)
    futures[1].failure(kafka_errors.KafkaConnectionError())
    assert not producer.unanswered
    futures[2].failure(kafka_errors.KafkaConnectionError())
    assert producer.unanswered


def test_two_publishers_never_share_a_transactional_id() -> None:
    ids = {TransactionalPublisher(KafkaSettings(), FakeConsumer())._options["transactional_id"] for _ in range(2)}  # type: ignore[arg-type]
    assert len(ids) == 2
    assert all(each.startswith("streamd-") for each in ids)


# --- K5: a batch that cannot be unpacked makes the client spin ---------------------------------------


@pytest.mark.broker
@pytest.mark.slow
def test_k5_a_batch_with_a_wrong_checksum_is_passed_over_once_and_the_rest_arrives(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, topic = quick_member(embedded_broker, delivery="at_least_once")  # offsets of records alone
    for values in ((b"0", b"1"), (b"2", b"3", b"4"), (b"5",)):
        transport.deliver([Outgoing(topic, b"k", value) for value in values], {})
    valid = DefaultRecordBatch.validate_crc
    damaged = [2]

    def validate(batch: Any) -> bool:
        return batch.base_offset not in damaged and valid(batch)

    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", validate)
    records, skipped = read_until(transport, b"5")
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
    transport, topic = quick_member(embedded_broker, delivery="at_least_once")
    transport.deliver([Outgoing(topic, b"k", b"0"), Outgoing(topic, b"k", b"1")], {})
    answers = iter([False])
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda batch: next(answers, True))
    records, skipped = read_until(transport, b"1")
    assert ([r.value for r in records], skipped) == ([b"0", b"1"], [])
    transport.close()


# --- K6: the log goes dead ---------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_k6_the_clients_log_still_speaks_after_a_producer_was_discarded(
    embedded_broker: EmbeddedBroker, delivery: str
) -> None:
    gc.collect()  # producers of other tests, whose finaliser does what this test is about
    kafka.producer.kafka.log = logging.getLogger("kafka.producer.kafka")
    transport, topic = quick_member(embedded_broker, delivery=delivery)
    transport.deliver([Outgoing(topic, b"k", b"v")], {})
    transport.close()
    del transport
    gc.collect()
    assert isinstance(kafka.producer.kafka.log, logging.Logger)


# --- K7: a revocation is told late, with the generation new already ----------------------------------


class FakeClient:
    """What `GroupConsumer.membership` sees of the client."""

    def __init__(self) -> None:
        self.show(7)

    def show(self, generation: int, member: str = "one", state: MemberState = MemberState.STABLE) -> None:
        self._member = ConsumerGroupMetadata("g", generation, member, None, state)

    def group_metadata(self) -> ConsumerGroupMetadata:
        return self._member

    def close(self, **_: object) -> None: ...


@pytest.fixture
def member() -> tuple[GroupConsumer, FakeClient]:
    """A member that was given A and B in generation 7."""
    consumer, client = GroupConsumer(KafkaSettings(), ["t"]), FakeClient()
    consumer._consumer = client
    consumer._note_member()
    consumer._reported = {A: 0, B: 0}
    consumer._known_as = {A: "one", B: "one"}
    return consumer, client


def test_k7_what_the_client_has_given_up_is_refused_before_the_caller_knows(
    member: tuple[GroupConsumer, FakeClient],
) -> None:
    consumer, client = member
    client.show(8)
    consumer._events.append(("revoked", frozenset({TopicPartition(*B)})))
    consumer._note_member()
    assert consumer.membership([A]).generation_id == 8
    with pytest.raises(TransientError, match="t/1: the group has taken it away"):
        consumer.membership([A, B])


def test_k7_a_generation_is_not_shown_before_it_is_known_what_it_gave_us(
    member: tuple[GroupConsumer, FakeClient],
) -> None:
    consumer, client = member
    client.show(8, state=MemberState.REBALANCING)
    consumer._note_member()
    assert consumer.membership([A, B]).generation_id == 7
    client.show(8)
    consumer._note_member()
    assert consumer.membership([A, B]).generation_id == 8


def test_k7_a_member_that_was_thrown_out_while_it_joined_begins_anew(
    member: tuple[GroupConsumer, FakeClient],
) -> None:
    consumer, client = member
    client.show(-1, "", MemberState.UNJOINED)
    consumer._note_member()
    assert consumer.membership([A]).member_id == "one"  # which the broker does not know any more
    client.show(9, "two")
    with pytest.raises(TransientError, match="joining anew"):
        consumer._note_member()
    with pytest.raises(TransientError):
        consumer.membership([A])


def test_k7_who_never_joined_has_nothing_to_show() -> None:
    """With an empty member id the broker would check nothing."""
    consumer = GroupConsumer(KafkaSettings(), ["t"])
    client = FakeClient()
    client.show(-1, "", MemberState.UNJOINED)
    consumer._consumer = client
    consumer._note_member()
    consumer._reported = {A: 0}
    with pytest.raises(TransientError, match="not a member"):
        consumer.membership([A])


# --- K8: the producer's buffer has no bound ----------------------------------------------------------


def test_k8_the_client_never_holds_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_producer, "_BUFFER_BYTES", 100)
    producer = FakeProducer()
    send_all(producer, _some(50, size=30), 1.0)
    assert producer.most_held_bytes == 90


# --- K9: a transaction after a transaction waits for the whole back-off ------------------------------


def test_k9_the_producer_waits_but_milliseconds_for_the_markers_of_the_last_transaction() -> None:
    assert _producer_options(KafkaSettings())["retry_backoff_ms"] == 5
    assert kafka_auth.client_options(KafkaSettings()).get("retry_backoff_ms") is None  # of no other client
