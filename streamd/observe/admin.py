"""The admin HTTP: metrics, probes, what is watched. Read-only, on a thread and an event loop of its own.

Handlers are plain functions, which starlette runs on worker threads: a slow page never holds up a probe.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from streamd.errors import ConfigError
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.live.feed import Feed
from streamd.observe.live.page import CONTENT_SECURITY_POLICY, PAGE
from streamd.observe.logs import mask
from streamd.observe.settings import url_of

log = structlog.get_logger("streamd.admin")

STREAMS_DEFAULT = 100
STREAMS_MAX = 10_000  # in one answer: some megabytes

_PAGE_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_UNREAD_SECONDS = 20.0  # a client that takes nothing of what waits for it for so long is ended by the kernel
_START_SECONDS = 10.0
_STOP_SECONDS = 3.0


class Answers:
    """What every streamd answers, whatever it is asked about: a process, or a parent of many.

    Args:
        health: what the probes ask; none of it asks the broker.
        config: gives what is in force; its secrets are masked here once more, by their keys.
        version: of streamd.
    """

    def __init__(self, health: Health, config: Callable[[], Mapping[str, Any]], version: str) -> None:
        self.health = health
        self._config = config
        self._version = version

    def livez(self, _request: Request) -> Response:
        report = self.health.report()
        return json_response({"live": report.live, "beat_seconds": report.beat_seconds}, 200 if report.live else 503)

    def version(self, _request: Request) -> Response:
        return json_response({"version": self._version})

    def in_force(self) -> dict[str, Any]:
        """The configuration, secrets masked."""
        shown: dict[str, Any] = mask(self._config())
        return shown


class _OfProcess(Answers):
    """What one process answers. See `create_app`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        board: Board,
        health: Health,
        config: Callable[[], Mapping[str, Any]],
        version: str,
    ) -> None:
        super().__init__(health, config, version)
        self._registry = registry
        self._board = board

    def metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), media_type=None, headers={"content-type": content_type})

    def readyz(self, _request: Request) -> Response:
        report = self.health.report()
        body = {"ready": report.ready, "state": report.state.value, "reasons": list(report.reasons)}
        return json_response(body, 200 if report.ready else 503)

    def config(self, _request: Request) -> Response:
        return json_response(self.in_force())

    def streams(self, request: Request) -> Response:
        try:
            limit = whole_number(request, "limit", STREAMS_DEFAULT, STREAMS_MAX)
            offset = whole_number(request, "offset", 0, 2**31)
        except ValueError as error:
            return json_response({"error": str(error)}, 400)
        return json_response(self._board.page(limit, offset, request.query_params.get("search", "")))

    def page(self, _request: Request) -> Response:
        return HTMLResponse(PAGE, headers=_PAGE_HEADERS)


def create_app(
    registry: CollectorRegistry,
    board: Board,
    health: Health,
    config: Callable[[], Mapping[str, Any]],
    version: str,
) -> Starlette:
    """The application.

    Args:
        registry: what `/metrics` shows.
        board: what `/streams` shows.
        health, config, version: see `Answers`.
    """
    answers = _OfProcess(registry, board, health, config, version)
    feed = Feed(board, health)
    app = Starlette(
        routes=[
            Route("/", answers.page),
            Route("/metrics", answers.metrics),
            Route("/livez", answers.livez),
            Route("/readyz", answers.readyz),
            Route("/version", answers.version),
            Route("/config", answers.config),
            Route("/streams", answers.streams),
            Route("/events", feed, methods=["GET"]),
        ]
    )
    app.state.feed = feed
    return app


class AdminServer:
    """uvicorn on a thread of its own.

    Args:
        app: what to serve.
        host, port: where; port 0 takes any free one.
    """

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.address: tuple[str, int] = (host, port)
        """Host and port that it listens on; the real port once it is started."""

    @property
    def url(self) -> str:
        return url_of(*self.address)

    def start(self) -> None:
        """Listen and serve; returns when requests are answered.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        listener = _listener(self._host, self._port)
        self.address = listener.getsockname()[:2]
        # No log_config: uvicorn's lines go where all others go. A loop of its own kind is not needed: asyncio's.
        settings = uvicorn.Config(
            self._app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            limit_concurrency=100,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(settings, getattr(self._app.state, "feed", None))
        # A daemon thread: a reader that never finishes must not hold the process when it is told to go.
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="admin", daemon=True)
        self._thread.start()
        if not self._server.answering.wait(_START_SECONDS):
            raise RuntimeError(f"the admin server did not start within {_START_SECONDS:.0f} s")

    def stop(self) -> None:
        """Stop listening and end what is open, within three seconds. May be called twice, or without `start`."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("the admin server did not end in time; it ends with the process")
        self._server = self._thread = None


def serve(app: Starlette, host: str, port: int) -> AdminServer:
    """A started AdminServer. Raises ConfigError where the address cannot be listened on."""
    server = AdminServer(app, host, port)
    server.start()
    return server


class _Server(uvicorn.Server):
    """Says when it answers. Off the main thread uvicorn touches no signal."""

    def __init__(self, config: uvicorn.Config, feed: Feed | None) -> None:
        super().__init__(config)
        self.answering = threading.Event()
        self._feed = feed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._feed is not None:  # its answers never end by themselves
            self._feed.close()
        await super().shutdown(sockets)


def _listener(host: str, port: int) -> socket.socket:
    """A socket bound here and now, so that a taken port is told before anything else begins."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # Otherwise a restart would wait for the connections of the last process to be forgotten.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * _UNREAD_SECONDS))
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        remedy = "set admin.port (STREAMD_ADMIN__PORT) to a free port, or to 0 for any"
        if isinstance(error, socket.gaierror):
            remedy = "set admin.host to an address of this machine"
        reason = error.strerror or str(error)
        raise ConfigError(f"admin: cannot listen on {host}:{port} ({reason}); {remedy}") from error
    return listener


def whole_number(request: Request, name: str, default: int, maximum: int) -> int:
    """A number of the query. Raises ValueError with a sentence for whoever asked."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= maximum):
        raise ValueError(f"{name} must be a whole number from 0 to {maximum}, not {text[:40]!r}")
    return int(text)


def json_response(body: Any, status: int = 200) -> Response:
    """An answer that nobody may keep for later."""
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(body, default=str), status, headers, media_type="application/json")
