"""FeatureProducer: sends an application's feature batches and predictions to streamd, and never makes it wait."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from streamd.client.arguments import (
    Timestamp,
    check_rows,
    check_stream,
    epoch_ms,
    in_order_of_time,
    parts_of,
    slice_rows,
)
from streamd.client.courier import Sink
from streamd.client.outbox import Message
from streamd.client.sender import QUEUE_MAX_BYTES, Sender
from streamd.codec.encode import encode_features, encode_reset
from streamd.errors import TransientError

Format = Literal["json", "arrow"]

QUEUE_MAX_BATCHES = 10_000


class FeatureProducer(Sender):
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
        if format not in ("json", "arrow"):
            raise ValueError(f"format must be 'json' or 'arrow', is {format!r}")
        if format == "arrow" and importlib.util.find_spec("pyarrow") is None:
            raise ValueError("format 'arrow' needs the package pyarrow: pip install pyarrow")
        if queue_max_batches < 1:
            raise ValueError(f"queue_max_batches must be at least 1, is {queue_max_batches}")
        super().__init__(
            bootstrap_servers,
            topic,
            queue_max_bytes=queue_max_bytes,
            queue_max_messages=queue_max_batches,
            connect=connect,
            **options,
        )
        self._format: Format = format

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

    # --- Not on the request path: these wait ------------------------------------------------------

    def send_reference(
        self,
        stream: str,
        features: Any,
        *,
        logits: Any = None,
        probabilities: Any = None,
        ts: Any = None,
        names: Sequence[str] | None = None,
        rows_per_batch: int = 1000,
        timeout_seconds: float = 60.0,
    ) -> int:
        """Send what normal looks like, in parts, and wait until the broker has all of it.

        A reference in which a part is missing never comes into force, so parts are never dropped; this waits, and
        belongs into start-up or deployment, not on a request path. Data sent before it in this stream are judged
        by the old reference, data sent after it by the new one.

        Args:
            stream, features, logits, probabilities, names: as for `send`.
            ts: when the rows were seen, one time for all, or a column with the time of each, where a season is to be
                learned: then they are sent in the order of time, in parts of one hour. None: now.

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
        times, (features, logits, probabilities) = in_order_of_time(ts, rows, (features, logits, probabilities))
        parts = parts_of(rows, rows_per_batch, times)
        deadline = time.monotonic() + timeout_seconds
        messages: list[Message] = []
        for number, (first, last) in enumerate(parts, start=1):
            value, headers = encode_features(
                stream,
                slice_rows(features, first, last),
                logits=slice_rows(logits, first, last),
                probabilities=slice_rows(probabilities, first, last),
                ts_ms=epoch_ms(ts) if times is None else times[last - 1],
                role="reference",
                part=(number, len(parts)),
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
        return len(parts)

    def reset(self, stream: str, *, timeout_seconds: float = 30.0) -> None:
        """Make the daemon forget the stream's reference and state, and wait until the broker has the word.

        Raises:
            TransientError: it was not acknowledged in time.
        """
        check_stream(stream)
        value, headers = encode_reset(stream)
        self.deliver(stream, value, headers, timeout_seconds=timeout_seconds, what=f"the reset of {stream}")
