"""Exactly once: records and offsets as one Kafka transaction, and what to do when nobody says how it ended.

    deliver ──▶ in doubt? ──no──▶ begin, send all, offsets + our mark, every future checked, commit ──ok──▶ returns
                   │                                          │ anything else: the producer is thrown away,
                   │                                          ▼ the transaction is in doubt
                   └─yes─▶ a new producer with the same id: the broker ends what the old one left open
                           our mark at the committed offsets? ──yes──▶ it was committed: returns
                                                              ──no───▶ it never will be: swept, sent again

A transaction is visible whole or not at all, so one offset with its mark proves all of it.

Swept: a broker that aborts a transaction while a partition has no leader skips that partition for good, as if it had
been deleted. A lone broker that comes back after a transaction has timed out does it to all of them. The records stay
open there, and the next commit of the same producer would make them visible beside their repetition. An abort that
touches the same partitions ends them.
"""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from kafka.structs import OffsetAndMetadata

from streamd.transport import kafka_auth
from streamd.transport.base import Outgoing, Partition
from streamd.transport.kafka_consumer import GroupConsumer
from streamd.transport.kafka_producer import ProducerThread, _discard, _Producer, _producer_options, send_all
from streamd.transport.settings import KafkaSettings

_DEADLINE_SHARE = 0.9  # of transaction_timeout_ms: past that the broker ends the transaction by itself
_ABORT_SECONDS = 1.0  # so that careful readers need not wait; where it fails, the next producer does it
_COMMIT_SECONDS = 5.0  # of offsets alone, maybe through a rebalance
_MARKS_SECONDS = 2.0  # to read what was committed; where it fails, it is asked again with new connections
_BUILD_SLACK_SECONDS = 1.0
_LOOK_SECONDS = 0.001

_TRANSACTIONAL = (AddPartitionsToTxnRequest, AddOffsetsToTxnRequest, TxnOffsetCommitRequest, EndTxnRequest)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A transaction that may or may not have been committed.

    Attributes:
        mark: its metadata at the committed offsets.
        offsets: those of them that are still ours.
        transaction: what was tried.
    """

    mark: str
    offsets: Mapping[Partition, int]
    transaction: _Transaction


class TransactionalPublisher:
    """Delivers each call as one transaction. Owned by the thread that owns the consumer.

    The transactional id is this object's alone: two live producers with one id fence each other for ever. What
    keeps a process out that has lost its partitions is the group's generation (KIP-447).

    Args:
        settings: how to reach Kafka, and how long a transaction may take.
        consumer: whose offsets are committed.
    """

    def __init__(self, settings: KafkaSettings, consumer: GroupConsumer) -> None:
        self._consumer = consumer
        self._id = uuid.uuid4().hex
        self._options = _producer_options(settings) | {
            "transactional_id": f"{settings.group_id}-{_host()}-{self._id}",
            "transaction_timeout_ms": settings.transaction_timeout_ms,
        }
        self._deadline_seconds = settings.transaction_timeout_ms / 1000 * _DEADLINE_SHARE
        self._flush_seconds = min(settings.delivery_timeout_ms / 1000 + 1, self._deadline_seconds)
        # Connecting, and as long again as max_block_ms until the broker has ended what the last one left open.
        self._build_seconds = (
            kafka_auth.REACH_SECONDS
            + kafka_auth.BOOTSTRAP_SECONDS
            + settings.delivery_timeout_ms / 1000
            + _BUILD_SLACK_SECONDS
        )
        self._settings = settings
        self._producer = ProducerThread(self._build, is_spent=lambda producer: producer.unanswered)
        self._tansu = False
        self._count = 0
        self._doubt: _Doubt | None = None

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        """See Transport.deliver."""
        if not outgoing and not offsets:
            return
        member = self._consumer.membership(offsets.keys()) if offsets else None
        if not self._producer.ready:
            self._tansu = self._producer.run(_is_tansu, self._build_seconds)
        if self._doubt is not None:
            if self._was_committed(self._doubt, offsets):
                self._doubt = None
                return
            if not self._tansu:  # which has no aborts
                self._producer.run(self._doubt.transaction.sweep, self._deadline_seconds)
            self._doubt = None
        if self._tansu and not outgoing:
            self._consumer.commit(offsets, _COMMIT_SECONDS)
            return
        self._count += 1
        mark = f"{self._id}:{self._count}"
        transaction = _Transaction(outgoing, _marked(offsets, mark), member, self._flush_seconds)
        self._doubt = _Doubt(mark, dict(offsets), transaction)
        self._producer.run(transaction.run, self._deadline_seconds)
        self._doubt = None

    def forget(self, partitions: Collection[Partition]) -> None:
        """They were revoked: their next owner reads for itself how our last transaction ended."""
        if self._doubt is not None:
            left = {p: offset for p, offset in self._doubt.offsets.items() if p not in partitions}
            self._doubt = replace(self._doubt, offsets=left)

    def close(self) -> None:
        """Let the producer go. Never raises, bounded in time."""
        self._producer.close()

    def _was_committed(self, doubt: _Doubt, offsets: Mapping[Partition, int]) -> bool:
        """Whether the transaction in doubt made this delivery; called when a new producer has fenced the old one.

        All of its partitions are asked: one that was taken away without our knowing has another's mark by now.
        """
        repeated = {p for p, offset in offsets.items() if doubt.offsets.get(p) == offset}
        if not repeated:
            return False  # other work: that of the doubt was dropped with its partitions
        marks = self._consumer.committed_metadata(repeated, _MARKS_SECONDS)
        if doubt.mark not in marks.values():
            return False
        assert repeated == offsets.keys(), "a delivery that may have been made was repeated together with another"
        return True

    def _build(self) -> KafkaProducer:
        """A producer, initialised: the broker has ended what an earlier one with this id left open."""
        producer = kafka_auth.build(TransactionalProducer, self._settings, **self._options)
        producer.call_seconds = self._deadline_seconds
        try:
            producer.init_transactions()  # bounded by max_block_ms
        except BaseException:
            _discard(producer)
            raise
        return producer


class _Transaction:
    """One transaction, from its begin to its commit; runs on the producer's thread.

    Attributes:
        touched: the output partitions that the broker may think are part of it.
    """

    def __init__(
        self,
        outgoing: Sequence[Outgoing],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        member: Any,
        flush_seconds: float,
    ) -> None:
        self._outgoing = outgoing
        self._offsets = offsets
        self._member = member
        self._flush_seconds = flush_seconds
        self.touched: set[TopicPartition] = set()

    def run(self, producer: TransactionalProducer) -> None:
        """Returns when it is committed; whatever is raised, the producer must not be used again (K2, K3)."""
        producer.touched = self.touched
        producer.begin_transaction()
        try:
            send_all(producer, self._outgoing, self._flush_seconds)  # every future is checked: K1
            if self._offsets:
                producer.send_offsets_to_transaction(self._offsets, self._member)
            producer.commit_transaction()
        except BaseException:
            producer.try_to_abort()
            raise

    def sweep(self, producer: TransactionalProducer) -> None:
        """Abort it once more, with a new producer, on every partition that it touched. Raises KafkaError."""
        producer.begin_transaction()
        producer.add_partitions(self.touched.copy())
        if self._offsets:
            producer.send_offsets_to_transaction(self._offsets, self._member.group_id)  # unchecked: it commits nothing
        producer.abort_transaction()


class TransactionalProducer(_Producer):
    """kafka-python's, with an end to the calls that have none (K4), and wary of an answer that may be a lie (K3).

    Attributes:
        call_seconds: the longest that one call may take.
        unanswered: a transactional request was sent and not answered. The client has sent it again; the first one
            may be on its way still, and would act on the transaction that is open when it arrives (before KIP-890,
            which the client does not speak). Only a new producer's epoch stops it: use this one no more.
        touched: gathers the partitions that the transactions ask for.
    """

    call_seconds = 10.0

    def __init__(self, **configs: Any) -> None:
        self.unanswered = False
        self.touched: set[TopicPartition] = set()
        self._begun_as: Any = None
        super().__init__(**configs)
        client = self._sender._client
        send = client.send

        def send_watched(node_id: Any, request: Any, **more: Any) -> Any:
            future = send(node_id, request, **more)
            if isinstance(request, _TRANSACTIONAL):
                future.add_errback(self._note_unanswered)
            if isinstance(request, AddPartitionsToTxnRequest):
                self._note_touched(request)
            return future

        client.send = send_watched

    def begin_transaction(self) -> None:
        """Raises KafkaError where the producer is not fit for it."""
        super().begin_transaction()
        self._begun_as = self._transaction_manager.producer_id_and_epoch

    def send_offsets_to_transaction(self, offsets: Any, group_metadata: Any) -> None:
        """Raises KafkaTimeoutError past `call_seconds`, CommitFailedError where the group has moved on."""
        self._finish(self._transaction_manager.send_offsets_to_transaction(offsets, group_metadata), self.call_seconds)

    def commit_transaction(self) -> None:
        """Raises KafkaTimeoutError past `call_seconds`: then nobody knows."""
        self._check_epoch()
        self._finish(self._transaction_manager.begin_commit(), self.call_seconds)
        self._check_epoch()

    def add_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Make them part of the transaction, although nothing is sent to them."""
        manager = self._transaction_manager
        for partition in partitions:
            manager.maybe_add_partition_to_transaction(partition)
        self._sender.wakeup()
        deadline = time.monotonic() + self.call_seconds
        while not all(map(manager.is_partition_added, partitions)):
            manager._maybe_fail_with_error()
            if time.monotonic() > deadline:
                raise kafka_errors.KafkaTimeoutError(f"the broker did not answer within {self.call_seconds:g} s")
            time.sleep(_LOOK_SECONDS)

    def abort_transaction(self) -> None:
        """Raises KafkaTimeoutError past `call_seconds`."""
        self._finish(self._transaction_manager.begin_abort(), self.call_seconds)

    def try_to_abort(self) -> None:
        """Where there is something to abort and the broker answers at once. Never raises."""
        try:
            self._finish(self._transaction_manager.begin_abort(), _ABORT_SECONDS)
        except Exception:
            return

    def _finish(self, result: Any, timeout_seconds: float) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=timeout_seconds * 1000):
            raise kafka_errors.KafkaTimeoutError(f"the broker did not answer within {timeout_seconds:g} s")

    def _check_epoch(self) -> None:
        """K3: the client raises its epoch after some errors, which aborts, and then says that it has committed."""
        now = self._transaction_manager.producer_id_and_epoch
        if now != self._begun_as:
            raise kafka_errors.KafkaError(f"the client has left its transaction ({self._begun_as}, now {now})")

    def _note_unanswered(self, _: Exception) -> None:
        self.unanswered = True

    def _note_touched(self, request: Any) -> None:
        asked = request.v3_and_below_topics
        self.touched.update(TopicPartition(topic.name, number) for topic in asked for number in topic.partitions)


def _marked(offsets: Mapping[Partition, int], mark: str) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(*p): OffsetAndMetadata(offset, mark, -1) for p, offset in offsets.items()}


def _is_tansu(producer: TransactionalProducer) -> bool:
    """Tansu 0.6 loses the offsets of a transaction without records. It has no aborts either: nothing is exact there."""
    return str(producer._metadata.cluster_id).startswith("tansu")


def _host() -> str:
    """For people who look at the broker's list of transactional ids."""
    return re.sub(r"[^A-Za-z0-9._-]", "", socket.gethostname())[:60] or "host"
