"""Messages about a stream rather than of it: resets, what undoes them, and acknowledgements."""

from __future__ import annotations

from typing import Any

from streamd.codec.names import parse_time
from streamd.codec.record import Record
from streamd.errors import InvalidRecord, Reason
from streamd.model import Acknowledgement, Reset, Undo

_OUTCOMES = ("done", "refused", "failed", "expired")


def read_reset(document: dict[str, Any], record: Record) -> Reset:
    """`{"stream": …, "role": "reset", "author": …, "columns": […], "reason": …}`; all but the role may be left out.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    columns = document.get("columns")
    if columns is None:
        columns = []
    elif not isinstance(columns, list) or not columns or not all(isinstance(name, str) for name in columns):
        # To forget everything instead would lose what the sender meant to keep.
        raise InvalidRecord(
            Reason.BAD_SCHEMA, "`columns` of a reset must be a list of names; without it all begin anew"
        )
    return Reset(
        stream=record.stream(document.get("stream")),
        event_time_ms=record.event_time(document.get("ts")),
        author=_text(document, "author", record),
        columns=tuple(dict.fromkeys(columns)),
        reason=_text(document, "reason", record),
    )


def read_undo(document: dict[str, Any], record: Record) -> Undo:
    """`{"stream": …, "role": "undo", "author": …}`; the author may be left out.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    return Undo(
        stream=record.stream(document.get("stream")),
        event_time_ms=record.event_time(document.get("ts")),
        author=_text(document, "author", record),
    )


def _text(document: dict[str, Any], key: str, record: Record) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRecord(Reason.BAD_SCHEMA, f"`{key}` must be a string")
    return value and value[: record.limits.name_chars]


def read_acknowledgement(document: dict[str, Any], record: Record) -> Acknowledgement:
    """`{"run"|"stream": …, "role": "ack", "ack": {"command_id", "outcome", "detail", "at"}}`.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    ack = document.get("ack")
    if not isinstance(ack, dict):
        raise InvalidRecord(Reason.BAD_SCHEMA, "an acknowledgement has no object `ack`")
    command_id, outcome, detail = ack.get("command_id"), ack.get("outcome"), ack.get("detail")
    if not isinstance(command_id, str) or not 1 <= len(command_id) <= record.limits.name_chars:
        raise InvalidRecord(Reason.BAD_SCHEMA, "`ack.command_id` must be the id of a command, a string")
    if outcome not in _OUTCOMES:
        raise InvalidRecord(Reason.BAD_SCHEMA, f"`ack.outcome` must be one of {', '.join(_OUTCOMES)}")
    if detail is not None and not isinstance(detail, str):
        raise InvalidRecord(Reason.BAD_SCHEMA, "`ack.detail` must be a string")
    if ack.get("at") is not None:
        parse_time(ack["at"], "`ack.at`")
    key = "run" if document.get("run") is not None else "stream"
    return Acknowledgement(
        stream=record.stream(document.get(key), key),
        event_time_ms=record.event_time(document.get("ts")),
        command_id=command_id,
        outcome=outcome,
        detail=(detail or "")[: record.limits.category_chars],
    )
