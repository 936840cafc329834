"""The bounded queue between an application and the thread that sends: it drops the oldest rather than wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from threading import Condition

from streamd.model import Header


@dataclass(slots=True, eq=False)
class Message:
    """One record on its way out. `keep`: never dropped to make room; `error` and `settled` are its fate."""

    key: bytes
    value: bytes
    headers: tuple[Header, ...]
    timestamp_ms: int
    keep: bool = False
    settled: bool = False
    error: str | None = None

    @property
    def size(self) -> int:
        """Bytes of key, value and headers: what the limits count."""
        return len(self.key) + len(self.value) + sum(len(name) + len(value or b"") for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class Stats:
    """Batches since the producer was made: accepted = sent + dropped + failed + queued.

    Attributes:
        sent: acknowledged by the broker.
        dropped: given up here, for want of room or of time at `close`.
        failed: handed to the Kafka client, which gave up.
        queued: not settled yet, in flight included.
        queued_bytes: their keys, values and headers.
    """

    sent: int
    dropped: int
    failed: int
    queued: int
    queued_bytes: int


class Outbox:
    """Messages that wait, oldest first, and messages in flight, all under one budget.

            offer, put                     take                      settle
    caller ───────────▶ waiting (deque) ─────────▶ in flight (client) ──────▶ sent | failed
                           │ full: the oldest that may be
                           ▼
                        dropped

    At most a quarter of the budget is in flight, because the Kafka client's own buffer has no limit
    and what is in it can no longer be dropped.

    Args:
        max_bytes: of waiting and in flight together.
        max_messages: likewise.
    """

    def __init__(self, max_bytes: int, max_messages: int) -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._changed = Condition()
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._kept = 0  # of the waiting, those that may not be dropped
        self._kept_bytes = 0
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._sent = 0
        self._dropped = 0
        self._failed = 0
        self._close_at: float | None = None  # monotonic seconds: from then on nothing more is tried
        self.last_error: str | None = None

    # --- The caller's side ------------------------------------------------------------------------

    def offer(self, message: Message) -> bool:
        """Queue it, never waiting: the oldest go to make room. False: it was itself dropped."""
        with self._changed:
            fits_at_all = (
                self._in_flight_bytes + self._kept_bytes + message.size <= self._max_bytes
                and self._in_flight + self._kept < self._max_messages
            )
            if self._close_at is not None or not fits_at_all:
                self._dropped += 1
                return False
            while not self._has_room(message):
                self._drop_oldest()
            self._append(message)
            return True

    def put(self, message: Message, timeout_seconds: float) -> bool:
        """Queue it, waiting for room; nothing is dropped. False: there was none in time, and it is not queued."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._close_at is not None or self._has_room(message), timeout=timeout_seconds
            ):
                return False
            if self._close_at is not None:
                return False
            self._append(message)
            return True

    def withdraw(self, messages: Collection[Message]) -> int:
        """Take those of them back that still wait; they count as dropped. Returns how many."""
        with self._changed:
            wanted = {id(message) for message in messages}
            found = [message for message in self._waiting if id(message) in wanted]
            for message in found:
                self._waiting.remove(message)
                self._forget(message)
                self._drop(message)
            self._changed.notify_all()
            return len(found)

    def join(self, timeout_seconds: float, messages: Collection[Message] | None = None) -> bool:
        """Wait until all, or these, are settled one way or the other. False: not in time."""
        with self._changed:
            if messages is None:
                return self._changed.wait_for(self._is_empty, timeout=timeout_seconds)
            return self._changed.wait_for(lambda: all(m.settled for m in messages), timeout=timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Accept nothing more, and go on sending for at most that long. Does not wait."""
        with self._changed:
            if self._close_at is None:
                self._close_at = time.monotonic() + timeout_seconds
            self._changed.notify_all()

    def stats(self) -> Stats:
        with self._changed:
            queued = len(self._waiting) + self._in_flight
            size = self._waiting_bytes + self._in_flight_bytes
            return Stats(self._sent, self._dropped, self._failed, queued, size)

    # --- The sending thread's side ----------------------------------------------------------------

    @property
    def closing(self) -> bool:
        return self._close_at is not None

    @property
    def finished(self) -> bool:
        """Closed, and either nothing is left or its time is up."""
        with self._changed:
            return self._close_at is not None and (self._is_empty() or time.monotonic() >= self._close_at)

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for something that may be taken; also returns when woken or closing. True: there is something."""
        with self._changed:
            if not self._may_take():
                self._changed.wait(timeout_seconds)
            return self._may_take()

    def rest(self, timeout_seconds: float) -> None:
        """Sleep, unless it is closing or begins to."""
        with self._changed:
            self._changed.wait_for(lambda: self._close_at is not None, timeout=timeout_seconds)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def take(self) -> Message | None:
        """The oldest, now in flight; None when there is none or too much is in flight already."""
        with self._changed:
            if not self._may_take():
                return None
            message = self._waiting.popleft()
            self._forget(message)
            self._in_flight += 1
            self._in_flight_bytes += message.size
            return message

    def put_back(self, message: Message) -> None:
        """It was taken and not sent: it is the oldest again."""
        with self._changed:
            self._in_flight -= 1
            self._in_flight_bytes -= message.size
            self._waiting.appendleft(message)
            self._remember(message)

    def settle(self, message: Message, error: str | None) -> None:
        """What was in flight has arrived, or (with an error) never will."""
        with self._changed:
            if message.settled:
                return
            self._in_flight -= 1
            self._in_flight_bytes -= message.size
            message.settled = True
            message.error = error
            if error is None:
                self._sent += 1
            else:
                self._failed += 1
                self.last_error = error
            self._changed.notify_all()

    def drop_waiting(self) -> None:
        """Give up all that waits: the time is up."""
        with self._changed:
            for message in self._waiting:
                self._drop(message)
            self._waiting.clear()
            self._waiting_bytes = self._kept = self._kept_bytes = 0
            self._changed.notify_all()

    # --- Under the lock ---------------------------------------------------------------------------

    def _has_room(self, message: Message) -> bool:
        return (
            self._waiting_bytes + self._in_flight_bytes + message.size <= self._max_bytes
            and len(self._waiting) + self._in_flight < self._max_messages
        )

    def _may_take(self) -> bool:
        if not self._waiting:
            return False
        if self._in_flight == 0:
            return True  # one is always allowed, however large
        return (
            self._in_flight_bytes + self._waiting[0].size <= self._max_bytes // 4
            and self._in_flight < self._max_messages // 4
        )

    def _is_empty(self) -> bool:
        return not self._waiting and self._in_flight == 0

    def _append(self, message: Message) -> None:
        self._waiting.append(message)
        self._remember(message)
        self._changed.notify_all()

    def _remember(self, message: Message) -> None:
        self._waiting_bytes += message.size
        self._kept += message.keep
        self._kept_bytes += message.keep * message.size

    def _forget(self, message: Message) -> None:
        self._waiting_bytes -= message.size
        self._kept -= message.keep
        self._kept_bytes -= message.keep * message.size

    def _drop_oldest(self) -> None:
        place = next(i for i, message in enumerate(self._waiting) if not message.keep)
        message = self._waiting[place]
        del self._waiting[place]
        self._forget(message)
        self._drop(message)

    def _drop(self, message: Message) -> None:
        self._dropped += 1
        message.settled = True
        message.error = "it was dropped before it could be sent"
