"""Telemetry of training runs: an object, an array of them, or one per line; and the word that a run is over.

A job whose loss has just become NaN is the very message that must not be lost, so a value may be a number,
a token (`NaN`, `Infinity`), a number too large for a double, or one of the strings that stand for these.
Null means not measured: the metric is left out.
"""

from __future__ import annotations

from typing import Any

from streamd.codec.jsontext import parse_json
from streamd.codec.limits import Limits
from streamd.codec.names import check_count, check_names
from streamd.codec.record import Record, check_version
from streamd.errors import InvalidRecord, Reason
from streamd.model import RunEnded, Telemetry, TelemetryPoint

_NON_FINITE = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_STEP_MAX = 2**63 - 1  # what any consumer of the alerts can hold


def parse_points(payload: bytes, limits: Limits, *, by_line: bool) -> Any:
    """The JSON value of `payload`; several values, one per line, as a list.

    Raises:
        InvalidRecord: as `parse_json`; in lines, the sentence says which.
    """
    complaint = None
    if not by_line:
        try:
            return parse_json(payload, limits)
        except InvalidRecord as error:
            if error.reason is not Reason.NOT_JSON or b"\n" not in payload.strip():
                raise
            complaint = error
    points: list[Any] = []
    for number, line in enumerate(payload.split(b"\n"), 1):
        if not line.strip():
            continue
        check_count(len(points) + 1, "points", limits.points, Reason.TOO_MANY_ROWS)
        try:
            points.append(parse_json(line, limits))
        except InvalidRecord as error:
            # One document over many lines is not JSON by line either: its first line already is not.
            if complaint is not None and not points:
                raise complaint from None
            raise InvalidRecord(error.reason, f"line {number}: {error.detail}") from None
    return points


def read_telemetry(document: Any, record: Record) -> Telemetry:
    """The points in `document`, in their order.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    items = document if isinstance(document, list) else [document]
    if not items:
        raise InvalidRecord(Reason.BAD_SCHEMA, "an empty array: no point is in it")
    check_count(len(items), "points", record.limits.points, Reason.TOO_MANY_ROWS)
    return Telemetry(tuple(_point(item, record) for item in items))


def read_end(document: dict[str, Any], record: Record) -> RunEnded:
    """`{"run": …, "role": "end", "step": …, "outcome": "done"|"failed"}`; step and outcome may be left out.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    outcome = document.get("outcome", "done")
    if outcome not in ("done", "failed"):
        raise InvalidRecord(Reason.BAD_SCHEMA, "`outcome` of the end of a run must be done or failed")
    return RunEnded(
        run=record.stream(document.get("run"), "run"),
        event_time_ms=record.event_time(document.get("ts")),
        step=None if document.get("step") is None else _step(document["step"]),
        outcome=outcome,
    )


def _point(item: Any, record: Record) -> TelemetryPoint:
    if not isinstance(item, dict):
        raise InvalidRecord(Reason.BAD_SCHEMA, f"a point is a {type(item).__name__}, it must be an object")
    check_version(item.get("version"), "`version`")
    if record.role(item.get("role")) is not None:
        raise InvalidRecord(Reason.BAD_ROLE, "on the telemetry topic the roles are `ack` and `end`, one to a record")
    if "step" not in item:
        raise InvalidRecord(
            Reason.BAD_SCHEMA, f"a point has no `step`; its keys: {', '.join(sorted(item)[:10])[:200] or 'none'}"
        )
    tensors = _object(item.get("tensors"), "tensors")
    check_count(len(tensors), "tensors", record.limits.columns, Reason.TOO_MANY_COLUMNS)
    check_names(tensors, "tensor", record.limits)
    return TelemetryPoint(
        run=record.stream(item.get("run"), "run"),
        event_time_ms=record.event_time(item.get("ts")),
        step=_step(item["step"]),
        epoch=None if item.get("epoch") is None else _number(item["epoch"], "epoch"),
        metrics=_numbers(item.get("metrics"), "metrics", record.limits),
        tensors={name: _numbers(values, f"tensors.{name}", record.limits) for name, values in tensors.items()},
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRecord(Reason.BAD_SCHEMA, f"`{where[:80]}` is a {type(value).__name__}, it must be an object")
    return value


def _numbers(value: Any, where: str, limits: Limits) -> dict[str, float]:
    items = _object(value, where)
    check_count(len(items), "metrics", limits.columns, Reason.TOO_MANY_COLUMNS)
    check_names(items, "metric", limits)
    return {name: _number(item, f"{where}.{name}") for name, item in items.items() if item is not None}


def _number(value: Any, where: str) -> float:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _NON_FINITE:
        return float(value)
    what = repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"
    raise InvalidRecord(
        Reason.BAD_SCHEMA, f'`{where[:80]}` is {what}, it must be a number, null, "NaN", "inf" or "-inf"'
    )


def _step(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _STEP_MAX:
        raise InvalidRecord(Reason.BAD_SCHEMA, f"`step` is {str(value)[:40]!r}, it must be an integer from 0 on")
    return value
