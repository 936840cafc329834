"""Server-sent events for people who look: what is on their screen, and of that only what changed.

    Board ──standings, once a second for all──▶ order, counts ──page of one client──▶ rows that it has not seen ──▶

A client names what it looks at in the address and connects anew to look at something else, so that nothing is kept
for anyone but what was sent last. A frame, `event: frame`, is JSON whose keys are there when they are news: `now_ms`,
`health`, `counts` (streams in each state), `found` (streams after search and state), `offset`, `order` (the keys of
the page, worst first), `rows` (by key), `detail` (of the stream that is open; null: it is gone). Without news for
five seconds comes `event: beat`.

Nothing here runs on the pump's thread. Clients are bounded; one that does not read is ended by the listener's time
limit (`admin`), and holds 64 KB and a frame until then.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from streamd.model import JsonValue
from streamd.observe.board import Board, Standing
from streamd.observe.health import Health
from streamd.observe.live import wire

CLIENTS_MAX = 32
PAGE_MAX = 200
_PAGE_DEFAULT = 50
_SEARCH_CHARACTERS_MAX = 200
_TICK_SECONDS = 1.0
_BEAT_SECONDS = 5.0
_SHARE = 10.0  # ordering ten thousand streams may take a tenth of a core, however slow that core is


class Ranked(NamedTuple):
    """All streams at one moment, worst first, each with its state."""

    streams: list[tuple[str, Standing]]
    counts: dict[str, int]


@dataclass
class Looker:
    """What one client looks at, and what it was sent last."""

    search: str = ""
    state: str = ""
    offset: int = 0
    limit: int = _PAGE_DEFAULT
    open: str = ""
    sent: dict[str, JsonValue] = field(default_factory=dict)
    rows: dict[str, tuple[int, str]] = field(default_factory=dict)  # key -> its revision and state

    @classmethod
    def of(cls, query: QueryParams) -> Looker:
        """Raises ValueError, with a sentence, where the query makes no sense."""
        state = query.get("state", "")
        if state not in ("", *wire.STATES):
            raise ValueError(f"state must be one of {', '.join(wire.STATES)}")
        offset, limit = (query.get(name, str(default)) for name, default in (("offset", 0), ("limit", _PAGE_DEFAULT)))
        for name, text in (("offset", offset), ("limit", limit)):
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise ValueError(f"{name} must be a whole number")
        search = query.get("search", "")[:_SEARCH_CHARACTERS_MAX].casefold()
        return cls(search, state, int(offset), max(1, min(int(limit), PAGE_MAX)), query.get("open", ""))


class Feed:
    """The endpoint, an ASGI application.

    Args:
        board: what is shown.
        health: how the process is.
        clock: epoch seconds.

    Attributes:
        clients: how many look now.
    """

    def __init__(self, board: Board, health: Health, clock: Callable[[], float] = time.time) -> None:
        self.clients = 0
        self._board = board
        self._health = health
        self._clock = clock
        self._closing = asyncio.Event()
        self._lock = threading.Lock()
        self._ranked = Ranked([], {})
        self._rank_again = 0.0

    def close(self) -> None:
        """End every client's stream. On the event loop."""
        self._closing.set()

    # --- HTTP ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            looker = Looker.of(QueryParams(scope["query_string"]))
        except ValueError as error:
            await JSONResponse({"error": str(error)}, 400)(scope, receive, send)
            return
        if self.clients >= CLIENTS_MAX:
            sentence = f"{CLIENTS_MAX} live views are open already; close one"
            await JSONResponse({"error": sentence}, 503, {"retry-after": "5"})(scope, receive, send)
            return
        self.clients += 1
        try:
            await self._serve(looker, receive, send)
        finally:
            self.clients -= 1

    async def _serve(self, looker: Looker, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # a proxy that collects would show nothing for minutes
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        ends = [asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._closing.wait())]
        try:
            text, beat_at = b"retry: 2000\n\n", 0.0
            while not any(end.done() for end in ends):
                frame = await asyncio.to_thread(self.frame, looker)
                now = asyncio.get_running_loop().time()
                if frame:
                    text += b"event: frame\ndata: " + orjson.dumps(frame) + b"\n\n"
                elif now >= beat_at:
                    text += b"event: beat\ndata:\n\n"
                if text:
                    beat_at = now + _BEAT_SECONDS
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                    text = b""
                await asyncio.wait(ends, timeout=_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            for end in ends:
                end.cancel()

    # --- Frames ---

    def frame(self, looker: Looker) -> dict[str, JsonValue]:
        """What is news to this client; on any thread, one at a time for each client."""
        ranked = self._ranking()
        found = ranked.streams
        if looker.state:
            found = [each for each in found if each[0] == looker.state]
        if looker.search:
            found = [each for each in found if looker.search in each[1].stream.casefold()]
        offset = min(looker.offset, max(0, len(found) - 1) // looker.limit * looker.limit)
        page = found[offset : offset + looker.limit]
        report = self._health.report()
        known: dict[str, JsonValue] = {
            "health": {"state": report.state.value, "ready": report.ready, "reasons": list(report.reasons)},
            "counts": dict(ranked.counts),
            "found": len(found),
            "offset": offset,
            "order": [wire.key_of(standing.place, standing.stream) for _, standing in page],
        }
        if looker.open:
            known["detail"] = self._detail(looker.open)
        news = {name: value for name, value in known.items() if name not in looker.sent or looker.sent[name] != value}
        looker.sent |= news
        rows = self._rows(looker, page)
        if rows:
            news["rows"] = rows
        if news:
            news["now_ms"] = int(self._clock() * 1000)
        return news

    def _rows(self, looker: Looker, page: list[tuple[str, Standing]]) -> dict[str, JsonValue]:
        """Of the page's streams those that changed since the client was told of them."""
        rows: dict[str, JsonValue] = {}
        before, looker.rows = looker.rows, {}
        for state, standing in page:
            key = wire.key_of(standing.place, standing.stream)
            looker.rows[key] = (standing.revision, state)
            if before.get(key) == looker.rows[key]:
                continue
            view = self._board.view(standing.place, standing.stream)
            if view is not None:
                rows[key] = wire.row(view, state)
        return rows

    def _detail(self, key: str) -> JsonValue:
        place = wire.place_of(key)
        view = None if place is None else self._board.view(*place)
        return None if view is None else wire.detail(view, self._board.looks.ask(wire.question(view)))

    def _ranking(self) -> Ranked:
        """All streams, worst first: worked out once a second for all who look, not for each."""
        with self._lock:
            started = time.monotonic()
            if started < self._rank_again:
                return self._ranked
            now = self._clock()
            streams = [(wire.state_of(each, each.judged, now), each) for each in self._board.standings()]
            streams.sort(key=lambda each: wire.order_of(each[1], each[0]))
            counts: Counter[str] = Counter(state for state, _ in streams)
            self._ranked = Ranked(streams, {state: counts[state] for state in wire.STATES if counts[state]})
            ended = time.monotonic()
            self._rank_again = ended + max(0.9 * _TICK_SECONDS, _SHARE * (ended - started))
            return self._ranked


async def _gone(receive: Receive) -> None:
    """Returns when the client has left."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
