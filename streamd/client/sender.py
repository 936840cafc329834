"""What the producers of the client share: a bounded queue, the thread that empties it, and how both end."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

from streamd.client.courier import Courier, Sink
from streamd.client.outbox import Message, Outbox, Stats
from streamd.codec.encode import Outcome, encode_ack
from streamd.errors import TransientError
from streamd.model import Header

QUEUE_MAX_BYTES = 64 * 1024 * 1024  # some 400 JSON batches of 256 rows × 32 features
QUEUE_MAX_MESSAGES = 10_000
EXIT_SECONDS = 2.0  # an application that ends waits so long for what is still queued
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Sender:
    """Sends messages to one topic from a queue that never makes the caller wait.

    Args:
        bootstrap_servers: `host:port`, several with commas or as a sequence.
        topic: where the messages go.
        queue_max_bytes: of keys, values and headers that wait or are in flight.
        queue_max_messages: likewise, their number.
        connect: makes what the messages go to, in place of Kafka; for tests.
        options: further options of kafka.KafkaProducer.

    Raises:
        TypeError, ValueError: an argument is not usable. Whether the broker is there is not looked at.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topic: str,
        *,
        queue_max_bytes: int = QUEUE_MAX_BYTES,
        queue_max_messages: int = QUEUE_MAX_MESSAGES,
        connect: Callable[[], Sink] | None = None,
        **options: Any,
    ) -> None:
        from streamd.client import kafka_sink

        servers = kafka_sink.addresses(bootstrap_servers)
        kafka_sink.check_options(options)
        if not isinstance(topic, str) or _TOPIC.fullmatch(topic) is None:
            raise ValueError(f"topic must be 1 to 249 of a-z A-Z 0-9 . _ -, is {topic!r}")
        for name, limit in (("queue_max_bytes", queue_max_bytes), ("queue_max_messages", queue_max_messages)):
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, is {limit}")
        self._topic = topic
        self._max_bytes = queue_max_bytes
        self._max_messages = queue_max_messages
        self._address = ",".join(servers)
        self._connect = connect or kafka_sink.connector(servers, topic, options)
        self._begin()
        _live.add(self)

    def _begin(self) -> None:
        """An empty queue and no thread yet: it starts with the first message, so that a fork before it is harmless."""
        self._outbox = Outbox(self._max_bytes, self._max_messages)
        self._courier = Courier(self._outbox, self._connect, self._address)
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()

    @property
    def stats(self) -> Stats:
        """What became of the messages so far."""
        return self._outbox.stats()

    @property
    def last_error(self) -> str | None:
        """Why the last of the failed messages failed."""
        return self._outbox.last_error

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

    def deliver(self, key: str, value: bytes, headers: Sequence[Header], *, timeout_seconds: float, what: str) -> None:
        """Send one message that must not be lost, and wait until the broker has it.

        Raises:
            TransientError: it was not acknowledged in time; `what` says what it was.
        """
        message = self._message(key, value, headers, keep=True)
        deadline = time.monotonic() + timeout_seconds
        self._put(message, timeout_seconds)
        self._await([message], deadline, what)

    def acknowledge(
        self, name: str, command_id: str, outcome: Outcome, detail: str = "", *, kind: Literal["stream", "run"]
    ) -> bool:
        """Queue the answer to a command for `name`. Never waits, and is not dropped to make room."""
        return self._offer(name, *encode_ack(name, command_id, outcome, detail=detail, kind=kind), keep=True)

    def flush(self, timeout_seconds: float = 30.0) -> bool:
        """Wait until nothing is queued any more. False: something still is."""
        return self._outbox.join(timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Send what is queued, for at most that long, and let go of the rest. Later messages are dropped.

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Forgotten, not closed: its thread sends what is queued and then ends by itself.
        outbox: Outbox | None = getattr(self, "_outbox", None)
        if outbox is not None:
            outbox.close(EXIT_SECONDS)

    # --- Helpers ----------------------------------------------------------------------------------

    def _offer(self, key: str, value: bytes, headers: Sequence[Header], *, keep: bool) -> bool:
        message = self._message(key, value, headers, keep)
        self._start()
        return self._outbox.offer(message)

    def _message(self, key: str, value: bytes, headers: Sequence[Header], keep: bool) -> Message:
        # The record's time is that of the call, not of the delivery: a queue may stand for minutes.
        message = Message(key.encode(), value, tuple(headers), time.time_ns() // 1_000_000, keep)
        if keep and message.size > self._max_bytes:
            raise ValueError(
                f"the message is {message.size} bytes, the whole queue {self._max_bytes}: send less at a time"
            )
        return message

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._thread_lock:
            if self._thread is None and not self._outbox.closing:
                # An interpreter that is ending starts no threads: then the messages stay behind, which is no error.
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

_live: weakref.WeakSet[Sender] = weakref.WeakSet()


def _close_all() -> None:
    for producer in list(_live):
        producer.close(EXIT_SECONDS)


def _begin_anew() -> None:
    """In a forked child: threads and connections are the parent's, and a lock may be held by a thread that is gone."""
    for producer in list(_live):
        _parents.append(producer._courier)  # never collected: its client would say goodbye on the parent's sockets
        producer._begin()


_parents: list[Courier] = []
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):  # not on Windows, where there is no fork
    os.register_at_fork(after_in_child=_begin_anew)
