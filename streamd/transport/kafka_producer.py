"""The publishing half of the Kafka transport: a producer on a thread of its own, and the at-least-once publisher."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.serializer import Serializer

from streamd.errors import ConfigError, TransientError
from streamd.transport import kafka_auth
from streamd.transport.base import Outgoing, Partition, RecordTooLargeError
from streamd.transport.kafka_consumer import GroupConsumer
from streamd.transport.kafka_state import partition_of
from streamd.transport.settings import KafkaSettings

_log = logging.getLogger(__name__)

_BUFFER_BYTES = 16 * 1024 * 1024  # K8: the client's own buffer has no bound
_REQUEST_BYTES_MAX = 64 * 1024 * 1024  # the broker's own limit decides, not the client's 1 MB
_COMMIT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0

_T = TypeVar("_T")


class Publisher(Protocol):
    """How records and offsets become durable together: `kafka.delivery` says which one."""

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        """See Transport.deliver."""

    def forget(self, partitions: Collection[Partition]) -> None:
        """They were revoked: what became of their last delivery is nobody's business here any more."""

    def close(self) -> None: ...


class AtLeastOncePublisher:
    """Writes the records, makes sure of every one of them, and only then commits the offsets.

    After a failure between the two the records are written again. Offsets of a partition that was taken away in the
    meantime are left alone, without an error.
    """

    def __init__(self, settings: KafkaSettings, consumer: GroupConsumer) -> None:
        self._consumer = consumer
        self._producer = ProducerThread(lambda: kafka_auth.build(_Producer, settings, **_producer_options(settings)))
        self._flush_seconds = settings.delivery_timeout_ms / 1000 + 1
        # Waiting for a topic's metadata and then for the records may each take a delivery timeout.
        self._deadline_seconds = kafka_auth.REACH_SECONDS + kafka_auth.BOOTSTRAP_SECONDS + 2 * self._flush_seconds

    def deliver(self, outgoing: Sequence[Outgoing], offsets: Mapping[Partition, int]) -> None:
        """See Transport.deliver."""
        if outgoing:
            self._producer.run(lambda client: send_all(client, outgoing, self._flush_seconds), self._deadline_seconds)
        if offsets:
            self._consumer.commit(offsets, _COMMIT_SECONDS)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Nothing: the next delivery does not depend on the last one."""

    def close(self) -> None:
        self._producer.close()


def send_all(producer: KafkaProducer, outgoing: Sequence[Outgoing], flush_seconds: float) -> None:
    """Send every record and return when each is acknowledged; at most 16 MB are in the client's hands at a time.

    Raises RecordTooLargeError, or whatever the first record that failed has to say: `flush` alone hides it (K1).
    """
    pending: list[tuple[Outgoing, Any]] = []
    pending_bytes = 0
    for record in outgoing:
        size = len(record.key or b"") + len(record.value or b"")
        if pending and pending_bytes + size > _BUFFER_BYTES:
            _settle(producer, pending, flush_seconds)
            pending, pending_bytes = [], 0
        try:
            pending.append((record, _send(producer, record)))
        except kafka_errors.MessageSizeTooLargeError as error:
            raise RecordTooLargeError(record, f"{record.topic}: {error}") from error
        pending_bytes += size
    _settle(producer, pending, flush_seconds)


def _send(producer: KafkaProducer, record: Outgoing) -> Any:
    partition: int | None = None  # by the key
    if record.placement is not None:
        partition = partition_of(record.placement, len(producer.partitions_for(record.topic)))
    return producer.send(
        record.topic,
        value=_NULL if record.value is None else record.value,
        key=record.key,
        # The client refuses a header that is null; an empty one is the nearest thing that it sends.
        headers=[(name, b"" if value is None else value) for name, value in record.headers],
        partition=partition,
        timestamp_ms=record.timestamp_ms,
    )


def _settle(producer: KafkaProducer, pending: Sequence[tuple[Outgoing, Any]], flush_seconds: float) -> None:
    producer.flush(timeout=flush_seconds)
    for record, future in pending:
        if not future.is_done:
            raise kafka_errors.KafkaTimeoutError(f"{record.topic}: not acknowledged within {flush_seconds:g} s")
        if isinstance(future.exception, kafka_errors.MessageSizeTooLargeError):
            raise RecordTooLargeError(record, f"{record.topic} takes no record of {len(record.value or b'')} bytes")
        if future.failed():
            raise future.exception


_NULL = object()


class _NullSerializer(Serializer):  # type: ignore[misc]  # kafka-python ships no types
    """Lets a record without key and value through, which the client refuses to send although Kafka takes it."""

    def serialize(self, topic: str, headers: object, data: object) -> Any:
        return None if data is _NULL else data


class _Producer(KafkaProducer):  # type: ignore[misc]  # kafka-python ships no types
    """K6: the client's own finaliser replaces its module's logger for the whole process."""

    def __del__(self) -> None:
        """Nothing: `_discard` has closed it."""


class ProducerThread:
    """Runs jobs, one at a time, on the one thread that owns the producer, each with a deadline (K4).

    After any failure the producer is discarded and the next job gets a new one (K2, K3). A job that outlives its
    deadline keeps its thread and producer for itself, and both are let go when it ends; where it was still waiting
    for its producer it does not begin.

    Args:
        build: makes a producer; called on that thread.
        is_spent: says after a job that went well whether the producer must be discarded all the same.
    """

    def __init__(
        self, build: Callable[[], KafkaProducer], is_spent: Callable[[KafkaProducer], bool] = lambda _: False
    ) -> None:
        self._build = build
        self._is_spent = is_spent
        self._worker: _Worker | None = None

    @property
    def ready(self) -> bool:
        """Whether the next job finds a producer, and none must be made for it."""
        return self._worker is not None and self._worker.producer is not None

    def run(self, job: Callable[[KafkaProducer], _T], timeout_seconds: float) -> _T:
        """What the job returns. Raises TransientError or RecordTooLargeError.

        After a timeout the outcome is unknown.
        """
        if self._worker is None:
            self._worker = _Worker(self._build, self._is_spent)
        answer: Future[_T] = Future()
        self._worker.jobs.put((job, answer))
        try:
            return answer.result(timeout_seconds)
        except (TransientError, RecordTooLargeError):
            raise
        except ConfigError as error:  # the consumer's login works: what is refused here may be mended while we run
            raise TransientError(str(error)) from error
        except TimeoutError as error:
            self._worker.abandon()
            self._worker = None
            raise TransientError(f"no word from the broker for {timeout_seconds:g} s: outcome unknown") from error
        except Exception as error:
            raise TransientError(f"not delivered: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let the producer go; waits a moment for a job that is still running. Never raises."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.jobs.put(None)
            worker.thread.join(_CLOSE_SECONDS)


class _Worker:
    """The thread and its producer. A daemon thread: one that is stuck must not hold the interpreter at exit."""

    def __init__(self, build: Callable[[], KafkaProducer], is_spent: Callable[[KafkaProducer], bool]) -> None:
        self.jobs: queue.SimpleQueue[tuple[Callable[[KafkaProducer], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._build = build
        self._is_spent = is_spent
        self.producer: KafkaProducer | None = None
        self._abandoned = False
        self.thread = threading.Thread(target=self._work, name="streamd-producer", daemon=True)
        self.thread.start()

    def abandon(self) -> None:
        """Called on another thread: end after the job under way, which need not succeed any more."""
        self._abandoned = True
        self.jobs.put(None)
        producer = self.producer
        if producer is not None:
            producer._sender.force_close()  # it would go on trying, and whoever waits for its flush would wait on

    def _work(self) -> None:
        while (item := self.jobs.get()) is not None:
            job, answer = item
            try:
                if self.producer is None:
                    self.producer = self._build()
                # A producer made after a successor was: it fences the successor, and its job was given up.
                if self._abandoned:
                    raise TransientError("given up")
                result = job(self.producer)
                if self._is_spent(self.producer):
                    self._let_go()
                answer.set_result(result)
                del result
            except BaseException as error:
                self._let_go()
                answer.set_exception(error)
            del item, job, answer  # an error holds frames, and they hold records
        self._let_go()

    def _let_go(self) -> None:
        producer, self.producer = self.producer, None
        _discard(producer)


def _discard(producer: KafkaProducer | None) -> None:
    """Close without waiting. The client's `close` gives up halfway when records are still unsent."""
    if producer is None:
        return
    try:
        producer.close(timeout=0)
    except Exception as error:
        _log.debug("closing a producer: %s", error)
        producer._sender.force_close()


def _producer_options(settings: KafkaSettings) -> dict[str, Any]:
    """Every default that matters, written out."""
    return {
        "acks": "all",
        "enable_idempotence": True,
        "value_serializer": _NullSerializer(),
        "delivery_timeout_ms": settings.delivery_timeout_ms,
        "request_timeout_ms": settings.producer_request_timeout_ms,
        "max_block_ms": settings.delivery_timeout_ms,  # to learn of a topic
        "retry_backoff_ms": settings.retry_backoff_ms,
        "max_request_size": _REQUEST_BYTES_MAX,
        "allow_auto_create_topics": False,
        "linger_ms": 0,  # everything is sent at once and flushed
        "metrics_enabled": False,  # streamd has its own
    }
