"""Watches the pump from another thread: says when it is stuck, and ends the process when only that can help."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

import structlog

from streamd.observe.health import Health

log = structlog.get_logger("streamd.watchdog")

EXIT_STUCK = 70
_LOOK_SECONDS = 0.25


class Watchdog:
    """A thread that looks at the pump's beat four times a second.

    Args:
        health: where the pump beats.
        stopping: whether the process was told to stop.
        warn_seconds: without a beat, it is said once. A call of the broker may take most of its deadline.
        exit_seconds: without a beat, all stacks go to stderr and the process ends with 70: a supervisor starts it
            again, and nothing that was not committed is lost.
        leave_seconds: after it was told to stop, the process ends with 0, finished or not: a call of a broker that
            is silent may take longer than a supervisor waits, and what it does not commit comes again.
    """

    def __init__(
        self,
        health: Health,
        stopping: Callable[[], bool] = lambda: False,
        warn_seconds: float = 15.0,
        exit_seconds: float = 60.0,
        leave_seconds: float = 4.5,
    ) -> None:
        self._health = health
        self._stopping = stopping
        self._warn_seconds = warn_seconds
        self._exit_seconds = exit_seconds
        self._leave_seconds = leave_seconds
        self._leave_at = float("inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The process has let go of everything: nobody beats any more."""
        self._stopped.set()

    def _run(self) -> None:
        warned = False
        while not self._stopped.wait(_LOOK_SECONDS):
            self._end_what_does_not_leave()
            silent = self._health.silent_seconds
            if silent >= self._exit_seconds:
                log.critical("the pump is stuck; ending so that a supervisor starts it again", seconds=round(silent))
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_STUCK)
            if silent >= self._warn_seconds and not warned:
                log.error("the pump does not turn: a poll or a delivery takes long", seconds=round(silent))
            warned = silent >= self._warn_seconds

    def _end_what_does_not_leave(self) -> None:
        if not self._stopping():
            return
        self._leave_at = min(self._leave_at, time.monotonic() + self._leave_seconds)
        if time.monotonic() >= self._leave_at:
            log.warning("stopped without the broker's answer; what is not committed comes again")
            sys.stderr.flush()
            os._exit(0)
