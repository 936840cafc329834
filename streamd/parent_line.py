"""A worker's line to the parent that started it (`streamd run --workers`): commands on stdin, its address on stdout.

The line is also how a worker knows that its parent lives. Whatever ends the parent, SIGKILL too, closes it, and a
worker whose line is closed drains and ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

RELOAD = b"reload\n"


class ParentLine:
    """Takes over stdin and stdout. Make it before anything could write there.

    Args:
        worker: this worker's number, from 0 on.
    """

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self._commands = os.dup(0)
        self._address = os.dup(1)
        os.dup2(2, 1)  # what a library prints must not be taken for an address

    def announce(self, url: str) -> None:
        """Tell the parent where this worker's admin HTTP is."""
        with suppress(BrokenPipeError):  # the parent is gone, which the other end says, too
            os.write(self._address, f"{url}\n".encode())

    def obey(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        """Do what the parent says, on a thread of its own: `reload` when asked to, `stop` when the line closes."""
        threading.Thread(target=self._listen, args=(stop, reload), name="parent", daemon=True).start()

    def _listen(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        while command := os.read(self._commands, 4096):
            if RELOAD in command:
                reload()
        stop()
