"""Structured logs: one line for each thing that an operator should know, JSON or console, on stderr.

structlog and the standard library's loggers (kafka, uvicorn) end in the same handler:

    structlog ──┐                                     ┌── first of its kind ──▶ one line, secrets masked
                ├──▶ OneLineHandler: seen lately? ────┤
    logging ────┘                                     └── a repeat ──▶ counted; one line says how many, later
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from streamd.observe.settings import LogSettings

MASK = "********"

_REPEAT_SECONDS = 30.0  # long enough to quiet a loop that retries, short enough to see that it still does
_KINDS_MAX = 1000  # distinct lines that are remembered: a stream name in each must not grow without end
_IDENTITY_KEYS = ("key", "topic", "partition", "stream", "detector", "reason")  # what makes an event another one
_QUIET_LOGGERS = ("kafka", "uvicorn", "asyncio")  # libraries, whose `info` is our `debug`

_SECRET_KEY = re.compile(
    r"(?:^|[_.\-])(?:password|passwd|passphrase|secret|token|credentials?|authorization|api_?key|private_?key)$", re.I
)
_SECRET_IN_TEXT = re.compile(  # what a library writes of its settings: password='x', "secret": "x", token=x
    r"""((?:password|passwd|passphrase|secret|token|api_?key)["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s,;)}\]]+)""", re.I
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(
    settings: LogSettings,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.time,
    secrets: Collection[str] = (),
    worker: int | None = None,
) -> OneLineHandler:
    """Send every log line of the process through one handler; a second call replaces the first.

    Args:
        settings: format and level.
        stream: where to write; stderr.
        clock: epoch seconds, for the time stamps and for what is a repeat.
        secrets: values that must not appear in any line, wherever they come from.
        worker: this process's number, where several write to one stream; it is in every line.

    Returns:
        The handler; its `close` says what is still counted, which the end of the process does by itself.
    """
    stream = sys.stderr if stream is None else stream
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    handler = OneLineHandler(stream, clock, secrets)
    handler.setFormatter(_formatter(as_json, colors=not as_json and stream.isatty(), worker=worker))
    level = logging.getLevelName(settings.level.upper())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, OneLineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second `configure` must reach loggers that were used before
    )
    return handler


def mask(value: Any) -> Any:
    """JSON values with every secret in them hidden, told by its key or by `key=` before it in a text.

    >>> mask({"kafka": {"sasl_plain_password": "hunter2", "group_id": "a"}, "token": None})
    {'kafka': {'sasl_plain_password': '********', 'group_id': 'a'}, 'token': None}
    """
    if isinstance(value, Mapping):
        return {
            key: MASK if item is not None and _SECRET_KEY.search(str(key)) else mask(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask(item) for item in value]
    return _SECRET_IN_TEXT.sub(rf"\g<1>{MASK}", value) if isinstance(value, str) else value


class OneLineHandler(logging.StreamHandler[TextIO]):
    """Writes the first of equal records and counts the rest.

    Equal: the same logger, level and event (the message before its arguments are put in), about the same
    thing (`key`, topic, partition, stream, detector, reason). After `repeat_seconds` one line with
    `repeated=n` says how many there were, when the next line of any kind comes, or at the end.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.time,
        secrets: Collection[str] = (),
        repeat_seconds: float = _REPEAT_SECONDS,
    ) -> None:
        super().__init__(stream)
        self._clock = clock
        self._repeat_seconds = repeat_seconds
        # In JSON a secret with quotes or newlines is escaped; the longest first, where one holds another.
        hidden = {form for secret in secrets if secret for form in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(hidden, key=len, reverse=True)
        self._seen: dict[tuple[Any, ...], _Repeats] = {}  # oldest first

    def emit(self, record: logging.LogRecord) -> None:
        record.created = now = self._clock()
        self._tell(now)
        identity = _identity(record)
        repeats = self._seen.get(identity)
        if repeats is not None:
            repeats.count += 1
            return
        if len(self._seen) >= _KINDS_MAX:
            self._say(self._seen.pop(next(iter(self._seen))))
        self._seen[identity] = _Repeats(record, now)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        return line

    def close(self) -> None:
        """Say what was counted and not yet told. The stream stays open."""
        assert self.lock is not None
        with self.lock:
            while self._seen:
                self._say(self._seen.pop(next(iter(self._seen))))
        super().close()

    def _tell(self, now: float) -> None:
        """Close the windows that are over. They stand in the order in which they opened."""
        while self._seen:
            identity, oldest = next(iter(self._seen.items()))
            if 0 <= now - oldest.since < self._repeat_seconds:
                return
            del self._seen[identity]
            self._say(oldest)

    def _say(self, repeats: _Repeats) -> None:
        if not repeats.count:
            return
        record = logging.makeLogRecord(vars(repeats.record))
        record.repeated = repeats.count
        record.created = self._clock()
        super().emit(record)


class _Repeats:
    """A line that was written, and how often the same came again."""

    __slots__ = ("count", "record", "since")

    def __init__(self, record: logging.LogRecord, since: float) -> None:
        self.record = record
        self.since = since
        self.count = 0


def _identity(record: logging.LogRecord) -> tuple[Any, ...]:
    said: Any = record.msg  # structlog's event and values, or the other loggers' message
    if not isinstance(said, Mapping):
        said = {"event": said}
    return (record.name, record.levelno, str(said.get("event")), *(str(said.get(key)) for key in _IDENTITY_KEYS))


def _formatter(as_json: bool, colors: bool, worker: int | None) -> logging.Formatter:
    if as_json:
        # `str` for what JSON does not know: a line must never be lost for its values.
        final: list[Processor] = [structlog.processors.JSONRenderer(default=str)]
    else:
        # The plain formatter: the others show local variables, and secrets with them.
        console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        final = [_printable, console]
    processors: list[Processor] = [
        _stamped,
        *([] if worker is None else [_numbered(worker)]),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _masked,
        *final,
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name], processors=processors
    )


def _stamped(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The time of the record, from the handler's clock, and how often it was repeated."""
    record = event["_record"]
    moment = datetime.fromtimestamp(record.created, UTC)
    event["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if hasattr(record, "repeated"):
        event["repeated"] = record.repeated
        event.pop("exc_info", None)  # told in full the first time
    return event


def _numbered(worker: int) -> Processor:
    def numbered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return numbered


def _masked(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    masked: EventDict = mask(event)
    return masked


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Without control characters: a stream's name must not begin a line of its own, nor colour the terminal.

    Only a traceback, which there is when the fault is ours, takes lines of its own on the console.
    """
    return {
        key: _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
        if isinstance(value, str) and key != "exception"
        else value
        for key, value in event.items()
    }
