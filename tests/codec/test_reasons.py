"""Every reason for a dead letter, each from a record that a careless or hostile producer could send."""

from __future__ import annotations

import gzip
import json

import orjson
import pyarrow as pa
import pytest
import zstandard

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason
from streamd.model import Envelope

NOW_MS = 1_763_769_600_123
SMALL = Limits(decoded_bytes=4096, rows=100, columns=20, cells=500, classes=10, headers=10, containers=300, points=5)
BATCH = {"stream": "fraud/7", "features": {"amount": [1.0, 2.0]}}


def record(value, headers=(), key=None, timestamp_ms=NOW_MS):
    value = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Envelope("streamd.features", 0, 7, timestamp_ms, key, value, tuple(headers))


def arrow(columns, metadata=None):
    batch = pa.record_batch(columns, metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def header(name, value):
    return [(name, value)]


def with_features(**columns):
    return {"stream": "s", "features": columns}


GOOD_ARROW = arrow({"x": pa.array([1.0, 2.0])}, {"streamd.stream": "s"})
FEATURE_CASES = {
    "null value": (Reason.EMPTY, record(None)),
    "no bytes": (Reason.EMPTY, record(b"")),
    "gzip of nothing": (Reason.EMPTY, record(gzip.compress(b""), header("content-encoding", b"gzip"))),
    "null key and no stream": (Reason.NO_STREAM, record({"features": {"x": [1]}})),
    "empty stream name": (Reason.BAD_STREAM_NAME, record(BATCH | {"stream": ""})),
    "stream name of 10 kB": (Reason.BAD_STREAM_NAME, record({"features": {"x": [1]}}, key=b"n" * 10_000)),
    "control character in the stream name": (Reason.BAD_STREAM_NAME, record(BATCH | {"stream": "a\nb"})),
    "line separator in the stream name": (Reason.BAD_STREAM_NAME, record(BATCH | {"stream": "a\u2028b"})),
    "unknown content type": (Reason.UNKNOWN_CONTENT_TYPE, record(BATCH, header("content-type", b"application/avro"))),
    "lines of JSON as features": (
        Reason.UNKNOWN_CONTENT_TYPE,
        record(BATCH, header("content-type", b"application/x-ndjson")),
    ),
    "unknown encoding": (Reason.BAD_ENCODING, record(BATCH, header("content-encoding", b"br"))),
    "not gzip": (Reason.BAD_ENCODING, record(BATCH, header("content-encoding", b"gzip"))),
    "gzip cut short": (
        Reason.BAD_ENCODING,
        record(gzip.compress(orjson.dumps(BATCH))[:-9], header("content-encoding", b"gzip")),
    ),
    "not zstd": (Reason.BAD_ENCODING, record(BATCH, header("content-encoding", b"zstd"))),
    "zstd cut short": (
        Reason.BAD_ENCODING,
        record(zstandard.compress(orjson.dumps(BATCH))[:-5], header("content-encoding", b"zstd")),
    ),
    "zstd cut short that does not say its size": (
        Reason.BAD_ENCODING,
        record(
            zstandard.ZstdCompressor(write_content_size=False, level=19).compress(orjson.dumps([BATCH] * 50))[:-3],
            header("content-encoding", b"zstd"),
        ),
    ),
    "zstd with something behind it": (
        Reason.BAD_ENCODING,
        record(
            zstandard.ZstdCompressor(write_content_size=False).compress(orjson.dumps(BATCH)) + b"more",
            header("content-encoding", b"zstd"),
        ),
    ),
    "bad UTF-8": (Reason.BAD_UTF8, record(b'{"stream": "s", "features": {"\xff": [1]}}')),
    "bad UTF-8 in the key": (Reason.BAD_UTF8, record({"features": {"x": [1]}}, key=b"\xff\xfe")),
    "bad UTF-8 in a header": (Reason.BAD_UTF8, record(BATCH, header("ce_subject", b"\xff"))),
    "not JSON": (Reason.NOT_JSON, record(b"hello")),
    "JSON cut short": (Reason.NOT_JSON, record(orjson.dumps(BATCH)[:-2])),
    "half a surrogate pair": (Reason.NOT_JSON, record(b'{"stream": "s", "features": {"\\ud800": [1]}}')),
    "half a surrogate pair beside NaN": (Reason.NOT_JSON, record(b'{"stream": "s", "features": {"\\ud800": [NaN]}}')),
    "Arrow cut short": (Reason.BAD_ARROW, record(GOOD_ARROW[: len(GOOD_ARROW) // 2])),
    "Arrow's first word alone": (Reason.BAD_ARROW, record(b"\xff\xff\xff\xff")),
    "Arrow with a length beyond its end": (Reason.BAD_ARROW, record(b"\xff\xff\xff\xff" + b"\x7f" * 64)),
    "an Arrow file": (Reason.BAD_ARROW, record(b"ARROW1\0\0" + GOOD_ARROW)),
    "nested over the limit": (Reason.TOO_DEEP, record(b'{"stream": "s", "x": ' + b"[" * 40 + b"]" * 40 + b"}")),
    "nested 10,000 levels": (Reason.TOO_DEEP, (Limits(), record(b"[" * 10_000))),
    "nested 10,000 levels of objects": (Reason.TOO_DEEP, (Limits(), record(b'{"a":' * 10_000 + b"1" + b"}" * 10_000))),
    "value over the limit": (Reason.TOO_LARGE, record(BATCH | {"note": "n" * 5000})),
    "gzip bomb": (Reason.TOO_LARGE, record(gzip.compress(b" " * 10_000_000), header("content-encoding", b"gzip"))),
    "zstd bomb": (Reason.TOO_LARGE, record(zstandard.compress(b" " * 10_000_000), header("content-encoding", b"zstd"))),
    "zstd bomb that does not say its size": (
        Reason.TOO_LARGE,
        record(
            zstandard.ZstdCompressor(write_content_size=False).compress(b" " * 10_000_000),
            header("content-encoding", b"zstd"),
        ),
    ),
    "many empty arrays": (Reason.TOO_LARGE, record(BATCH | {"note": [[]] * 400})),
    "few bytes, many cells": (
        Reason.TOO_LARGE,
        record({"stream": "s", "rows": [{f"c{i % 20}": 1} for i in range(60)]}),
    ),
    "Arrow columns of nulls": (Reason.TOO_LARGE, record(arrow({f"c{i}": pa.nulls(80) for i in range(10)}))),
    "too many rows": (Reason.TOO_MANY_ROWS, record(with_features(x=[1] * 101))),
    "too many rows by rows": (Reason.TOO_MANY_ROWS, record({"stream": "s", "rows": [{"x": 1}] * 101})),
    "too many rows in Arrow": (Reason.TOO_MANY_ROWS, record(arrow({"x": pa.nulls(101)}))),
    "too many columns": (Reason.TOO_MANY_COLUMNS, record(with_features(**{f"c{i}": [1] for i in range(21)}))),
    "too many columns by rows": (
        Reason.TOO_MANY_COLUMNS,
        record({"stream": "s", "rows": [{f"c{i}": 1 for i in range(21)}]}),
    ),
    "too many classes": (Reason.TOO_MANY_COLUMNS, record({"stream": "s", "logits": [[0.0] * 11]})),
    "200 headers": (Reason.TOO_MANY_HEADERS, (Limits(), record(BATCH, [(f"h{i}", b"") for i in range(200)]))),
    "long column name": (Reason.NAME_TOO_LONG, record(with_features(**{"n" * 300: [1]}))),
    "long row id": (Reason.NAME_TOO_LONG, record(BATCH | {"ids": ["a", "b" * 300]})),
    "free text as a category": (
        Reason.NAME_TOO_LONG,
        (Limits(category_chars=100), record(with_features(note=["n" * 101]))),
    ),
    "a column twice": (Reason.DUPLICATE_NAME, record(b'{"stream": "s", "features": {"x": [1], "x": [2]}}')),
    "a column twice, once escaped": (
        Reason.DUPLICATE_NAME,
        record(b'{"stream": "s", "features": {"x": [1], "\\u0078": [2]}}'),
    ),
    "a column twice, with colons in strings": (
        Reason.DUPLICATE_NAME,
        record(b'{"stream": "a:b", "features": {"x": ["c:d"], "x": ["e:f"]}}'),
    ),
    "a key twice": (Reason.DUPLICATE_NAME, record(b'{"stream": "s", "stream": "t", "features": {"x": [1]}}')),
    "a name twice in one row": (
        Reason.DUPLICATE_NAME,
        record(b'{"stream": "s", "rows": [{"x": 1}, {"x": 1, "x": 2}]}'),
    ),
    "an Arrow column twice": (
        Reason.DUPLICATE_NAME,
        record(arrow(pa.RecordBatch.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"]))),
    ),
    "a JSON string": (Reason.BAD_SCHEMA, record(b'"hello"')),
    "a JSON array": (Reason.BAD_SCHEMA, record([BATCH])),
    "no features": (Reason.BAD_SCHEMA, record({"stream": "s"})),
    "features without a column": (Reason.BAD_SCHEMA, record(with_features())),
    "features as an array": (Reason.BAD_SCHEMA, record({"stream": "s", "features": [1, 2]})),
    "features and rows": (Reason.BAD_SCHEMA, record(BATCH | {"rows": [{"x": 1}]})),
    "a column that is a number": (Reason.BAD_SCHEMA, record(with_features(x=1))),
    "a column of objects": (Reason.BAD_SCHEMA, record(with_features(x=[{"a": 1}]))),
    "rows of numbers": (Reason.BAD_SCHEMA, record({"stream": "s", "rows": [1, 2]})),
    "a stream that is a number": (Reason.BAD_SCHEMA, record(BATCH | {"stream": 7})),
    "ids that are objects": (Reason.BAD_SCHEMA, record(BATCH | {"ids": [{}, {}]})),
    "an ack without its object": (Reason.BAD_SCHEMA, record({"stream": "s", "role": "ack"})),
    "logits of another length": (Reason.BAD_SHAPE, record(BATCH | {"logits": [[0.1, 0.2]]})),
    "flat logits": (Reason.BAD_SHAPE, record(BATCH | {"logits": [0.1, 0.2]})),
    "ragged logits": (Reason.BAD_SHAPE, record(BATCH | {"logits": [[0.1], [0.1, 0.2]]})),
    "logits without a class": (Reason.BAD_SHAPE, record(BATCH | {"logits": [[], []]})),
    "logits that are a number": (Reason.BAD_SHAPE, record(BATCH | {"logits": 1})),
    "ragged arrays": (Reason.BAD_SHAPE, record(with_features(x=[[1, 2], [3]]))),
    "null among arrays": (Reason.BAD_SHAPE, record(with_features(x=[[1, 2], None]))),
    "empty arrays that read as flat": (Reason.BAD_SHAPE, record(with_features(x=[[1, 2], []]))),
    "logits of an Arrow double": (Reason.BAD_SHAPE, record(arrow({"logits": pa.array([1.0])}))),
    "columns of unequal length": (Reason.UNEQUAL_LENGTHS, record(with_features(x=[1, 2], y=[1]))),
    "ids of another length": (Reason.UNEQUAL_LENGTHS, record(BATCH | {"ids": ["a"]})),
    "a list in Arrow": (Reason.UNSUPPORTED_TYPE, record(arrow({"x": pa.array([[1.0]])}))),
    "a struct in Arrow": (Reason.UNSUPPORTED_TYPE, record(arrow({"x": pa.array([{"a": 1}])}))),
    "a date in Arrow": (Reason.UNSUPPORTED_TYPE, record(arrow({"x": pa.array([0], pa.timestamp("ms"))}))),
    "bytes in Arrow": (Reason.UNSUPPORTED_TYPE, record(arrow({"x": pa.array([b"a"])}))),
    "arrays of strings": (Reason.UNSUPPORTED_TYPE, record(with_features(x=[["a"], ["b"]]))),
    "numbers and strings": (Reason.MIXED_TYPES, record(with_features(x=[1, "2"]))),
    "numbers and booleans": (Reason.MIXED_TYPES, record(with_features(x=[1, True]))),
    "numbers and lists": (Reason.MIXED_TYPES, record(with_features(x=[1, [2], []]))),
    "ts of -1": (Reason.BAD_TIME, record(BATCH | {"ts": -1})),
    "ts in nanoseconds": (Reason.BAD_TIME, record(BATCH | {"ts": NOW_MS * 1_000_000})),
    "ts in seconds": (Reason.BAD_TIME, record(BATCH | {"ts": NOW_MS // 1000})),
    "ts in 2099": (Reason.BAD_TIME, record(BATCH | {"ts": "2099-01-01T00:00:00Z"})),
    "ts without an offset": (Reason.BAD_TIME, record(BATCH | {"ts": "2025-11-22T00:00:00"})),
    "ts that is a list": (Reason.BAD_TIME, record(BATCH | {"ts": [1]})),
    "ts of NaN": (Reason.BAD_TIME, record(b'{"stream": "s", "ts": NaN, "features": {"x": [1]}}')),
    "no time at all": (Reason.BAD_TIME, record(BATCH, timestamp_ms=-1)),
    "ce_time that is no time": (Reason.BAD_TIME, record(BATCH, header("ce_time", b"now"))),
    "unknown role": (Reason.BAD_ROLE, record(BATCH | {"role": "training"})),
    "unknown role in a header": (Reason.BAD_ROLE, record(GOOD_ARROW, header("streamd-role", b"reset"))),
    "roles that contradict": (Reason.BAD_ROLE, record(BATCH | {"role": "reference"}, header("streamd-role", b"ack"))),
    "a part without a role": (Reason.BAD_PART, record(BATCH, header("streamd-part", b"1/2"))),
    "part 3 of 2": (Reason.BAD_PART, record(BATCH | {"role": "reference"}, header("streamd-part", b"3/2"))),
    "part one": (Reason.BAD_PART, record(BATCH | {"role": "reference"}, header("streamd-part", b"one"))),
    "version 2": (Reason.UNKNOWN_VERSION, record(BATCH | {"version": 2})),
    "version 2 in a header": (Reason.UNKNOWN_VERSION, record(BATCH, header("streamd-schema-version", b"2"))),
    "CloudEvents 0.3": (Reason.UNKNOWN_VERSION, record(BATCH, header("ce_specversion", b"0.3"))),
}


@pytest.mark.parametrize("case", FEATURE_CASES)
def test_a_record_that_cannot_be_used_is_refused_with_its_reason(case):
    reason, given = FEATURE_CASES[case]
    limits, envelope = given if isinstance(given, tuple) else (SMALL, given)
    with pytest.raises(InvalidRecord) as caught:
        decode(envelope, limits, "features")
    assert (caught.value.reason, bool(caught.value.detail)) == (reason, True)
    assert len(caught.value.detail.encode()) < 4096


def test_every_reason_that_a_record_can_give_has_a_case():
    assert {reason for reason, _ in FEATURE_CASES.values()} == set(Reason) - {Reason.CRASHED, Reason.REFUSED}


def test_the_stage_of_a_reason_is_decode_where_the_bytes_say_nothing():
    stages = {reason: reason.stage for reason in Reason}
    assert stages[Reason.NOT_JSON] == stages[Reason.BAD_ARROW] == stages[Reason.TOO_DEEP] == "decode"
    assert stages[Reason.UNEQUAL_LENGTHS] == stages[Reason.NO_STREAM] == "validate"
    assert stages[Reason.CRASHED] == "process"


@pytest.mark.parametrize(
    ("ts", "unit"), [(NOW_MS * 1_000_000, "nanoseconds"), (NOW_MS * 1000, "microseconds"), (NOW_MS // 1000, "seconds")]
)
def test_a_time_in_another_unit_is_called_by_its_unit(ts, unit):
    with pytest.raises(InvalidRecord, match=f"looks like {unit}"):
        decode(record(BATCH | {"ts": ts}), SMALL, "features")


@pytest.mark.slow
def test_a_million_rows_and_100_000_columns_are_refused_by_the_default_limits():
    rows = b'{"stream": "s", "features": {"x": [' + b"1," * 999_999 + b"1]}}"
    with pytest.raises(InvalidRecord) as many_rows:
        decode(record(rows), Limits(), "features")
    columns = orjson.dumps({"stream": "s", "features": {f"c{i}": [1] for i in range(100_000)}})
    with pytest.raises(InvalidRecord) as many_columns:
        decode(record(columns), Limits(), "features")
    assert (many_rows.value.reason, many_columns.value.reason) == (Reason.TOO_MANY_ROWS, Reason.TOO_MANY_COLUMNS)
