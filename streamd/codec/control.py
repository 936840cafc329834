"""Messages about a stream rather than of it: resets and acknowledgements."""

from __future__ import annotations

from typing import Any

from streamd.codec.names import parse_time
from streamd.codec.record import Record
from streamd.errors import InvalidRecord, Reason
from streamd.model import Acknowledgement, Reset

_OUTCOMES = ("done", "refused", "failed", "expired")


def read_reset(document: dict[str, Any], record: Record) -> Reset:
    """`{"stream": …, "role": "reset", "author": …}`; the author may be left out.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    author = document.get("author")
    if document.get("columns"):  # to forget everything instead would lose what the sender meant to keep
        raise InvalidRecord(Reason.BAD_SCHEMA, "a reset is of the whole stream: leave `columns` out")
    if author is not None and not isinstance(author, str):
        raise InvalidRecord(Reason.BAD_SCHEMA, "`author` of a reset must be a string")
    return Reset(
        stream=record.stream(document.get("stream")),
        event_time_ms=record.event_time(document.get("ts")),
        author=author and author[: record.limits.name_chars],
    )


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
