"""Bytes to nouns: one record in, one observation out, or InvalidRecord. Pure.

headers ──▶ content-encoding ──▶ content-type ──┬─▶ CloudEvent ─▶ its data ─┐
                                                │        ┌──────────────────┘
                                                ├─▶ JSON ┴─▶ role ─▶ reset, undo, acknowledgement, end
                                                │            └─────▶ columns, rows, Open Inference, points
                                                └─▶ Arrow ─────────▶ columns
"""

from __future__ import annotations

from typing import Any, Literal

from streamd.codec.cloudevents import open_event
from streamd.codec.compression import decompress
from streamd.codec.control import read_acknowledgement, read_reset, read_undo
from streamd.codec.fastjson import parse_columns
from streamd.codec.features import read_features
from streamd.codec.jsontext import parse_json
from streamd.codec.limits import Limits
from streamd.codec.record import Content, Record, check_version
from streamd.codec.telemetry import parse_points, read_end, read_telemetry
from streamd.errors import InvalidRecord, Reason
from streamd.model import Envelope, FeatureBatch, Observation, ReferencePart

TopicKind = Literal["features", "telemetry"]

_ARROW_START = b"\xff\xff\xff\xff"  # the continuation mark of an IPC message
_ARROW_TYPES = frozenset({"application/vnd.apache.arrow.stream"})
_JSON_TYPES = frozenset({"application/json", "text/json"})
_LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_EVENT_TYPES = frozenset({"application/cloudevents+json"})

_Format = Literal["arrow", "json", "lines", "event"]


def decode(envelope: Envelope, limits: Limits, kind: TopicKind) -> Observation:
    """What the record says.

    Args:
        envelope: the record; its value is kept alive by the arrays that are views of it.
        limits: what a producer may ask for.
        kind: what its topic is for.

    Raises:
        InvalidRecord: with every reason but CRASHED; `error.reason.stage` tells how far the record came.
    """
    if not envelope.value:
        raise InvalidRecord(Reason.EMPTY, "the value is null or has no bytes")
    record = Record.of(envelope, limits)
    payload = decompress(envelope.value, (record.text("content-encoding") or "").lower(), limits)
    if not payload:
        raise InvalidRecord(Reason.EMPTY, "the value has no bytes when decoded")
    form = _format(record.text("content-type") or "", payload)
    if form == "event":
        opened = open_event(parse_json(payload, limits), record)
        record = opened.record
        if not isinstance(opened.data, bytes):
            return _observe(opened.data, record, kind)
        payload, form = opened.data, _format(opened.content_type, opened.data)
        if form == "event":
            raise InvalidRecord(Reason.UNKNOWN_CONTENT_TYPE, "a CloudEvent inside a CloudEvent")
        if not payload:
            raise InvalidRecord(Reason.EMPTY, "the CloudEvent's data has no bytes")
    if kind == "telemetry":
        if form == "arrow":
            raise InvalidRecord(Reason.UNKNOWN_CONTENT_TYPE, "this is Arrow, and telemetry is JSON")
        return _observe(parse_points(payload, limits, by_line=form == "lines"), record, kind)
    if form == "arrow":
        # Imported here: pyarrow takes a tenth of a second, and not every daemon gets any.
        from streamd.codec.arrow import read_arrow

        return _batch(read_arrow(payload, limits), record)
    if form == "lines":
        raise InvalidRecord(Reason.UNKNOWN_CONTENT_TYPE, "a feature batch is one JSON object, not one per line")
    document = parse_columns(payload, limits)
    return _observe(parse_json(payload, limits) if document is None else document, record, kind)


def _format(content_type: str, payload: bytes) -> _Format:
    name = content_type.partition(";")[0].strip().lower()
    if not name:
        # What is neither is taken for JSON: the parser's complaint says more than ours could.
        return "arrow" if payload.startswith((_ARROW_START, b"ARROW1")) else "json"
    if name in _JSON_TYPES:
        return "json"
    if name in _ARROW_TYPES:
        return "arrow"
    if name in _EVENT_TYPES:
        return "event"
    if name in _LINES_TYPES:
        return "lines"
    known = ", ".join(sorted(_JSON_TYPES | _ARROW_TYPES | _EVENT_TYPES | _LINES_TYPES))
    raise InvalidRecord(Reason.UNKNOWN_CONTENT_TYPE, f"content-type {name[:80]!r} is none of {known}")


def _observe(document: Any, record: Record, kind: TopicKind) -> Observation:
    """A JSON value as what its role and topic make of it."""
    if isinstance(document, dict):
        check_version(document.get("version"), "`version`")
        role = record.role(document.get("role"))
        if role == "ack":
            return read_acknowledgement(document, record)
        if role == "reset" and kind == "features":
            return read_reset(document, record)
        if role == "undo" and kind == "features":
            return read_undo(document, record)
        if role == "end" and kind == "telemetry":
            return read_end(document, record)
    if kind == "telemetry":
        return read_telemetry(document, record)
    if not isinstance(document, dict):
        raise InvalidRecord(
            Reason.BAD_SCHEMA, f"the value is a JSON {type(document).__name__}, a feature batch is one object"
        )
    return _batch(read_features(document, record.limits), record)


def _batch(content: Content, record: Record) -> FeatureBatch | ReferencePart:
    check_version(content.version, "`version`")
    role = record.role(content.role)
    if role not in (None, "reference"):
        raise InvalidRecord(
            Reason.BAD_ROLE, f"the role {role[:40]!r} is none of reference, reset, undo, ack (the last three in JSON)"
        )
    batch = FeatureBatch(
        stream=record.stream(content.stream),
        event_time_ms=record.event_time(content.ts),
        offset=record.envelope.offset,
        table=content.table,
        ids=content.ids,
    )
    if role == "reference":
        return ReferencePart(batch, *record.part())
    if "streamd-part" in record.headers:
        raise InvalidRecord(
            Reason.BAD_PART, "the header streamd-part without the role reference: send `streamd-role: reference` too"
        )
    return batch
