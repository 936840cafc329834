"""Telemetry: the message that says a run has gone wrong is the one that must be readable."""

from __future__ import annotations

import math

import orjson
import pytest

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason
from streamd.model import Acknowledgement, Envelope, RunEnded

NOW_MS = 1_763_769_600_123
POINT = {"run": "bert-42", "step": 1200, "metrics": {"loss": 0.52}}


def read(value, headers=(), key=None):
    value = value if isinstance(value, bytes) else orjson.dumps(value)
    envelope = Envelope("streamd.telemetry", 0, 7, NOW_MS, key, value, tuple(headers))
    return decode(envelope, Limits(points=5), "telemetry")


def test_a_point_is_read_whole():
    tensors = {"encoder.0.weight": {"grad_norm": 0.1, "nonfinite": 0, "update_ratio": None}}
    (point,) = read(POINT | {"epoch": 3, "ts": NOW_MS - 5, "tensors": tensors}).points
    assert (point.run, point.step, point.epoch, point.event_time_ms) == ("bert-42", 1200, 3.0, NOW_MS - 5)
    assert point.metrics == {"loss": 0.52}
    assert point.tensors == {"encoder.0.weight": {"grad_norm": 0.1, "nonfinite": 0.0}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NaN", math.nan),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ('"NaN"', math.nan),
        ('"nan"', math.nan),
        ('"inf"', math.inf),
        ('"-inf"', -math.inf),
        ('"Infinity"', math.inf),
        ('"-Infinity"', -math.inf),
        ("1e999", math.inf),
        ("-1e999", -math.inf),
        ("9" * 500, math.inf),
        ("7.1e9", 7.1e9),
        ("true", 1.0),
    ],
)
def test_every_way_to_write_a_number_is_read_as_what_it_means(text, expected):
    (point,) = read(f'{{"run": "r", "step": 1, "metrics": {{"loss": {text}}}}}'.encode()).points
    assert point.metrics["loss"] == expected or (math.isnan(expected) and math.isnan(point.metrics["loss"]))


def test_null_is_not_measured():
    (point,) = read(POINT | {"metrics": {"loss": None, "lr": 1e-3}}).points
    assert point.metrics == {"lr": 1e-3}


def test_an_array_and_lines_hold_the_points_in_order():
    points = [POINT | {"step": step} for step in (3, 1, 2)]
    lines = b"\n".join(map(orjson.dumps, points)) + b"\r\n\n"
    assert [point.step for point in read(points).points] == [3, 1, 2]
    assert read(lines) == read(points)
    assert read(lines, [("content-type", b"application/x-ndjson")]) == read(points)


def test_a_line_with_nan_is_read():
    lines = b'{"run": "r", "step": 1, "metrics": {"loss": 1}}\n{"run": "r", "step": 2, "metrics": {"loss": NaN}}'
    assert math.isnan(read(lines).points[1].metrics["loss"])


def test_a_broken_line_is_named():
    with pytest.raises(InvalidRecord, match="line 2") as caught:
        read(orjson.dumps(POINT) + b"\n{oops}")
    assert caught.value.reason == Reason.NOT_JSON


def test_one_document_over_many_lines_is_read_and_its_errors_are_its_own():
    assert read(orjson.dumps(POINT, option=orjson.OPT_INDENT_2)).points[0].step == 1200
    with pytest.raises(InvalidRecord) as caught:
        read(orjson.dumps(POINT, option=orjson.OPT_INDENT_2)[:-2])
    assert "line 1:" not in caught.value.detail.split("not JSON")[0]


def test_the_run_may_be_the_key():
    assert read({"step": 1}, key=b"bert-42").points[0].run == "bert-42"


def test_an_acknowledgement_of_a_run_is_read():
    ack = {"command_id": "c1", "outcome": "done"}
    assert read({"run": "r", "role": "ack", "ack": ack}) == Acknowledgement("r", NOW_MS, "c1", "done", "")


def test_the_end_of_a_run_is_read_from_the_payload_or_the_header():
    assert read({"run": "r", "role": "end", "step": 7}) == RunEnded("r", NOW_MS, 7, "done")
    assert read({"run": "r", "role": "end", "outcome": "failed", "ts": NOW_MS - 5}) == RunEnded(
        "r", NOW_MS - 5, None, "failed"
    )
    assert read({"step": 7}, [("streamd-role", b"end")], key=b"r") == RunEnded("r", NOW_MS, 7, "done")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"role": "end"}, Reason.NO_STREAM),
        ({"run": "r", "role": "end", "outcome": "refused"}, Reason.BAD_SCHEMA),
        ({"run": "r", "role": "end", "outcome": None}, Reason.BAD_SCHEMA),
        ({"run": "r", "role": "end", "step": "last"}, Reason.BAD_SCHEMA),
        ({"run": "r", "role": "end", "ts": "soon"}, Reason.BAD_TIME),
        ([POINT, {"run": "r", "role": "end"}], Reason.BAD_ROLE),
        ({"run": "r"}, Reason.BAD_SCHEMA),
        ({"run": "r", "step": -1}, Reason.BAD_SCHEMA),
        ({"run": "r", "step": 1.5}, Reason.BAD_SCHEMA),
        ({"run": "r", "step": True}, Reason.BAD_SCHEMA),
        (POINT | {"metrics": [1]}, Reason.BAD_SCHEMA),
        (POINT | {"metrics": {"loss": "low"}}, Reason.BAD_SCHEMA),
        (POINT | {"metrics": {"loss": [1]}}, Reason.BAD_SCHEMA),
        (POINT | {"metrics": {"n" * 300: 1}}, Reason.NAME_TOO_LONG),
        (POINT | {"tensors": {"w": 1}}, Reason.BAD_SCHEMA),
        (POINT | {"role": "reference"}, Reason.BAD_ROLE),
        (POINT | {"version": 9}, Reason.UNKNOWN_VERSION),
        ({"stream": "s", "features": {"x": [1]}}, Reason.BAD_SCHEMA),
        ({"step": 1}, Reason.NO_STREAM),
        ([], Reason.BAD_SCHEMA),
        ([1], Reason.BAD_SCHEMA),
        ([POINT] * 6, Reason.TOO_MANY_ROWS),
        (b"\n".join([orjson.dumps(POINT)] * 6), Reason.TOO_MANY_ROWS),
        (b'{"run": "r", "step": 1, "metrics": {"a": 1, "a": 2}}', Reason.DUPLICATE_NAME),
        (b"\xff\xff\xff\xff", Reason.UNKNOWN_CONTENT_TYPE),
    ],
)
def test_telemetry_that_does_not_fit_is_refused(value, reason):
    with pytest.raises(InvalidRecord) as caught:
        read(value)
    assert caught.value.reason == reason
