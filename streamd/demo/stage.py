"""What a demo runs: an embedded broker, and daemon and jobs as processes of their own, as a user would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
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
_DAEMON = "daemon"


class Stage:
    """Broker and daemon: up on entering, down on leaving with all that was started, in whatever way that happens.

    Attributes:
        bootstrap_servers: the broker's address.
        admin_url: the daemon's.
        folder: where files may lie until the end.
        log: where the daemon's log is.

    Args:
        environment: further variables of the daemon.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._broker = EmbeddedBroker()
        self._environment = environment or {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}  # by name, the daemon first
        self._folder = tempfile.TemporaryDirectory(prefix="streamd-demo-")
        self.folder = Path(self._folder.name)
        self.log = self._log_of(_DAEMON)
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

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start `python COMMAND` that knows the broker; what it writes is in `NAME.log` of the folder."""
        return self._spawn(name, {}, *command)

    def stop(self) -> int:
        """End what was started, drain the daemon, stop the broker; the daemon's exit code."""
        code = 0
        while self._processes:
            _, process = self._processes.popitem()
            code = _end(process)
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
        """Raises StreamdError when the daemon has ended, or something else with an error."""
        for name, process in self._processes.items():
            code = process.poll()
            if code or (name == _DAEMON and code is not None):
                tail = "\n".join(self._log_of(name).read_text(errors="replace").splitlines()[-15:])
                raise StreamdError(f"the {name} ended with exit code {code}; the end of its log:\n{tail}")

    def _start_daemon(self) -> None:
        port = _free_port(_DEFAULT_PORT)
        self.admin_url = f"http://127.0.0.1:{port}"
        environment = {
            "STREAMD_KAFKA__DELIVERY": "at_least_once",  # its transactions never end where their owner was killed
            "STREAMD_ADMIN__PORT": str(port),
            "STREAMD_LOG__FORMAT": "console",
            # The embedded broker lets the first member of a group wait for half of its session timeout.
            "STREAMD_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "STREAMD_KAFKA__HEARTBEAT_INTERVAL_MS": "1500",
            "STREAMD_KAFKA__MAX_POLL_INTERVAL_MS": "10000",
            "STREAMD_KAFKA__FETCH_MAX_WAIT_MS": "50",  # it does not wake a waiting fetch, as Kafka does
        }
        self._spawn(_DAEMON, environment | {**self._environment}, "-m", "streamd", "run")

    def _spawn(self, name: str, environment: Mapping[str, str], *command: str) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMD_")}
        with self._log_of(name).open("wb") as output:
            process = self._processes[name] = subprocess.Popen(
                [sys.executable, *command],
                env={**inherited, "STREAMD_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops them
            )
        return process

    def _log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

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


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ask it to end, and see that it does; its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


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
