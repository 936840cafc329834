"""Watches the pump from another thread: says when it is stuck, and ends the process when only that can help."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading

import structlog

from streamd.observe.health import Health

log = structlog.get_logger("streamd.watchdog")

EXIT_STUCK = 70
_LOOK_SECONDS = 1.0


class Watchdog:
    """A thread that looks at the pump's beat every second.

    Args:
        health: where the pump beats.
        warn_seconds: without a beat, it is said once. A call of the broker may take most of its deadline.
        exit_seconds: without a beat, all stacks go to stderr and the process ends with 70: a supervisor starts it
            again, and nothing that was not committed is lost.
    """

    def __init__(self, health: Health, warn_seconds: float = 15.0, exit_seconds: float = 60.0) -> None:
        self._health = health
        self._warn_seconds = warn_seconds
        self._exit_seconds = exit_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The pump has ended: nobody beats any more."""
        self._stopped.set()

    def _run(self) -> None:
        warned = False
        while not self._stopped.wait(_LOOK_SECONDS):
            silent = self._health.silent_seconds
            if silent >= self._exit_seconds:
                log.critical("the pump is stuck; ending so that a supervisor starts it again", seconds=round(silent))
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_STUCK)
            if silent >= self._warn_seconds and not warned:
                log.error("the pump does not turn: a poll or a delivery takes long", seconds=round(silent))
            warned = silent >= self._warn_seconds
