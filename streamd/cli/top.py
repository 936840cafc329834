"""`streamd top`: the live view in a terminal, fed by the same events as the page."""

from __future__ import annotations

import math
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING, Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import orjson
import typer

from streamd.cli.text import clipped, printable
from streamd.errors import TransientError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_SILENT_SECONDS = 15.0  # the daemon beats every five
_AGAIN_SECONDS = 2.0
_ONCE_ROWS = 200  # what the endpoint gives at once
_COLORS = {"critical": "bold red", "warning": "yellow", "info": "cyan", "stale": "magenta", "quiet": "green"}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_THRESHOLD = 64  # a trace's byte that means "at the threshold"; half of a block's height
_TRACE_CHARACTERS = 12
_STATE_CHARACTERS = 8
_WIDTHS = (6, 6, 14, 7)  # of value, limit, column, heard


def command(
    url: Annotated[str, typer.Option(help="The daemon's admin address.")] = "http://127.0.0.1:9464",
    once: Annotated[bool, typer.Option("--once", help="Print the streams as they are now, and end.")] = False,
    search: Annotated[str, typer.Option(help="Only streams with this in their name.")] = "",
) -> None:
    """Show the streams of a running daemon, worst first. Keys: n and p turn the page, q quits.

    What is not a terminal gets the table once.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        screen = Screen()
        screen.take(next(frames(url, {"search": search, "limit": _ONCE_ROWS})))
        console.print(screen.table(console.width), soft_wrap=True)
        return
    try:
        _watch(console, url, search)
    except KeyboardInterrupt:
        return  # how one ends it


# --- Events ---


def frames(url: str, query: Mapping[str, str | int]) -> Iterator[dict[str, Any]]:
    """What `/events` sends, for as long as it does; {} for a beat. Raises TransientError where it does not."""
    wanted = urlencode({name: value for name, value in query.items() if value != ""})
    try:
        # No proxy: the daemon is near, whatever HTTP_PROXY says.
        with build_opener(ProxyHandler({})).open(f"{url.rstrip('/')}/events?{wanted}", timeout=_SILENT_SECONDS) as said:
            if said.headers.get_content_type() != "text/event-stream":
                raise TransientError(f"what answers at {url} is no streamd")
            for line in said:
                if line.startswith(b"data:"):
                    yield orjson.loads(line[5:].strip() or b"{}")
    except HTTPError as error:
        with error:
            raise TransientError(f"no live view at {url}: {_reason(error)}") from error
    except (URLError, OSError, HTTPException, ValueError) as error:  # ValueError: cut within a line, or no address
        reason = getattr(error, "reason", error)
        sentence = getattr(reason, "strerror", None) or reason
        raise TransientError(f"streamd does not answer at {url}: {sentence}; is it running, is --url right?") from error
    raise TransientError(f"streamd at {url} has ended")


def _reason(error: HTTPError) -> str:
    try:
        return str(orjson.loads(error.read())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error}; of several workers, name one: --url …/workers/0" if error.code == 404 else str(error)


# --- The screen ---


@dataclass
class Screen:
    """What the events have told so far."""

    known: dict[str, Any] = field(default_factory=lambda: {"counts": {}, "order": [], "found": 0, "offset": 0})
    rows: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def take(self, frame: Mapping[str, Any]) -> None:
        self.problem = ""
        self.rows |= frame.get("rows", {})
        self.known |= {name: value for name, value in frame.items() if name != "rows"}
        self.rows = {key: self.rows[key] for key in self.known["order"] if key in self.rows}

    def table(self, width: int, height: int | None = None) -> Text:
        """Everything, in `width` columns and `height` lines; sentences where there is room for them."""
        from rich.text import Text

        room = len(self.rows) if height is None else height - 4 - len(self.rows)
        lines = [
            self._head(),
            Text(),
            _line(width, "dim", "state", "stream", "lately", "value", "limit", "column", "heard"),
        ]
        for row in self.rows.values():
            lines.append(self._row(row, width))
            if row["firing"] and room > 0:
                room -= 1
                sentence = clipped(printable(row["sentence"]), max(20, width - _STATE_CHARACTERS - 1))
                lines.append(Text(" " * (_STATE_CHARACTERS + 1) + sentence, _COLORS.get(row["state"], "")))
        return Text("\n", no_wrap=True, overflow="crop").join([*lines, Text(self._foot(), "dim")])

    def _row(self, row: Mapping[str, Any], width: int) -> Text:
        color = _COLORS.get(row["state"], "dim")
        heard = _ago(row, self.known.get("now_ms", 0))
        if "step" in row:  # a training run: its loss, and no limit to it
            value, limit, column = _short(row["loss"]), "", f"step {row['step']}"
            trace = _trace(row["trace"], color, math.inf)
        else:
            value, limit, column = _short(row.get("effect")), _short(row.get("threshold")), row.get("column") or ""
            trace = _trace(row["trace"], color)
        line = _line(width, "", row["state"], row["stream"], trace, value, limit, column, heard)
        line.stylize(color, 0, _STATE_CHARACTERS)
        return line

    def _head(self) -> Text:
        from rich.text import Text

        health = self.known.get("health", {})
        head = Text.assemble(("streamd", "bold"), "  ")
        state = self.problem or ": ".join([health.get("state", "").replace("_", " "), *health.get("reasons", ())])
        head.append(printable(state), "green" if health.get("ready") and not self.problem else "red")
        for word, count in self.known["counts"].items():
            head.append(f"   {count:,} ", "bold")
            head.append(word, _COLORS.get(word, "dim"))
        return head

    def _foot(self) -> str:
        found, first = self.known["found"], self.known["offset"]
        if not found:
            return "no stream yet" if not self.known["counts"] else "no stream is like that"
        return f"{first + 1:,} to {first + len(self.known['order']):,} of {found:,}, worst first"


def _line(width: int, style: str, state: str, stream: str, trace: Text | str, *others: str) -> Text:
    """Cells side by side, the stream's as wide as the others leave it."""
    from rich.cells import set_cell_size
    from rich.text import Text

    value, limit, column, heard = others
    stream_width = max(8, width - _STATE_CHARACTERS - _TRACE_CHARACTERS - sum(_WIDTHS) - 6)
    line = Text(style=style)
    for text, size in ((state, _STATE_CHARACTERS), (_fitted(stream, stream_width), stream_width)):
        line.append(set_cell_size(text, size) + " ")
    line.append(trace if isinstance(trace, Text) else Text(trace.ljust(_TRACE_CHARACTERS))).append(" ")
    for text, size in zip((value, limit, column), _WIDTHS[:3], strict=True):
        line.append(set_cell_size(_fitted(text, size), size) + " ")
    return line.append(heard.rjust(_WIDTHS[3]))


def _fitted(text: str, cells: int) -> str:
    """What a terminal may show of it; `…` at the end where something is missing."""
    from rich.cells import cell_len, set_cell_size

    text = printable(text)
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"


def _trace(points: list[int | None], color: str, loud: float = _THRESHOLD) -> Text:
    """The latest points, each the largest of its share of them; what reaches `loud` in colour, no number as `!`."""
    from rich.text import Text

    text = Text(" " * max(0, _TRACE_CHARACTERS - len(points)))
    recent = points[-_TRACE_CHARACTERS * max(1, len(points) // _TRACE_CHARACTERS) :]
    step = max(1, len(recent) // _TRACE_CHARACTERS)
    for start in range(0, len(recent), step):
        part = recent[start : start + step]
        known = [point for point in part if point is not None]
        if len(known) < len(part):
            text.append("!", _COLORS["critical"])
            continue
        point = max(known)
        text.append(_BLOCKS[min(8, 1 + point * 4 // _THRESHOLD)], color if point >= loud else "dim")
    return text


def _short(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return (value or "").replace("Infinity", "inf")
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 else f"{value:.2g}"


def _ago(row: Mapping[str, Any], now_ms: int) -> str:
    if row["heard_ms"] is None:
        return "never"
    seconds = max(0, now_ms - row["heard_ms"]) // 1000
    for limit, unit, size in ((100, "s", 1), (6000, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


# --- The terminal ---


def _watch(console: Console, url: str, search: str) -> None:
    """Draw until `q`. The first connection must work; later ones are tried again."""
    from rich.live import Live

    page = max(3, console.height - 10)  # and some room for sentences
    offset = 0
    reader = _Reader(url, {"search": search, "limit": page, "offset": offset})
    screen = Screen()
    screen.take(reader.first())
    with _single_keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            for event in reader.waiting():
                if isinstance(event, TransientError):
                    screen.problem = str(event)
                else:
                    screen.take(event)
            live.update(screen.table(console.width, console.height), refresh=True)
            key = _key(0.5)
            if key in ("q", "Q", "\x04"):
                return
            found = screen.known["found"]
            turned = {"n": min(offset + page, max(0, found - 1) // page * page), "p": max(0, offset - page)}.get(key)
            if turned is not None and turned != offset:
                offset = turned
                reader.stop()
                reader = _Reader(url, {"search": search, "limit": page, "offset": offset})


class _Reader:
    """Reads the events on a thread, and again when they end."""

    def __init__(self, url: str, query: Mapping[str, str | int]) -> None:
        self._events: queue.SimpleQueue[dict[str, Any] | TransientError] = queue.SimpleQueue()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(url, query), name="events", daemon=True).start()

    def first(self) -> dict[str, Any]:
        event = self._events.get()
        if isinstance(event, TransientError):
            raise event
        return event

    def waiting(self) -> Iterator[dict[str, Any] | TransientError]:
        while not self._events.empty():
            yield self._events.get()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self, url: str, query: Mapping[str, str | int]) -> None:
        while not self._stopped.is_set():
            try:
                for frame in frames(url, query):
                    if self._stopped.is_set():
                        return
                    self._events.put(frame)
            except TransientError as error:
                self._events.put(error)
            time.sleep(_AGAIN_SECONDS)


@contextmanager
def _single_keys() -> Iterator[None]:
    """The terminal gives each key at once, and shows none."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(seconds: float) -> str:
    """The key that is pressed within so long; nothing else."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if ready else ""
