"""Sends records back to where they came from, each acknowledged and counted: what `streamd dlq replay` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from streamd.transport import kafka_auth
from streamd.transport.base import Outgoing, RecordTooLargeError
from streamd.transport.kafka_producer import _NULL, ProducerThread, _Producer, _producer_options
from streamd.transport.settings import KafkaSettings

Addressed = tuple[Outgoing, int]
"""A record, and the partition that it came from."""


class Resender:
    """Owned by one thread; the producer has its own, with a deadline for each call.

    Attributes:
        acknowledged: how many records are surely in their topics; also right after an error or Ctrl-C.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._flush_seconds = settings.delivery_timeout_ms / 1000 + 1
        self._deadline_seconds = kafka_auth.REACH_SECONDS + kafka_auth.BOOTSTRAP_SECONDS + 2 * self._flush_seconds
        self._producer = ProducerThread(lambda: kafka_auth.build(_Producer, settings, **_producer_options(settings)))
        self.acknowledged = 0

    def send(self, records: Sequence[Addressed], *, keep_partition: bool) -> None:
        """Return when every one is acknowledged.

        Args:
            keep_partition: to the partition of each, where the topic still has it: whoever wrote the record may have
                chosen it by a rule of his own, and a stream must stay on one partition. Else by key.

        Raises TransientError, or RecordTooLargeError when the topic takes no record of that size.
        """
        self._producer.run(lambda client: self._send_all(client, records, keep_partition), self._deadline_seconds)

    def close(self) -> None:
        """Wait a moment for what is on its way. Never raises."""
        self._producer.close()

    def _send_all(self, client: KafkaProducer, records: Sequence[Addressed], keep_partition: bool) -> None:
        pending: list[tuple[Outgoing, Any]] = []
        failure: Exception | None = None
        try:
            for record, partition in records:
                pending.append((record, _send(client, record, partition if keep_partition else None)))
        except Exception as error:
            failure = error
        client.flush(timeout=self._flush_seconds)
        for record, future in pending:
            if future.is_done and not future.failed():
                self.acknowledged += 1
            elif failure is None:
                failure = _failure(record, future)
        if failure is not None:
            raise failure


def _send(client: KafkaProducer, record: Outgoing, partition: int | None) -> Any:
    if partition is not None and partition not in client.partitions_for(record.topic):
        partition = None
    try:
        return client.send(
            record.topic,
            value=_NULL if record.value is None else record.value,
            key=record.key,
            # The client refuses a header that is null; an empty one is the nearest thing that it sends.
            headers=[(name, b"" if value is None else value) for name, value in record.headers],
            partition=partition,
            timestamp_ms=record.timestamp_ms,
        )
    except kafka_errors.MessageSizeTooLargeError as error:
        raise RecordTooLargeError(record, f"{record.topic}: {error}") from error


def _failure(record: Outgoing, future: Any) -> Exception:
    if not future.is_done:
        return kafka_errors.KafkaTimeoutError(f"{record.topic}: not acknowledged in time")  # type: ignore[no-any-return]
    if isinstance(future.exception, kafka_errors.MessageSizeTooLargeError):
        return RecordTooLargeError(record, f"{record.topic} takes no record of {len(record.value or b'')} bytes")
    return future.exception  # type: ignore[no-any-return]
