"""Real Apache Kafka for tests: found, started, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from streamd.errors import StreamdError
from streamd.transport import kafka_admin
from streamd.transport.settings import KafkaSettings

_ROOT = Path(__file__).parents[2]
HOW_TO_GET_KAFKA = (
    "no real Kafka: set STREAMD_TEST_KAFKA=host:port to a broker, or run `make kafka` (needs Java 17 and Maven)"
)


def kafka_launcher() -> Path | None:
    """The script that starts a broker, when its jars are there."""
    for home in (_ROOT.parent / "shared/kafka", _ROOT / "tests/kafka"):
        if any((home / "libs").glob("kafka-server-*.jar")):
            return home / "bin/kafka"
    return None


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ExternalKafka:
    """A broker that somebody else runs: STREAMD_TEST_KAFKA."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers


class RealKafka:
    """One broker on a data directory of its own.

    Args:
        data: the directory.
        settings: Kafka's own, `name=value`; `{port}`, `{controller}` and the `more` names stand for free ports.
        more: names of other ports, to be found in `ports`.
    """

    def __init__(self, launcher: Path, data: Path, *settings: str, more: tuple[str, ...] = ()) -> None:
        self.port, self.controller = free_port(), free_port()
        self.ports = {name: free_port() for name in more}
        self.bootstrap_servers = f"127.0.0.1:{self.port}"
        self._command = [str(launcher), str(data), str(self.port)]
        self._command += [s.format(port=self.port, controller=self.controller, **self.ports) for s in settings]
        self.data = data
        self._client = KafkaSettings(bootstrap_servers=(self.bootstrap_servers,))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, for the first time or again, and return when it answers."""
        environment = os.environ | {"CONTROLLER_PORT": str(self.controller), "KAFKA_HEAP": "256m"}
        self._process = subprocess.Popen(
            self._command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 40
        while True:
            try:
                kafka_admin.list_topics(self._client)
                return
            except StreamdError as error:
                code = self._process.poll()
                if code is not None or time.monotonic() > deadline:
                    log = self.data / "server.log"
                    tail = log.read_text()[-3000:] if log.exists() else ""
                    raise RuntimeError(f"Kafka does not answer (exit code {code}): {error}\n{tail}") from error
                time.sleep(0.05)

    def kill(self) -> None:
        """A crash: what was acknowledged is on disk."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """A clean stop."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            assert process.stderr is not None
            process.stderr.close()
            process.wait(30)
