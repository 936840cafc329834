"""FeatureProducer: sends an application's feature batches and predictions to streamd, and never makes it wait."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from streamd.client.arguments import Timestamp, check_rows, check_stream, epoch_ms, slice_rows
from streamd.client.courier import Courier, Sink
from streamd.client.outbox import Message, Outbox, Stats
from streamd.codec.encode import encode_features, encode_reset
from streamd.errors import TransientError
from streamd.model import Header

Format = Literal["json", "arrow"]

QUEUE_MAX_BYTES = 64 * 1024 * 1024  # some 400 JSON batches of 256 rows × 32 features
QUEUE_MAX_BATCHES = 10_000
_EXIT_SECONDS = 2.0  # an application that ends waits so long for what is still queued
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class FeatureProducer:
    """Sends feature batches to the daemon, keyed by stream, without ever delaying or failing the caller.

    `send` encodes the batch in the calling thread (0.1 to 0.5 ms for 256 rows × 32 features), so the arrays may be
    changed as soon as it returns, and puts the bytes into a bounded queue that a background thread empties. When
    the broker is slow or away the oldest batches are dropped and counted in `stats`: monitoring gives way, the
    application does not. Problems of delivery are logged once, to the logger `streamd.client`, and never raised.

    Threads may share one producer; it sends each stream's batches in the order of the calls. A process forked
    after the first `send` begins with an empty queue and a connection of its own: what was queued stays the
    parent's. What is queued at exit is given two seconds; `close` gives it more.

    Args:
        bootstrap_servers: `host:port`, several with commas or as a sequence.
        topic: where the daemon reads.
        format: `json`, or `arrow` (smaller and faster to read; needs pyarrow).
        queue_max_bytes: of keys, values and headers that wait or are in flight.
        queue_max_batches: likewise, their number.
        connect: makes what the batches go to, in place of Kafka; for tests.
        options: further options of kafka.KafkaProducer: security_protocol, ssl_cafile, sasl_mechanism,
            sasl_plain_username, compression_type, max_request_size, …

    Raises:
        TypeError, ValueError: an argument is not usable. Whether the broker is there is not looked at.

    Example:
        >>> from streamd.client import FeatureProducer
        >>> with FeatureProducer("localhost:9092") as producer:  # doctest: +SKIP
        ...     producer.send("fraud/7", {"amount": [12.5, 3.0], "country": ["DE", "FR"]}, logits=[[0.1, 2.3], [1, -1]])
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topic: str = "streamd.features",
        *,
        format: Format = "json",
        queue_max_bytes: int = QUEUE_MAX_BYTES,
        queue_max_batches: int = QUEUE_MAX_BATCHES,
        connect: Callable[[], Sink] | None = None,
        **options: Any,
    ) -> None:
        from streamd.client import kafka_sink

        servers = kafka_sink.addresses(bootstrap_servers)
        kafka_sink.check_options(options)
        if not isinstance(topic, str) or _TOPIC.fullmatch(topic) is None:
            raise ValueError(f"topic must be 1 to 249 of a-z A-Z 0-9 . _ -, is {topic!r}")
        if format not in ("json", "arrow"):
            raise ValueError(f"format must be 'json' or 'arrow', is {format!r}")
        if format == "arrow" and importlib.util.find_spec("pyarrow") is None:
            raise ValueError("format 'arrow' needs the package pyarrow: pip install pyarrow")
        for name, limit in (("queue_max_bytes", queue_max_bytes), ("queue_max_batches", queue_max_batches)):
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, is {limit}")
        self._topic = topic
        self._format: Format = format
        self._max_bytes = queue_max_bytes
        self._max_batches = queue_max_batches
        self._address = ",".join(servers)
        self._connect = connect or kafka_sink.connector(servers, topic, options)
        self._begin()
        _live.add(self)

    def _begin(self) -> None:
        """An empty queue and no thread yet: it starts with the first message, so that a fork before it is harmless."""
        self._outbox = Outbox(self._max_bytes, self._max_batches)
        self._courier = Courier(self._outbox, self._connect, self._address)
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()

    # --- On the request path ----------------------------------------------------------------------

    def send(
        self,
        stream: str,
        features: Any,
        *,
        logits: Any = None,
        probabilities: Any = None,
        ids: Sequence[object] | None = None,
        ts: Timestamp | None = None,
        names: Sequence[str] | None = None,
        part: tuple[int, int] | None = None,
        wait_seconds: float = 0.0,
    ) -> bool:
        """Queue one batch. Never waits (unless asked to), never raises for a problem of delivery.

        Args:
            stream: what the batch belongs to, by habit `model/version`.
            features: columns (a dict of lists or arrays), rows (a list of dicts), a pandas or polars table,
                or a matrix (rows, features) of numpy or torch with `names`. None: predictions alone.
            logits: (rows, classes), or `probabilities`; not both.
            ids: a name for each row; it comes back in alerts.
            ts: when the rows were seen, epoch milliseconds or an aware datetime. None: now.
            names: of the columns, when `features` is a matrix.
            part: (i, n) marks part i of the n parts of a reference, see `send_reference`. Never dropped.
            wait_seconds: for jobs that may wait and must not lose: wait for room instead of dropping the oldest.

        Returns:
            False when the batch was itself dropped: larger than the whole queue, or after `close`.

        Raises:
            TypeError, ValueError: the arguments do not make a batch.
            TransientError: with `part` or `wait_seconds` only: there was no room in time.
        """
        check_stream(stream)
        check_rows(features, logits, probabilities, ids)
        value, headers = encode_features(
            stream,
            features,
            logits=logits,
            probabilities=probabilities,
            ids=ids if ids is None else [str(item) for item in ids],
            ts_ms=epoch_ms(ts),
            role=None if part is None else "reference",
            part=part,
            format=self._format,
            names=names,
        )
        keep = part is not None or wait_seconds > 0
        message = self._message(stream, value, headers, keep)
        if not keep:
            self._start()
            return self._outbox.offer(message)
        self._put(message, wait_seconds)
        return True

    @property
    def stats(self) -> Stats:
        """What became of the batches so far."""
        return self._outbox.stats()

    @property
    def last_error(self) -> str | None:
        """Why the last of the failed batches failed."""
        return self._outbox.last_error

    # --- Not on the request path: these wait ------------------------------------------------------

    def connect(self, timeout_seconds: float = 10.0) -> None:
        """Wait until the broker has answered and knows the topic; for jobs that want to fail early.

        Raises:
            TransientError: not in time, and why.
        """
        self._courier.wanted = True
        self._start()
        self._outbox.wake()
        if not self._courier.connected.wait(timeout_seconds):
            why = self._courier.problem or "no answer"
            raise TransientError(f"no connection to Kafka at {self._address} within {timeout_seconds:g} s: {why}")

    def send_reference(
        self,
        stream: str,
        features: Any,
        *,
        logits: Any = None,
        probabilities: Any = None,
        names: Sequence[str] | None = None,
        rows_per_batch: int = 1000,
        timeout_seconds: float = 60.0,
    ) -> int:
        """Send what normal looks like, in parts, and wait until the broker has all of it.

        A reference in which a part is missing never comes into force, so parts are never dropped; this waits, and
        belongs into start-up or deployment, not on a request path. Data sent before it in this stream are judged
        by the old reference, data sent after it by the new one.

        Returns:
            The number of parts.

        Raises:
            TypeError, ValueError: the arguments do not make a reference.
            TransientError: not all parts were acknowledged in time. Send the reference again, whole.
        """
        if rows_per_batch < 1:
            raise ValueError(f"rows_per_batch must be at least 1, is {rows_per_batch}")
        check_stream(stream)
        rows = check_rows(features, logits, probabilities, None)
        if rows == 0:
            raise ValueError("a reference needs at least one row")
        parts = -(-rows // rows_per_batch)
        deadline = time.monotonic() + timeout_seconds
        messages: list[Message] = []
        for i in range(parts):
            first, last = i * rows_per_batch, min((i + 1) * rows_per_batch, rows)
            value, headers = encode_features(
                stream,
                slice_rows(features, first, last),
                logits=slice_rows(logits, first, last),
                probabilities=slice_rows(probabilities, first, last),
                role="reference",
                part=(i + 1, parts),
                format=self._format,
                names=names,
            )
            messages.append(self._message(stream, value, headers, keep=True))
            try:
                self._put(messages[-1], deadline - time.monotonic())
            except TransientError:
                self._outbox.withdraw(messages)
                raise
        self._await(messages, deadline, f"the reference of {stream}")
        return parts

    def reset(self, stream: str, *, timeout_seconds: float = 30.0) -> None:
        """Make the daemon forget the stream's reference and state, and wait until the broker has the word.

        Raises:
            TransientError: it was not acknowledged in time.
        """
        check_stream(stream)
        value, headers = encode_reset(stream)
        message = self._message(stream, value, headers, keep=True)
        deadline = time.monotonic() + timeout_seconds
        self._put(message, timeout_seconds)
        self._await([message], deadline, f"the reset of {stream}")

    def flush(self, timeout_seconds: float = 30.0) -> bool:
        """Wait until nothing is queued any more. False: something still is."""
        return self._outbox.join(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Send what is queued, for at most that long, and let go of the rest. Later batches are dropped.

        Returns:
            True when nothing was left behind.
        """
        self._outbox.close(timeout_seconds)
        delivered = self._outbox.join(timeout_seconds)
        if self._thread is None:
            self._outbox.drop_waiting()
        elif self._thread is not threading.current_thread():
            # It may be inside the client, which has deadlines of its own; it is a daemon thread and may stay behind.
            self._outbox.wake()
            self._thread.join(min(1.0, timeout_seconds))
            self._outbox.drop_waiting()
        _live.discard(self)
        return delivered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Forgotten, not closed: its thread sends what is queued and then ends by itself.
        outbox: Outbox | None = getattr(self, "_outbox", None)
        if outbox is not None:
            outbox.close(_EXIT_SECONDS)

    # --- Helpers ----------------------------------------------------------------------------------

    def _message(self, stream: str, value: bytes, headers: Sequence[Header], keep: bool) -> Message:
        # The record's time is that of the call, not of the delivery: a queue may stand for minutes.
        message = Message(stream.encode(), value, tuple(headers), time.time_ns() // 1_000_000, keep)
        if keep and message.size > self._max_bytes:
            raise ValueError(
                f"the batch is {message.size} bytes, the whole queue {self._max_bytes}: send fewer rows at a time"
            )
        return message

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._thread_lock:
            if self._thread is None and not self._outbox.closing:
                # An interpreter that is ending starts no threads: then the batches stay behind, which is no error.
                with contextlib.suppress(RuntimeError):
                    self._thread = self._courier.start()

    def _put(self, message: Message, timeout_seconds: float) -> None:
        self._start()
        if not self._outbox.put(message, max(timeout_seconds, 0.0)):
            if self._outbox.closing:
                raise TransientError("the producer is closed")
            why = self._courier.problem or "the broker is slower than the data"
            raise TransientError(f"the queue to Kafka at {self._address} stayed full: {why}")

    def _await(self, messages: Sequence[Message], deadline: float, what: str) -> None:
        self._outbox.join(max(deadline - time.monotonic(), 0.0), messages)
        self._outbox.withdraw(messages)
        missing = [message for message in messages if not message.settled or message.error is not None]
        if missing:
            why = next((m.error for m in missing if m.error is not None), None) or "no acknowledgement in time"
            raise TransientError(
                f"{what}: {len(missing)} of {len(messages)} messages did not reach Kafka at {self._address}: "
                f"{self._courier.problem or why}"
            )


# --- The end of the process, and its children -----------------------------------------------------

_live: weakref.WeakSet[FeatureProducer] = weakref.WeakSet()


def _close_all() -> None:
    for producer in list(_live):
        producer.close(_EXIT_SECONDS)


def _begin_anew() -> None:
    """In a forked child: threads and connections are the parent's, and a lock may be held by a thread that is gone."""
    for producer in list(_live):
        _parents.append(producer._courier)  # never collected: its client would say goodbye on the parent's sockets
        producer._begin()


_parents: list[Courier] = []
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):  # not on Windows, where there is no fork
    os.register_at_fork(after_in_child=_begin_anew)
