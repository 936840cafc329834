"""The background thread of a producer: it connects, sends what the outbox holds, and never troubles the caller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from streamd.client.outbox import Message, Outbox
from streamd.errors import TransientError

log = logging.getLogger("streamd.client")

Settled = Callable[[str | None], None]

_FIRST_REST_SECONDS = 0.25
_LONGEST_REST_SECONDS = 10.0  # a broker that comes back is noticed within this
_LOOK_ROUND_SECONDS = 1.0  # an idle thread wakes this often, to see whether its time is up


class Sink(Protocol):
    """What a courier delivers to. One thread calls it; `settled` may be called from any."""

    @property
    def broken(self) -> bool:
        """It has failed in a way that it will not get over: close it and connect anew."""

    def ready(self) -> None:
        """Raise TransientError, within seconds, when nothing could be sent now."""

    def send(self, message: Message, settled: Settled) -> None:
        """Begin to send. Calls `settled` once, with None or why it failed. TransientError: not begun, try again."""

    def close(self, *, abandon: bool) -> None:
        """Let go, within a second. With `abandon` what is in flight fails at once. Never raises."""


class Courier:
    """Moves messages from an outbox to a sink until the outbox is finished.

    Args:
        connect: makes the sink. May block for seconds; raises anything when it cannot.
        address: of the broker, for the log.
    """

    def __init__(self, outbox: Outbox, connect: Callable[[], Sink], address: str) -> None:
        self._outbox = outbox
        self._connect = connect
        self._address = address
        self._sink: Sink | None = None
        self._rest_seconds = _FIRST_REST_SECONDS
        self._told_unreachable = False
        self._told_full = False
        self._told_failed = False
        self._dropped_before = 0
        self._failed_before = 0
        self.wanted = False  # connect even though there is nothing to send
        self.connected = threading.Event()
        self.problem: str | None = None  # why it is not connected, when last tried

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, name="streamd-client", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        """The thread's whole life."""
        try:
            while not self._outbox.finished:
                self.turn()
        except Exception:
            # A bug of ours must neither reach the application nor leave a queue that nobody empties.
            log.exception("the sending thread has stopped; batches are dropped from here on")
            self._outbox.close(0.0)
        finally:
            self._outbox.drop_waiting()
            if self._sink is not None:
                self._sink.close(abandon=self._outbox.in_flight > 0)

    def turn(self) -> None:
        """One round: wait for work, see that there is a sink, send one message."""
        if not self._outbox.wait(0.0 if self.wanted else _LOOK_ROUND_SECONDS) and not self.wanted:
            self._report()
            return
        if not self._have_sink():
            return
        self.wanted = False
        message = self._outbox.take()
        if message is not None:
            self._send(message)
        self._report()

    def _have_sink(self) -> bool:
        """Connect where needed. False: not now; a rest was taken."""
        if self._sink is not None and self._sink.broken:
            if self._outbox.in_flight:
                # Its last messages have yet to succeed or fail: a new sink would send past them.
                self._outbox.rest(_FIRST_REST_SECONDS)
                return False
            self._discard()
        try:
            if self._sink is None:
                self._sink = self._connect()
            self._sink.ready()
        except Exception as error:
            # Whatever it is (a broker that is away, a certificate not yet mounted), the caller goes on.
            self._unreachable(error)
            return False
        self._reached()
        return True

    def _send(self, message: Message) -> None:
        assert self._sink is not None
        try:
            self._sink.send(message, lambda error: self._outbox.settle(message, error))
        except TransientError as error:
            self._outbox.put_back(message)
            self._unreachable(error)
        except Exception as error:
            # Ours or the client's bug, in somebody else's application: lose this record, not all that follow.
            self._outbox.settle(message, f"{type(error).__name__}: {error}")

    def _discard(self) -> None:
        assert self._sink is not None
        self._sink.close(abandon=False)
        self._sink = None
        self.connected.clear()

    def _unreachable(self, error: Exception) -> None:
        self.connected.clear()
        self.problem = str(error) or type(error).__name__
        if not self._told_unreachable:
            self._told_unreachable = True
            log.warning(
                "cannot send to Kafka at %s: %s. Batches are kept while there is room, then the oldest are dropped; "
                "trying again in the background.",
                self._address,
                self.problem,
            )
        # When it is closing, what time is left is short: try often.
        self._outbox.rest(self._rest_seconds)
        if self._outbox.closing:
            time.sleep(_FIRST_REST_SECONDS)
        self._rest_seconds = min(2 * self._rest_seconds, _LONGEST_REST_SECONDS)

    def _reached(self) -> None:
        self._rest_seconds = _FIRST_REST_SECONDS
        self.problem = None
        self.connected.set()
        if self._told_unreachable:
            self._told_unreachable = False
            log.info("sending to Kafka at %s again", self._address)

    def _report(self) -> None:
        """Say once that batches are being lost, and again only after it had stopped."""
        stats = self._outbox.stats()
        if stats.dropped > self._dropped_before and not self._told_full:
            self._told_full = True
            log.warning("the queue to Kafka at %s is full: the oldest batches are dropped", self._address)
        elif stats.queued == 0:
            self._told_full = False
        if stats.failed > self._failed_before and not self._told_failed:
            self._told_failed = True
            log.warning("a batch could not be delivered: %s", self._outbox.last_error)
        elif stats.failed == self._failed_before and stats.queued == 0:
            self._told_failed = False
        self._dropped_before = stats.dropped
        self._failed_before = stats.failed
