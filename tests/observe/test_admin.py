"""What is answered over HTTP."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from starlette.applications import Starlette

from streamd.errors import ConfigError
from streamd.model import Severity
from streamd.observe.admin import AdminServer, create_app, serve
from streamd.observe.board import Board
from streamd.observe.health import Health, State
from streamd.observe.metrics import Metrics
from streamd.observe.settings import MetricSettings

Make = Callable[..., Any]
CONFIG = {"kafka": {"group_id": "watchers", "sasl_plain_password": "hunter2"}, "admin": {"port": 9464}}
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Client:
    """Asks an application without a socket."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://streamd") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)


class World:
    """An application and everything behind it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.board = Board()
        self.health = Health(lambda: self.now)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, MetricSettings(), self.board)
        self.app = create_app(self.registry, self.board, self.health, lambda: CONFIG, "1.2.3")
        self.client = Client(self.app)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server(world: World) -> Iterator[AdminServer]:
    server = serve(world.app, "127.0.0.1", 0)
    yield server
    server.stop()


def test_metrics_are_prometheus_text_unless_openmetrics_is_asked_for(world: World) -> None:
    world.metrics.broker_available(True)
    plain = world.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "streamd_broker_up" in {family.name for family in parse_prometheus(plain.text)}

    modern = world.client.get("/metrics", headers={"accept": OPENMETRICS})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "streamd_broker_up" in {family.name for family in parse_openmetrics(modern.text)}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.STARTING, 503),
        (State.RUNNING, 200),
        (State.RESTORING, 503),
        (State.STALLED, 503),
        (State.DRAINING, 503),
    ],
)
def test_ready_is_whether_the_work_is_done_and_why_not(world: World, state: State, status: int) -> None:
    world.health.set(state, "because of this")
    answer = world.client.get("/readyz")
    assert answer.status_code == status
    assert answer.json() == {"ready": status == 200, "state": state.value, "reasons": ["because of this"]}
    assert world.client.get("/livez").status_code == 200


def test_a_pump_that_hangs_is_not_ready_and_then_not_live(world: World) -> None:
    world.health.set(State.RUNNING)
    world.health.beat()
    world.now = 20.0
    assert (world.client.get("/livez").status_code, world.client.get("/readyz").status_code) == (200, 503)
    world.now = 200.0
    assert world.client.get("/livez").status_code == 503


def test_the_version_is_told(world: World) -> None:
    assert world.client.get("/version").json() == {"version": "1.2.3"}


def test_the_configuration_that_is_in_force_is_shown_without_its_secrets(world: World) -> None:
    in_force = CONFIG
    client = Client(create_app(world.registry, world.board, world.health, lambda: in_force, "1"))
    answer = client.get("/config")
    assert "hunter2" not in answer.text
    assert answer.json() == {
        "kafka": {"group_id": "watchers", "sasl_plain_password": "********"},
        "admin": {"port": 9464},
    }
    in_force = {"admin": {"port": 1}}
    assert client.get("/config").json() == in_force


def test_streams_come_in_pages_worst_first(world: World, judged: Make, alert: Make) -> None:
    world.board.observe([judged(f"s{i:03d}") for i in range(250)], "streamd.features", 0)
    world.board.observe([alert("s200", Severity.CRITICAL)], "streamd.features", 0)
    first = world.client.get("/streams").json()
    assert (first["total"], first["limit"], len(first["streams"])) == (250, 100, 100)
    assert first["streams"][0]["stream"] == "s200"
    assert first["streams"][0]["firing"][0]["summary"] == "s200: amount drifted up"
    last = world.client.get("/streams", params={"limit": 100, "offset": 200}).json()
    assert len(last["streams"]) == 50
    found = world.client.get("/streams", params={"search": "s24"}).json()
    assert found["total"] == 10


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=10001", "offset=1.5", "limit=", "limit=²"])
def test_a_page_that_makes_no_sense_is_refused_with_a_sentence(world: World, query: str) -> None:
    answer = world.client.get(f"/streams?{query}")
    assert answer.status_code == 400
    assert "must be a whole number" in answer.json()["error"]


def test_the_page_for_people_needs_nothing_from_elsewhere(world: World) -> None:
    answer = world.client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "innerHTML" not in answer.text
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert len(answer.content) < 40_000


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/version", "/config", "/streams"])
def test_nothing_can_be_changed_over_http(world: World, path: str) -> None:
    assert world.client.request("POST", path).status_code == 405


# --- A real socket ---


def test_a_server_answers_on_the_port_that_it_tells(server: AdminServer) -> None:
    host, port = server.address
    assert host == "127.0.0.1"
    assert port > 0
    assert httpx.get(f"{server.url}/version").json() == {"version": "1.2.3"}
    assert server.url == f"http://127.0.0.1:{port}"


def test_a_server_leaves_the_signals_alone(world: World) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    server = serve(world.app, "127.0.0.1", 0)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    server.stop()


def test_a_taken_port_is_told_with_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*STREAMD_ADMIN__PORT"):
            serve(Starlette(), "127.0.0.1", port)


def test_an_address_of_another_machine_is_told_with_the_cure() -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        serve(Starlette(), "192.0.2.1", 0)


def test_after_the_stop_nothing_answers_and_the_port_is_free_at_once(world: World) -> None:
    server = serve(world.app, "127.0.0.1", 0)
    with httpx.Client() as client:  # its connection stays open, so that it is the server who closes first
        client.get(f"{server.url}/version")
        server.stop()
        server.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/version")
        again = serve(world.app, *server.address)
        again.stop()


def test_a_client_that_holds_its_connection_does_not_hold_the_stop(server: AdminServer) -> None:
    with socket.create_connection(server.address) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")  # and never the rest
        httpx.get(f"{server.url}/version")
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 3.0
    assert not [thread for thread in threading.enumerate() if thread.name == "admin"]


def test_a_page_that_is_slow_does_not_hold_up_a_probe(world: World) -> None:
    """A handler waits on its worker thread while another request is answered."""
    hold, entered = threading.Event(), threading.Event()

    def slow_config() -> dict[str, Any]:
        entered.set()
        hold.wait(10)
        return {}

    server = serve(create_app(world.registry, world.board, world.health, slow_config, "1"), "127.0.0.1", 0)
    waiting = threading.Thread(target=lambda: httpx.get(f"{server.url}/config", timeout=10))
    waiting.start()
    assert entered.wait(10)
    assert httpx.get(f"{server.url}/livez").status_code == 200
    hold.set()
    waiting.join(10)
    server.stop()


@pytest.mark.slow
def test_an_answer_that_takes_for_ever_does_not_hold_the_stop(world: World) -> None:
    hold, entered = threading.Event(), threading.Event()

    def slow_config() -> dict[str, Any]:
        entered.set()
        hold.wait(10)
        return {}

    server = serve(create_app(world.registry, world.board, world.health, slow_config, "1"), "127.0.0.1", 0)
    with socket.create_connection(server.address) as client:
        client.sendall(b"GET /config HTTP/1.1\r\nHost: x\r\n\r\n")
        assert entered.wait(10)
        started = time.monotonic()
        server.stop()
        seconds = time.monotonic() - started
    running = [thread for thread in threading.enumerate() if thread.name == "admin"]
    hold.set()
    assert (seconds < 3.0, running) == (True, [])
