"""How the process is, for the probes: one state, its reasons, and whether the pump still turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What the process is doing."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING_FOR_BROKER = "waiting_for_broker"
    RESTORING = "restoring"
    STALLED = "stalled"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a probe.

    Attributes:
        live: False: only a restart can help.
        ready: False: this process does not do its work now.
        beat_seconds: since the pump's last sign of life; None before the first.
    """

    state: State
    reasons: tuple[str, ...]
    live: bool
    ready: bool
    beat_seconds: float | None


class Health:
    """Written by the pump and by the life of the process, read by the admin's thread; every access is locked.

    Without the broker a process that has run stays ready: to take it out or to restart it would mend nothing.
    One that has never reached the broker is not ready, or a rollout would go on with a wrong address.

    Args:
        clock: seconds, monotonic.
        stalled_seconds: without a beat, the pump is called stalled. A million rows in one message take less.
        dead_seconds: without a beat, only a restart can help.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        stalled_seconds: float = 15.0,
        dead_seconds: float = 120.0,
    ) -> None:
        self._clock = clock
        self._stalled_seconds = stalled_seconds
        self._dead_seconds = dead_seconds
        self._lock = threading.Lock()
        self._state = State.STARTING
        self._reasons: tuple[str, ...] = ("the process starts",)
        self._broker_lost: str | None = None
        self._has_run = False
        self._stalled: dict[str, str] = {}
        self._beat: float | None = None

    def set(self, state: State, *reasons: str) -> None:
        """The process is in `state` from here on; `reasons` are sentences for people."""
        with self._lock:
            self._state, self._reasons = state, reasons
            self._has_run = self._has_run or state is State.RUNNING

    def stalled(self, what: str, reason: str | None) -> bool:
        """`what` (a partition) does not get on, for this reason; None: it does. True where that is news."""
        with self._lock:
            news = (what in self._stalled) != (reason is not None)
            if reason is None:
                self._stalled.pop(what, None)
            else:
                self._stalled[what] = reason
            return news

    @property
    def silent_seconds(self) -> float:
        """How long ago the pump's last sign of life was; 0 before the first."""
        return 0.0 if self._beat is None else self._clock() - self._beat

    def beat(self) -> None:
        """The pump is alive. Cheap: once per record is fine."""
        self._beat = self._clock()  # one assignment, which needs no lock

    def broker_lost(self, cause: str) -> bool:
        """The broker does not answer. True where that is news."""
        with self._lock:
            news = self._broker_lost is None
            self._broker_lost = cause
            return news

    def broker_found(self) -> bool:
        """The broker answers: a process that was starting runs now. True where that is news."""
        with self._lock:
            news = self._broker_lost is not None or not self._has_run
            self._broker_lost = None
            self._has_run = True
            if self._state is State.STARTING:
                self._state, self._reasons = State.RUNNING, ()
            return news

    def report(self) -> Report:
        """How the process is now."""
        with self._lock:
            state, reasons, broker_lost, has_run = self._state, self._reasons, self._broker_lost, self._has_run
            stalled = tuple(self._stalled.values())
            beat_seconds = None if self._beat is None else self._clock() - self._beat
        silent = beat_seconds if beat_seconds is not None and state is not State.STOPPED else 0.0
        live = state is not State.STOPPED and silent < self._dead_seconds
        if silent >= self._stalled_seconds:
            reasons = (*reasons, f"the pump has not turned for {silent:.0f} s")
            return Report(State.STALLED, reasons, live, False, beat_seconds)
        if broker_lost is not None and state in (State.STARTING, State.RUNNING):
            reasons = (f"the broker does not answer: {broker_lost}",)
            return Report(State.WAITING_FOR_BROKER, reasons, live, has_run, beat_seconds)
        if stalled and state is State.RUNNING:
            return Report(State.STALLED, stalled, live, False, beat_seconds)
        ready = state is State.RUNNING or (state is State.WAITING_FOR_BROKER and has_run)
        return Report(state, reasons, live, ready, beat_seconds)
