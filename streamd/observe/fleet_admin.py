"""The admin HTTP of a parent with workers: one answer for all of them, and each worker's own under /workers/N/.

Workers listen on 127.0.0.1 at ports that nobody chose, so whatever is to be seen from outside goes through here.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from streamd.model import Severity
from streamd.observe import families
from streamd.observe.admin import STREAMS_DEFAULT, STREAMS_MAX, Answers, json_response, whole_number
from streamd.observe.exposition import merged
from streamd.observe.health import Health, State
from streamd.observe.relay import ask, fetch

_SCRAPE_SECONDS = 5.0  # half of Prometheus' own patience: a worker that hangs must not cost the others' series
_PROBE_SECONDS = 2.0
_OF_PARENT = ("workers", "admin")  # sections that each worker has otherwise
_RANKS = {severity.word: int(severity) for severity in Severity}


@dataclass
class FleetWorker:
    """One worker, as its parent knows it: written by the parent's loop, read here.

    Attributes:
        number: from 0 on; the label `worker`.
        url: of its admin HTTP; None while it starts or is down.
        pid: None while it is down.
        restarts: how often it was started again.
    """

    number: int
    url: str | None = None
    pid: int | None = None
    restarts: int = 0

    @property
    def label(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class _Readiness:
    worker: FleetWorker
    ready: bool
    state: str
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        worker = self.worker
        return {
            "worker": worker.number,
            "pid": worker.pid,
            "restarts": worker.restarts,
            "ready": self.ready,
            "state": self.state,
            "reasons": list(self.reasons),
        }


class _OfFleet(Answers):
    """What the parent answers. See `create_fleet_app`."""

    def __init__(
        self, workers: Sequence[FleetWorker], health: Health, config: Callable[[], Mapping[str, Any]], version: str
    ) -> None:
        super().__init__(health, config, version)
        self._workers = workers

    async def metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        answers = await _from_all(self._workers, "/metrics", {"accept": accept}, _SCRAPE_SECONDS)
        pages = {worker: body.decode() for worker, (status, body) in answers.items() if status == 200}
        encode, content_type = choose_encoder(accept)
        registry = CollectorRegistry()
        registry.register(_WorkerSamples([(worker, n in pages) for n, worker in enumerate(self._workers)]))
        own = (None, encode(registry).decode())
        text = merged([own, *((self._workers[n].label, page) for n, page in pages.items())])
        return Response(text, media_type=None, headers={"content-type": content_type})

    async def readyz(self, _request: Request) -> Response:
        of_workers = await _readiness(self._workers)
        others = [r for r in of_workers if r.state != State.RUNNING]
        reasons = [f"worker {r.worker.number}: {reason}" for r in others for reason in r.reasons or (r.state,)]
        state = others[0].state if others else State.RUNNING.value
        own = self.health.report()
        if own.state is State.DRAINING:
            state, reasons = own.state.value, [*own.reasons, *reasons]
        ready = own.state is not State.DRAINING and all(r.ready for r in of_workers)
        body = {
            "ready": ready,
            "state": state,
            "reasons": reasons,
            "workers": [r.as_json() for r in of_workers],
        }
        return json_response(body, 200 if ready else 503)

    async def streams(self, request: Request) -> Response:
        try:
            limit = whole_number(request, "limit", STREAMS_DEFAULT, STREAMS_MAX)
            offset = whole_number(request, "offset", 0, STREAMS_MAX - limit)  # each worker is asked for all up to here
        except ValueError as error:
            return json_response({"error": str(error)}, 400)
        target = f"/streams?limit={limit + offset}&search={quote(request.query_params.get('search', ''))}"
        answers = await _from_all(self._workers, target, {}, _SCRAPE_SECONDS)
        pages = [orjson.loads(body) for status, body in answers.values() if status == 200]
        found = sorted((stream for page in pages for stream in page["streams"]), key=_worst_first)
        return json_response(
            {
                "total": sum(page["total"] for page in pages),
                "offset": offset,
                "limit": limit,
                "streams": found[offset : offset + limit],
                "unanswered": [worker.number for n, worker in enumerate(self._workers) if n not in answers],
            }
        )

    async def config(self, _request: Request) -> Response:
        """A worker's, for they reload, with what is the parent's own; where none answers, that of the start."""
        answers = await _from_all(self._workers, "/config", {}, _PROBE_SECONDS)
        told = [orjson.loads(body) for status, body in answers.values() if status == 200]
        own = self.in_force()
        return json_response({**told[0], **{name: own[name] for name in _OF_PARENT}} if told else own)

    async def page(self, _request: Request) -> Response:
        return HTMLResponse(_page(await _readiness(self._workers)), headers={"content-security-policy": _PAGE_POLICY})

    async def of_worker(self, request: Request) -> Response:
        number = request.path_params["number"]
        url = self._workers[number].url if number < len(self._workers) else None
        if url is None:
            reason, status = ("is not up", 503) if number < len(self._workers) else ("is none of ours", 404)
            return json_response({"error": f"worker {number} {reason}"}, status)
        return await _relayed(url, request)


def create_fleet_app(
    workers: Sequence[FleetWorker], health: Health, config: Callable[[], Mapping[str, Any]], version: str
) -> Starlette:
    """The application.

    Args:
        workers: all of them, by number.
        health: of the parent: its loop beats.
        config, version: see `Answers`.
    """
    answers = _OfFleet(workers, health, config, version)
    return Starlette(
        routes=[
            Route("/", answers.page),
            Route("/metrics", answers.metrics),
            Route("/livez", answers.livez),
            Route("/readyz", answers.readyz),
            Route("/version", answers.version),
            Route("/config", answers.config),
            Route("/streams", answers.streams),
            Route("/workers/{number:int}/{path:path}", answers.of_worker),
        ]
    )


async def _from_all(
    workers: Sequence[FleetWorker], target: str, headers: Mapping[str, str], seconds: float
) -> dict[int, tuple[int, bytes]]:
    """Status and body of each worker that answers, by its number."""
    found = await asyncio.gather(*(fetch(worker.url, target, headers, seconds) for worker in workers))
    return {n: answer for n, answer in enumerate(found) if answer is not None}


async def _readiness(workers: Sequence[FleetWorker]) -> list[_Readiness]:
    answers = await _from_all(workers, "/readyz", {}, _PROBE_SECONDS)
    found = []
    for n, worker in enumerate(workers):
        if n in answers:
            said = orjson.loads(answers[n][1])
            found.append(_Readiness(worker, said["ready"], said["state"], tuple(said["reasons"])))
        else:
            reason = "does not answer" if worker.url else "starts" if worker.pid else "ended, and waits to be started"
            found.append(_Readiness(worker, False, State.STARTING.value, (reason,)))
    return found


class _WorkerSamples(Collector):
    """What only the parent knows, at this scrape: which workers answered, how often each was started again."""

    def __init__(self, workers: Iterable[tuple[FleetWorker, bool]]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        up, restarts = families.WORKER_UP, families.WORKER_RESTARTS
        answered = GaugeMetricFamily(up.name, up.help, labels=up.labels)
        restarted = CounterMetricFamily(restarts.name, restarts.help, labels=restarts.labels)
        for worker, answers in self._workers:
            answered.add_metric((worker.label,), answers)
            restarted.add_metric((worker.label,), worker.restarts)
        return [answered, restarted]


def _worst_first(stream: Mapping[str, Any]) -> tuple[int, int, str]:
    """The order of Board.page."""
    return -_RANKS[stream["severity"]], -(stream["event_time_ms"] or 0), stream["stream"]


async def _relayed(url: str, request: Request) -> Response:
    """The worker's own answer, as it comes: its live page gets events for as long as it is open."""
    target = "/" + quote(request.path_params["path"])
    if request.url.query:
        target += f"?{request.url.query}"
    headers = {name: request.headers[name] for name in ("accept", "last-event-id") if name in request.headers}
    try:
        async with asyncio.timeout(_SCRAPE_SECONDS):
            answer = await ask(url, target, headers)
    except (OSError, TimeoutError) as error:
        return json_response({"error": f"the worker does not answer: {error}"}, 502)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.chunks():
                yield chunk
        except OSError:
            return  # the worker has ended: so does its answer

    return StreamingResponse(chunks(), answer.status, answer.headers)


_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STYLE = """
:root{color-scheme:light dark}
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:60rem;padding:0 1rem}
h1{font-size:1.2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}
"""


def _page(of_workers: Sequence[_Readiness]) -> str:
    rows = "".join(
        f'<tr><td><a href="workers/{r.worker.number}/">worker {r.worker.number}</a></td>'
        f"<td>{html.escape(r.state.replace('_', ' '))}</td><td>{html.escape(' — '.join(r.reasons))}</td>"
        f"<td>{r.worker.pid or ''}</td><td>{r.worker.restarts}</td></tr>"
        for r in of_workers
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5"><title>streamd</title><style>{_STYLE}</style></head>
<body><h1>streamd: {len(of_workers)} workers</h1>
<p>Each stream is watched by one of them, whose live page shows it. For all together: <a href="streams">streams</a>,
<a href="metrics">metrics</a>, <a href="readyz">ready?</a>, <a href="config">config</a></p>
<table><thead><tr><th>Live page</th><th>State</th><th>Why</th><th>Process</th><th>Restarts</th></tr></thead>
<tbody>{rows}</tbody></table></body></html>
"""
