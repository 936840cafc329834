"""What a parent answers for its workers, which are real servers here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from streamd.model import Severity
from streamd.observe.admin import AdminServer, create_app, serve
from streamd.observe.board import Board
from streamd.observe.families import FLEET_FAMILIES
from streamd.observe.fleet_admin import FleetWorker, create_fleet_app
from streamd.observe.health import Health, State
from streamd.observe.metrics import Metrics
from streamd.observe.settings import MetricSettings

Make = Callable[..., Any]
TOPIC = "streamd.features"
CONFIG = {"workers": 2, "admin": {"port": 9464}, "kafka": {"sasl_password": "hunter2"}}
RELOADED = {"workers": 1, "admin": {"port": 0}, "kafka": {"sasl_password": "hunter3"}, "policy": {"mode": "enforce"}}


class Worker:
    """One worker's own admin HTTP and what is behind it."""

    def __init__(self) -> None:
        self.board = Board()
        self.health = Health()
        self.health.set(State.RUNNING)
        registry = CollectorRegistry()
        self.metrics = Metrics(registry, MetricSettings(), self.board)
        self.server = serve(create_app(registry, self.board, self.health, lambda: RELOADED, "1"), "127.0.0.1", 0)


class Fleet:
    """A parent of two."""

    def __init__(self) -> None:
        self.workers = [Worker(), Worker()]
        self.known = [FleetWorker(n, worker.server.url, 100 + n) for n, worker in enumerate(self.workers)]
        self.now = 0.0
        self.health = Health(lambda: self.now)
        self.app = create_fleet_app(self.known, self.health, lambda: CONFIG, "1.2.3")

    def get(self, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://streamd") as client:
                return await client.get(path, **options)

        return asyncio.run(ask())

    def samples(self, name: str) -> dict[str, float]:
        """The values of one metric by worker."""
        families = parse_prometheus(self.get("/metrics").text)
        return {s.labels["worker"]: s.value for family in families for s in family.samples if s.name == name}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    for worker in fleet.workers:
        worker.server.stop()


@pytest.fixture
def serving() -> Iterator[Callable[[Starlette], AdminServer]]:
    servers: list[AdminServer] = []

    def make(app: Starlette) -> AdminServer:
        servers.append(serve(app, "127.0.0.1", 0))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def test_one_page_has_the_metrics_of_every_worker(fleet: Fleet) -> None:
    for n, worker in enumerate(fleet.workers):
        worker.metrics.engine_sizes(streams=10 + n, state_bytes=1)
    assert fleet.samples("streamd_streams") == {"0": 10.0, "1": 11.0}
    assert fleet.samples("streamd_worker_up") == {"0": 1.0, "1": 1.0}


def test_openmetrics_is_told_to_who_asks_for_it(fleet: Fleet) -> None:
    answer = fleet.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(answer.text)}
    assert len(families["streamd_broker_up"].samples) == 2
    for family in FLEET_FAMILIES:
        found = families[family.name.removesuffix("_total")]
        assert (found.type, found.documentation) == (family.kind, family.help)
        assert {tuple(sample.labels) for sample in found.samples} == {family.labels}


@pytest.mark.parametrize("down", ["it has no address", "nobody listens at its address"])
def test_a_worker_that_is_down_has_no_series_and_is_told_apart(fleet: Fleet, down: str) -> None:
    fleet.workers[1].server.stop()
    if down == "it has no address":
        fleet.known[1].url = None
    fleet.known[1].restarts = 3
    assert fleet.samples("streamd_streams").keys() == {"0"}
    assert fleet.samples("streamd_worker_up") == {"0": 1.0, "1": 0.0}
    assert fleet.samples("streamd_worker_restarts_total") == {"0": 0.0, "1": 3.0}


def test_it_is_ready_when_all_are(fleet: Fleet) -> None:
    answer = fleet.get("/readyz")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["ready"], body["state"], body["reasons"]) == (True, "running", [])
    assert [(w["worker"], w["pid"], w["ready"]) for w in body["workers"]] == [(0, 100, True), (1, 101, True)]


def test_who_is_not_ready_is_told_and_why(fleet: Fleet) -> None:
    fleet.workers[1].health.set(State.RESTORING, "partition 3 is read again")
    answer = fleet.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["state"] == "restoring"
    assert answer.json()["reasons"] == ["worker 1: partition 3 is read again"]


def test_a_worker_that_is_down_makes_it_unready_but_not_dead(fleet: Fleet) -> None:
    fleet.known[0].url = fleet.known[0].pid = None
    assert fleet.get("/readyz").json()["reasons"] == ["worker 0: ended, and waits to be started"]
    assert fleet.get("/livez").status_code == 200


def test_a_parent_that_drains_is_not_ready(fleet: Fleet) -> None:
    fleet.health.set(State.DRAINING, "the process was told to stop")
    answer = fleet.get("/readyz")
    assert (answer.status_code, answer.json()["state"]) == (503, "draining")


def test_a_parent_whose_loop_hangs_is_not_live(fleet: Fleet) -> None:
    fleet.health.beat()
    fleet.now = 200.0
    assert fleet.get("/livez").status_code == 503


def test_the_streams_of_all_come_in_pages_in_the_order_of_one_board(fleet: Fleet, judged: Make, alert: Make) -> None:
    one = Board()
    for i in range(40):
        effects = [judged(f"s{i:02d}", event_time_ms=1_000 * (i % 7))]
        if i % 9 == 0:
            effects.append(alert(f"s{i:02d}", Severity(1 + i % 3)))
        for board in (one, fleet.workers[i % 2].board):
            board.observe(effects, TOPIC, i % 2)
    for limit, offset, search in ((100, 0, ""), (7, 0, ""), (7, 7, ""), (7, 35, ""), (5, 0, "s1"), (5, 50, "")):
        query = {"limit": limit, "offset": offset, "search": search}
        expected = one.page(limit, offset, search)
        assert fleet.get("/streams", params=query).json() == {**expected, "unanswered": []}
    assert fleet.get("/streams", params={"limit": 10_000, "offset": 1}).status_code == 400
    fleet.known[1].url = None
    assert (fleet.get("/streams").json()["total"], fleet.get("/streams").json()["unanswered"]) == (20, [1])


def test_secrets_are_masked_and_the_version_is_told(fleet: Fleet) -> None:
    assert fleet.get("/config").json()["kafka"] == {"sasl_password": "********"}
    assert fleet.get("/version").json() == {"version": "1.2.3"}


def test_the_configuration_is_what_the_workers_have_in_force_since_they_reload(fleet: Fleet) -> None:
    masked = {"kafka": {"sasl_password": "********"}, "workers": 2, "admin": {"port": 9464}}
    assert fleet.get("/config").json() == {**masked, "policy": {"mode": "enforce"}}
    for worker in fleet.known:
        worker.url = None
    assert fleet.get("/config").json() == masked


def test_the_page_links_each_worker_and_shows_no_markup_of_others(fleet: Fleet) -> None:
    fleet.workers[1].health.set(State.RESTORING, "<script>alert(1)</script>")
    text = fleet.get("/").text
    assert 'href="workers/0/"' in text
    assert 'href="workers/1/"' in text
    assert "<script>" not in text


def test_each_worker_is_reached_through_the_parent(fleet: Fleet, judged: Make) -> None:
    fleet.workers[1].board.observe([judged("a/1")], TOPIC, 0)
    assert fleet.get("/workers/1/streams", params={"search": "a/"}).json()["total"] == 1
    assert fleet.get("/workers/0/streams", params={"limit": "x"}).status_code == 400
    direct = httpx.get(fleet.workers[1].server.url)
    through = fleet.get("/workers/1/")
    assert through.text == direct.text
    assert through.headers["content-security-policy"] == direct.headers["content-security-policy"]


def test_a_worker_that_cannot_be_asked_is_a_sentence(fleet: Fleet) -> None:
    assert fleet.get("/workers/2/").status_code == 404
    fleet.known[0].url = None
    assert fleet.get("/workers/0/").status_code == 503
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        fleet.known[0].url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert fleet.get("/workers/0/").status_code == 502


def test_what_is_asked_for_arrives_as_it_was_asked(fleet: Fleet, serving: Callable[[Starlette], AdminServer]) -> None:
    """Odd characters of a path stay in the path: they begin neither a query nor a header."""
    seen: list[tuple[str, str, list[str]]] = []

    def note(request: Request) -> Response:
        seen.append((request.path_params["path"], request.url.query, sorted(request.headers)))
        return PlainTextResponse("")

    fleet.known[0].url = serving(Starlette(routes=[Route("/{path:path}", note)])).url
    fleet.get("/workers/0/a%3Fb%20c/%C3%BC?d=e%20f", headers={"cookie": "mine", "last-event-id": "7"})
    fleet.get("/workers/0/a%0dX-Evil:%201")
    assert seen == [
        ("a?b c/ü", "d=e%20f", ["accept", "host", "last-event-id"]),
        ("a\rX-Evil: 1", "", ["accept", "host"]),
    ]


@pytest.mark.slow
def test_events_are_passed_on_as_they_come(fleet: Fleet, serving: Callable[[Starlette], AdminServer]) -> None:
    """The second is only sent when the first has arrived."""
    arrived = asyncio.Event()

    async def two() -> AsyncIterator[bytes]:
        yield b"data: one\n\n"
        while not arrived.is_set():
            await asyncio.sleep(0.01)
        yield b"data: two\n\n"

    def events(_request: Request) -> Response:
        return StreamingResponse(two(), media_type="text/event-stream")

    fleet.known[0].url = serving(Starlette(routes=[Route("/events", events)])).url
    parent = serving(fleet.app)
    with httpx.stream("GET", f"{parent.url}/workers/0/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        chunks = answer.iter_bytes()
        assert next(chunks) == b"data: one\n\n"
        arrived.set()
        assert b"".join(chunks) == b"data: two\n\n"
