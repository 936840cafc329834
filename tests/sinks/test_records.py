"""What effects look like on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema.validators import validator_for

import streamd
from streamd.errors import Reason
from streamd.model import (
    Alert,
    BatchJudged,
    ColumnFinding,
    Command,
    DeadLetter,
    Envelope,
    Kind,
    RowFinding,
    Severity,
    StreamChanged,
    Window,
)
from streamd.sinks.records import alert_record, command_record, dead_letter_record, outgoing, rfc3339

SCHEMAS = Path(streamd.__file__).parent / "schemas"
SOURCE = "/streamd/watchers"

ALERT = Alert(
    id="8f9b1c3b9f1bd5a0",
    status="firing",
    severity=Severity.WARNING,
    action="review",
    mode="enforce",
    stream="fraud/7",
    kind=Kind.FEATURES,
    detector="ks",
    test="ks_2samp",
    consecutive=1,
    statistic=0.31,
    threshold=0.2,
    p_value=1.2e-9,
    level=4e-7,
    effect_name="ks_distance",
    effect=0.31,
    features=(ColumnFinding("amount", 0.31, 1.2e-9, "up"),),
    topic="streamd.features",
    partition=3,
    window=Window(100, 142, 1000),
    event_time_ms=1795305600123,
    started_at_ms=1795305490000,
    rows=(RowFinding("t-9", 7.1, {"age": 120.0, "country": "DE", "income": None}),),
    model_sha256=None,
    summary="fraud/7: amount drifted up (KS D=0.31, p=1e-9 over 1000 rows)",
)

COMMAND = Command(
    id="c41d",
    command="rollback",
    target_kind="stream",
    target="fraud/7",
    args={"to": "previous"},
    mode="shadow",
    alert_id="9f2c",
    reason="ks critical 3 times in a row",
    issued_at_ms=1795305600000,
    expires_at_ms=1795306200000,
)

ENVELOPE = Envelope(
    "streamd.features", 3, 142, 1795305600123, b"\x00key", b"{not json", (("trace", b"\xff"), ("x", None))
)
DEAD_LETTER = DeadLetter(ENVELOPE, "decode", Reason.NOT_JSON, "the value is not JSON: unexpected 'n' at byte 1")


@dataclass(frozen=True)
class Topics:
    alerts: str = "streamd.alerts"
    control: str = "streamd.control"
    dlq: str = "streamd.dlq"


def schema_errors(name: str, value: Any) -> list[str]:
    """What the published schema says against `value`."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    return [error.message for error in validator_for(schema)(schema).iter_errors(value)]


def test_an_alert_is_what_the_contract_shows() -> None:
    record = alert_record(ALERT, "streamd.alerts", SOURCE)

    assert record.topic == "streamd.alerts"
    assert record.key == b"fraud/7"
    assert record.timestamp_ms is None
    assert record.headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"8f9b1c3b9f1bd5a0"),
        ("ce_source", b"/streamd/watchers"),
        ("ce_type", b"io.streamd.alert.v1"),
        ("ce_subject", b"fraud/7"),
        ("ce_time", b"2026-11-22T00:00:00.123Z"),
        ("content-type", b"application/json"),
    )
    assert json.loads(record.value or b"") == {
        "id": "8f9b1c3b9f1bd5a0",
        "status": "firing",
        "severity": "warning",
        "action": "review",
        "mode": "enforce",
        "stream": "fraud/7",
        "kind": "features",
        "detector": "ks",
        "test": "ks_2samp",
        "consecutive": 1,
        "statistic": 0.31,
        "threshold": 0.2,
        "p_value": 1.2e-9,
        "level": 4e-7,
        "effect": {"name": "ks_distance", "value": 0.31},
        "features": [{"name": "amount", "statistic": 0.31, "p_value": 1.2e-9, "direction": "up"}],
        "window": {
            "topic": "streamd.features",
            "partition": 3,
            "first_offset": 100,
            "last_offset": 142,
            "rows": 1000,
        },
        "event_time": "2026-11-22T00:00:00.123Z",
        "started_at": "2026-11-21T23:58:10.000Z",
        "rows": [{"id": "t-9", "score": 7.1, "features": {"age": 120.0, "country": "DE", "income": None}}],
        "model_sha256": None,
        "summary": "fraud/7: amount drifted up (KS D=0.31, p=1e-9 over 1000 rows)",
    }


def test_a_command_is_what_the_contract_shows() -> None:
    record = command_record(COMMAND, "streamd.control", SOURCE)

    assert (record.topic, record.key, record.timestamp_ms) == ("streamd.control", b"fraud/7", None)
    assert record.headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"c41d"),
        ("ce_source", b"/streamd/watchers"),
        ("ce_type", b"io.streamd.command.v1"),
        ("ce_subject", b"fraud/7"),
        ("ce_time", b"2026-11-22T00:00:00.000Z"),
        ("content-type", b"application/json"),
    )
    assert json.loads(record.value or b"") == {
        "id": "c41d",
        "command": "rollback",
        "target": {"stream": "fraud/7"},
        "args": {"to": "previous"},
        "mode": "shadow",
        "alert_id": "9f2c",
        "reason": "ks critical 3 times in a row",
        "issued_at": "2026-11-22T00:00:00.000Z",
        "expires_at": "2026-11-22T00:10:00.000Z",
    }


def test_a_command_to_a_training_run_names_the_run() -> None:
    record = command_record(replace(COMMAND, target_kind="run", target="bert-42"), "streamd.control", SOURCE)
    assert json.loads(record.value or b"")["target"] == {"run": "bert-42"}
    assert record.key == b"bert-42"


@pytest.mark.parametrize(
    "alert",
    [
        ALERT,
        replace(ALERT, status="resolved", action="none", features=(), rows=(), consecutive=0),
        replace(ALERT, severity=Severity.CRITICAL, p_value=None, model_sha256="a" * 64),
        replace(
            ALERT, statistic=float("nan"), effect=float("inf"), rows=(RowFinding("5:0", float("inf"), {"x": -1e999}),)
        ),
    ],
    ids=["firing", "resolved", "critical", "not finite"],
)
def test_every_alert_fits_its_published_schema(alert: Alert) -> None:
    assert schema_errors("alert", json.loads(alert_record(alert, "a", SOURCE).value or b"")) == []


@pytest.mark.parametrize("mode", ["shadow", "enforce"])
def test_every_command_fits_its_published_schema(mode: Any) -> None:
    assert (
        schema_errors("command", json.loads(command_record(replace(COMMAND, mode=mode), "c", SOURCE).value or b""))
        == []
    )


def test_the_published_schema_refuses_what_is_no_alert() -> None:
    """Otherwise the tests above would say nothing."""
    value = json.loads(alert_record(ALERT, "a", SOURCE).value or b"")
    assert schema_errors("alert", {**value, "statistic": "high"})
    assert schema_errors("alert", {key: item for key, item in value.items() if key != "window"})


def test_numbers_that_are_not_finite_become_strings() -> None:
    finding = ColumnFinding("x", float("-inf"), float("nan"), "down")
    row = RowFinding("1:0", float("inf"), {"age": float("nan")})
    alert = replace(ALERT, statistic=np.float64("nan"), effect=float("inf"), features=(finding,), rows=(row,))
    value = json.loads(alert_record(alert, "a", SOURCE).value or b"")

    assert value["statistic"] == "NaN"
    assert value["effect"]["value"] == "Infinity"
    assert value["features"][0] == {"name": "x", "statistic": "-Infinity", "p_value": "NaN", "direction": "down"}
    assert value["rows"] == [{"id": "1:0", "score": "Infinity", "features": {"age": "NaN"}}]


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    value = json.loads(alert_record(replace(ALERT, statistic=np.float64(0.25)), "a", SOURCE).value or b"")
    assert value["statistic"] == 0.25


def test_a_stream_name_may_hold_any_character() -> None:
    record = alert_record(replace(ALERT, stream="Betrug/ß €\ud800"), "a", SOURCE)
    assert record.key == "Betrug/ß €?".encode()
    assert dict(record.headers)["ce_subject"] == "Betrug/ß €?".encode()
    assert json.loads(record.value or b"")["stream"] == "Betrug/ß €?"


def test_equal_effects_give_equal_bytes() -> None:
    again = replace(ALERT, rows=tuple(replace(row) for row in ALERT.rows))
    assert alert_record(ALERT, "a", SOURCE) == alert_record(again, "a", SOURCE)


def test_a_dead_letter_is_the_original_byte_for_byte_with_its_reason() -> None:
    record = dead_letter_record(DEAD_LETTER, "streamd.dlq", "0.1.0")

    assert record.topic == "streamd.dlq"
    assert (record.key, record.value, record.timestamp_ms) == (b"\x00key", b"{not json", 1795305600123)
    assert record.headers == (
        ("trace", b"\xff"),
        ("x", None),
        ("dlq.topic", b"streamd.features"),
        ("dlq.partition", b"3"),
        ("dlq.offset", b"142"),
        ("dlq.timestamp", b"1795305600123"),
        ("dlq.stage", b"decode"),
        ("dlq.reason", b"not_json"),
        ("dlq.error", b"the value is not JSON: unexpected 'n' at byte 1"),
        ("dlq.app.version", b"0.1.0"),
    )


def test_a_dead_letter_of_nothing_stays_nothing() -> None:
    record = dead_letter_record(replace(DEAD_LETTER, envelope=replace(ENVELOPE, key=None, value=None)), "d", "1")
    assert (record.key, record.value) == (None, None)


def test_the_headers_of_an_earlier_failure_stay_in_front_of_ours() -> None:
    first = dead_letter_record(DEAD_LETTER, "streamd.dlq", "0.1.0")
    sent_again = replace(ENVELOPE, offset=900, headers=first.headers)
    second = dead_letter_record(replace(DEAD_LETTER, envelope=sent_again), "streamd.dlq", "0.2.0")

    assert second.headers[: len(first.headers)] == first.headers
    assert [value for name, value in second.headers if name == "dlq.offset"] == [b"142", b"900"]


def test_a_record_without_a_timestamp_can_still_be_published() -> None:
    record = dead_letter_record(replace(DEAD_LETTER, envelope=replace(ENVELOPE, timestamp_ms=-1)), "d", "1")
    assert record.timestamp_ms is None
    assert dict(record.headers)["dlq.timestamp"] == b"-1"


@pytest.mark.parametrize("character", ["x", "ß", "€", "😀"])
def test_the_error_of_a_dead_letter_keeps_within_4_kilobytes_of_whole_characters(character: str) -> None:
    error = dict(dead_letter_record(replace(DEAD_LETTER, error=character * 9000), "d", "1").headers)["dlq.error"]
    assert error is not None
    assert 4096 - len(character.encode()) < len(error) <= 4096
    assert error.decode() == character * (len(error.decode()) - 1) + "…"


def test_the_error_of_a_dead_letter_is_one_line() -> None:
    error = dict(dead_letter_record(replace(DEAD_LETTER, error="line one\n  line two"), "d", "1").headers)["dlq.error"]
    assert error == b"line one line two"


def test_only_alerts_commands_and_dead_letters_go_to_topics_in_their_order() -> None:
    judged = BatchJudged("fraud/7", 0, 10, (), ())
    seen = StreamChanged("fraud/7", "seen", "first record")
    records = outgoing([seen, ALERT, COMMAND, judged, DEAD_LETTER], Topics(), "watchers")

    assert [record.topic for record in records] == ["streamd.alerts", "streamd.control", "streamd.dlq"]
    assert dict(records[0].headers)["ce_source"] == b"/streamd/watchers"
    assert dict(records[2].headers)["dlq.app.version"] == streamd.__version__.encode()


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1763769600123, "2025-11-22T00:00:00.123Z"),
        (951782399999, "2000-02-28T23:59:59.999Z"),
        (-1, "1970-01-01T00:00:00.000Z"),
        (2**63 - 1, "9999-12-31T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_to_the_millisecond(milliseconds: int, text: str) -> None:
    assert rfc3339(milliseconds) == text
