"""What the demo runs: an embedded broker, and the daemon as a process of its own, as a user would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import orjson

from streamd.errors import StreamdError
from streamd.transport.embedded import EmbeddedBroker

_READY_SECONDS = 60.0  # the first start on a slow disk reads a gigabyte of torch
_STOP_SECONDS = 10.0
_DEFAULT_PORT = 9464


class Stage:
    """Broker and daemon: up on entering, down on leaving, in whatever way that happens.

    Attributes:
        bootstrap_servers: the broker's address.
        admin_url: the daemon's.
        log: where the daemon's log is.
    """

    def __init__(self) -> None:
        self._broker = EmbeddedBroker()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="streamd-demo-")
        self.log = Path(self._folder.name) / "daemon.log"
        self.bootstrap_servers = ""
        self.admin_url = ""

    def __enter__(self) -> Self:
        try:
            self._broker.start()
            self.bootstrap_servers = self._broker.bootstrap_servers
            self._start_daemon()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """Drain the daemon, stop the broker; the daemon's exit code."""
        code = 0
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.send_signal(signal.SIGTERM)
            try:
                code = daemon.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                code = daemon.wait()
        self._broker.stop()
        self._folder.cleanup()
        return code

    def streams(self) -> list[dict[str, Any]]:
        """What `/streams` says now."""
        try:
            with urlopen(f"{self.admin_url}/streams", timeout=2) as answer:
                return list(orjson.loads(answer.read())["streams"])
        except (URLError, TimeoutError):
            return []

    def check(self) -> None:
        """Raises StreamdError when the daemon has ended."""
        assert self._daemon is not None
        code = self._daemon.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise StreamdError(f"the daemon ended with exit code {code}; the end of its log:\n{tail}")

    def _start_daemon(self) -> None:
        port = _free_port(_DEFAULT_PORT)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMD_")}
        environment |= {
            "STREAMD_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "STREAMD_KAFKA__DELIVERY": "at_least_once",  # its transactions never end where their owner was killed
            "STREAMD_ADMIN__PORT": str(port),
            "STREAMD_LOG__FORMAT": "console",
            # The embedded broker lets the first member of a group wait for half of its session timeout.
            "STREAMD_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "STREAMD_KAFKA__HEARTBEAT_INTERVAL_MS": "1500",
            "STREAMD_KAFKA__MAX_POLL_INTERVAL_MS": "10000",
        }
        self.admin_url = f"http://127.0.0.1:{port}"
        with self.log.open("wb") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "streamd", "run"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the daemon
            )

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until:
            self.check()
            try:
                with urlopen(f"{self.admin_url}/readyz", timeout=1):
                    return
            except (URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
        raise StreamdError(f"the daemon was not ready after {_READY_SECONDS:.0f} s; see {self.log}")


def _free_port(preferred: int) -> int:
    """`preferred` where nobody has it, any other port else."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StreamdError("no port is free on 127.0.0.1")
