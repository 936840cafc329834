"""What `streamd health` says and how it exits, asked of the real admin HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from streamd.cli import main
from streamd.cli.health import ask
from streamd.observe.admin import AdminServer, create_app
from streamd.observe.board import Board
from streamd.observe.health import Health, State


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def admin(health: Health, monkeypatch) -> Iterator[AdminServer]:
    server = AdminServer(create_app(CollectorRegistry(), Board(), health, dict, "0"), "127.0.0.1", 0)
    server.start()
    monkeypatch.setenv("STREAMD_ADMIN__HOST", "0.0.0.0")
    monkeypatch.setenv("STREAMD_ADMIN__PORT", str(server.address[1]))
    yield server
    server.stop()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["health", *arguments])
    return int(caught.value.code or 0)


def test_a_daemon_that_runs_is_ready(admin, health, capsys):
    health.set(State.RUNNING)
    assert run() == 0
    assert capsys.readouterr().out == "streamd is ready\n"


def test_a_daemon_that_restores_is_alive_and_not_ready_and_the_reason_is_told(admin, health, capsys):
    health.set(State.RESTORING, "restoring 3 partitions")
    assert run() == 1
    assert capsys.readouterr().err == "streamd is not ready: restoring 3 partitions\n"
    assert run("--live") == 0


def test_a_daemon_that_has_stopped_is_not_alive(admin, health):
    health.set(State.STOPPED)
    assert run("--live") == 1


def test_where_nobody_listens_the_address_is_named(admin, capsys):
    admin.stop()
    assert run() == 1
    assert f"does not answer at http://127.0.0.1:{admin.address[1]}: Connection refused" in capsys.readouterr().err


def test_a_proxy_in_the_environment_is_not_asked(admin, health, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    health.set(State.RUNNING)
    assert run() == 0


def test_whoever_does_not_answer_in_time_is_not_healthy():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        healthy, sentence = ask(f"http://127.0.0.1:{silent.getsockname()[1]}", live=True, timeout=0.2)
    assert not healthy
    assert "timed out" in sentence
