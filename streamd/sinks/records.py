"""Effects → records for the topics, exactly as CONTRACT says. Pure: same effects, same bytes.

===========  ==============================  ======================  =====================
effect       topic                           key                     record timestamp
===========  ==============================  ======================  =====================
Alert        alerts                          the stream              the client's clock
Command      control                         the stream or run       the client's clock
DeadLetter   dead letters                    the original's          the original's
===========  ==============================  ======================  =====================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson

from streamd import __version__
from streamd.codec.jsontext import json_number
from streamd.model import Alert, Command, DeadLetter, Effect, Header, RowFinding
from streamd.transport.base import Outgoing

ALERT_TYPE = "io.streamd.alert.v1"
COMMAND_TYPE = "io.streamd.command.v1"

ERROR_BYTES_MAX = 4096  # CONTRACT's bound of dlq.error: a header travels with every copy of the record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


class OutputTopics(Protocol):
    """The names of the topics that effects go to."""

    @property
    def alerts(self) -> str: ...

    @property
    def control(self) -> str: ...

    @property
    def dlq(self) -> str: ...


def outgoing(effects: Iterable[Effect], topics: OutputTopics, group_id: str) -> list[Outgoing]:
    """The records that these effects ask for, in their order; the effects for the live view alone give none."""
    source = f"/streamd/{group_id}"
    records = []
    for effect in effects:
        match effect:
            case Alert():
                records.append(alert_record(effect, topics.alerts, source))
            case Command():
                records.append(command_record(effect, topics.control, source))
            case DeadLetter():
                records.append(dead_letter_record(effect, topics.dlq, __version__))
            case _:
                pass
    return records


def alert_record(alert: Alert, topic: str, source: str) -> Outgoing:
    """An alert as a CloudEvent in Kafka's binary mode.

    Args:
        alert: what was found.
        topic: where it goes.
        source: `ce_source`, `/streamd/<group>`.
    """
    value = {
        "id": alert.id,
        "status": alert.status,
        "severity": alert.severity.word,
        "action": alert.action,
        "mode": alert.mode,
        "stream": alert.stream,
        "kind": alert.kind.value,
        "detector": alert.detector,
        "test": alert.test,
        "consecutive": alert.consecutive,
        "statistic": alert.statistic,
        "threshold": alert.threshold,
        "p_value": alert.p_value,
        "level": alert.level,
        "effect": {"name": alert.effect_name, "value": alert.effect},
        "features": [
            {"name": f.name, "statistic": f.statistic, "p_value": f.p_value, "direction": f.direction}
            for f in alert.features
        ],
        "window": {
            "topic": alert.topic,
            "partition": alert.partition,
            "first_offset": alert.window.first_offset,
            "last_offset": alert.window.last_offset,
            "rows": alert.window.rows,
        },
        "event_time": rfc3339(alert.event_time_ms),
        "started_at": rfc3339(alert.started_at_ms),
        "rows": [_row(row) for row in alert.rows],
        "model_sha256": alert.model_sha256,
        "summary": alert.summary,
    }
    if alert.step is not None:
        value |= {"step": alert.step, "first_step": alert.first_step}
    headers = _cloud_event(alert.id, source, ALERT_TYPE, alert.stream, alert.event_time_ms)
    return Outgoing(topic, _utf8(alert.stream), _json(value), headers)


def _row(row: RowFinding) -> dict[str, Any]:
    value: dict[str, Any] = {"id": row.id, "score": row.score, "features": row.features}
    if row.contributions is not None:
        value["contributions"] = row.contributions
    if row.confidence is not None:
        value["confidence"] = row.confidence
    return value


def command_record(command: Command, topic: str, source: str) -> Outgoing:
    """A command as a CloudEvent in Kafka's binary mode; `source` as for alerts."""
    value = {
        "id": command.id,
        "command": command.command,
        "target": {command.target_kind: command.target},
        "args": command.args,
        "mode": command.mode,
        "alert_id": command.alert_id,
        "reason": command.reason,
        "issued_at": rfc3339(command.issued_at_ms),
        "expires_at": rfc3339(command.expires_at_ms),
    } | ({} if command.author is None else {"author": command.author})
    headers = _cloud_event(command.id, source, COMMAND_TYPE, command.target, command.issued_at_ms)
    return Outgoing(topic, _utf8(command.target), _json(value), headers)


def dead_letter_record(dead_letter: DeadLetter, topic: str, version: str) -> Outgoing:
    """The record that could not be used, byte for byte, and why.

    The original's headers come first, in their order, then ours. Original headers called `dlq.*` (a dead
    letter that was sent again and failed again) stay as they are: the last header of a name is about the
    last failure, which is also the one that `lastHeader` of Kafka's own client returns.

    Args:
        dead_letter: the record and what is wrong with it.
        topic: where it goes.
        version: of streamd, for `dlq.app.version`.
    """
    envelope = dead_letter.envelope
    ours = {
        "dlq.topic": envelope.topic,
        "dlq.partition": str(envelope.partition),
        "dlq.offset": str(envelope.offset),
        "dlq.timestamp": str(envelope.timestamp_ms),
        "dlq.stage": dead_letter.stage,
        "dlq.reason": dead_letter.reason.value,
        "dlq.error": _sentence(dead_letter.error, ERROR_BYTES_MAX),
        "dlq.app.version": version,
    }
    headers = (*envelope.headers, *((name, _utf8(text)) for name, text in ours.items()))
    # Kafka's "no timestamp" is -1, which a producer may not send: it would block the partition for good.
    timestamp_ms = envelope.timestamp_ms if envelope.timestamp_ms >= 0 else None
    return Outgoing(topic, envelope.key, envelope.value, headers, timestamp_ms)


def rfc3339(milliseconds: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC.

    A record's own timestamp may be any 64-bit number: outside the years 1970 to 9999 the nearest end is given.

    >>> rfc3339(1763769600123)
    '2025-11-22T00:00:00.123Z'
    """
    moment = _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MILLISECOND))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _cloud_event(event_id: str, source: str, event_type: str, subject: str, time_ms: int) -> tuple[Header, ...]:
    """The attributes of CloudEvents 1.0 as its Kafka protocol binding writes them."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", _utf8(event_id)),
        ("ce_source", _utf8(source)),
        ("ce_type", _utf8(event_type)),
        ("ce_subject", _utf8(subject)),
        ("ce_time", _utf8(rfc3339(time_ms))),
        ("content-type", b"application/json"),
    )


def _json(value: Any) -> bytes:
    return orjson.dumps(_plain(value))


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, str):
        return value if value.isascii() else _utf8(value).decode()
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return json_number(value)
    return value


def _utf8(text: str) -> bytes:
    """A lone surrogate, which UTF-8 has no bytes for, becomes `?`: a name must not stop an alert."""
    return text.encode("utf-8", "replace")


def _sentence(text: str, bytes_max: int) -> str:
    """`text` on one line and within `bytes_max` of UTF-8, cut between characters."""
    line = " ".join(text.split())
    encoded = _utf8(line)
    if len(encoded) <= bytes_max:
        return line
    ellipsis = "…"
    return encoded[: bytes_max - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis
