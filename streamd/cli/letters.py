"""Dead letters as text: a line of the table, a line of JSON, one shown whole."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson

from streamd.cli.text import clipped, counted, printable
from streamd.dead_letters import Letter
from streamd.sinks.records import rfc3339

_PREVIEW_CHARACTERS = 2000
_PREVIEW_BYTES = 256
_PLACE_COLUMNS = 30  # a longer one is cut at its beginning: the offset is what one copies
_ERROR_COLUMNS = 15  # at least
_LABEL = 10


class Row(NamedTuple):
    """What the table shows of a dead letter; its value is not kept. Sorts by time."""

    time_ms: int
    place: str
    reason: str
    error: str


def row(letter: Letter) -> Row:
    return Row(letter.original.timestamp_ms, letter.place, printable(letter.reason), printable(letter.error))


def table(rows: Sequence[Row], width: int | None) -> Iterator[str]:
    """The heading and a line for each; in `width` columns, or with nothing cut when it is None."""
    if not rows:
        return
    places = [r.place if width is None else _clipped_front(r.place, _PLACE_COLUMNS) for r in rows]
    place_columns = max(len("place"), *map(len, places))
    reason_columns = max(len("reason"), *(len(r.reason) for r in rows))
    taken = 19 + 2 + place_columns + 2 + reason_columns + 2
    error_columns = None if width is None else max(width - taken, _ERROR_COLUMNS)
    for time, place, reason, error in [
        ("time (UTC)", "place", "reason", "error"),
        *((_time(r.time_ms), place, r.reason, r.error) for r, place in zip(rows, places, strict=True)),
    ]:
        yield f"{time:<19}  {place:<{place_columns}}  {reason:<{reason_columns}}  {clipped(error, error_columns)}"


def as_line(letter: Letter) -> str:
    """All but the value, as one line of JSON."""
    original = letter.original
    return orjson.dumps(
        {
            "time": rfc3339(original.timestamp_ms),
            "topic": original.topic,
            "partition": original.partition,
            "offset": original.offset,
            "dlq_place": letter.dlq_place,
            "stage": letter.stage,
            "reason": letter.reason,
            "error": letter.error,
            "key": None if original.key is None else original.key.decode(errors="replace"),
            "value_bytes": None if original.value is None else len(original.value),
            "replayed": letter.replayed,
            "version": letter.version,
        }
    ).decode()


def by_reason(counts: Counter[str]) -> str:
    """`2 not_json, 1 bad_schema`, the most frequent first."""
    return ", ".join(f"{number:,} {printable(reason)}" for reason, number in counts.most_common())


def whole(letter: Letter, width: int) -> Iterator[str]:
    """Everything about one: what is wrong, then the original's key, headers and value."""
    original = letter.original
    yield f"{letter.place}   in the dead letters: {letter.dlq_place}"
    yield _field("time", rfc3339(original.timestamp_ms))
    yield _field("reason", f"{printable(letter.reason)} (while it was to {_stage(letter.stage)})")
    yield textwrap.fill(
        printable(letter.error),
        width,
        initial_indent=f"{'error':<{_LABEL}}",
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
    )
    yield _field("by", f"streamd {printable(letter.version)}")
    if letter.replayed:
        yield _field("replayed", counted(letter.replayed, "time"))
    yield _field("key", "none" if original.key is None else _short(original.key, width - _LABEL))
    for number, (name, value) in enumerate(original.headers):
        text = f"{printable(name)}: {'' if value is None else _short(value, width - _LABEL - len(name) - 2)}"
        yield _field("headers" if number == 0 else "", text)
    if not original.headers:
        yield _field("headers", "none")
    if original.value is None:
        yield _field("value", "null")
        return
    yield _field("value", counted(len(original.value), "byte"))
    yield ""
    yield from preview(original.value)


def preview(value: bytes) -> Iterator[str]:
    """The beginning of a value: as text where it is text, else as bytes."""
    text = _text(value[: 4 * _PREVIEW_CHARACTERS])
    if text is not None:
        yield from (printable(line) for line in text[:_PREVIEW_CHARACTERS].splitlines())
        shown = len(text[:_PREVIEW_CHARACTERS].encode())
    else:
        for start in range(0, min(len(value), _PREVIEW_BYTES), 16):
            part = value[start : min(start + 16, _PREVIEW_BYTES)]
            letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
            yield f"{start:08x}  {part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}  |{letters}|"
        shown = min(len(value), _PREVIEW_BYTES)
    if shown < len(value):
        yield f"… {counted(len(value) - shown, 'byte')} more: --raw writes all of it"


def _text(value: bytes) -> str | None:
    """None when it is no text: not UTF-8, or full of control characters. A character may be cut at the end."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        if error.start == 0 or error.start < len(value) - 3 or error.reason != "unexpected end of data":
            return None
        text = value[: error.start].decode()
    strange = sum(not c.isprintable() and c not in "\t\r\n" for c in text)
    return text if strange * 20 <= len(text) else None


def _short(value: bytes, columns: int) -> str:
    """A key or a header on the rest of a line."""
    text = _text(value)
    return clipped(printable(text) if text is not None else value.hex(" "), max(columns, 20))


def _stage(stage: str) -> str:
    return {"decode": "be decoded", "validate": "be validated", "process": "be processed"}.get(stage, printable(stage))


def _field(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _time(milliseconds: int) -> str:
    return rfc3339(milliseconds)[:19].replace("T", " ")


def _clipped_front(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
