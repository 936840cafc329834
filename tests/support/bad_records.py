"""Every kind of bad record, with the reason that its dead letter must give; None where the batch is usable."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import pyarrow as pa

from streamd.errors import Reason

ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True)
class Bad:
    """One record and what must become of it."""

    name: str
    value: bytes | None
    reason: Reason | None
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = b"bad/1"


def _json(**document: object) -> bytes:
    return orjson.dumps({"stream": "bad/1", **document})


def _arrow(columns: dict[str, pa.Array]) -> bytes:
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def bad_records() -> Iterator[Bad]:
    """All of them, in an order that does not matter."""
    one = {"amount": [1.0, 2.0]}
    yield Bad("not JSON", b"hello", Reason.NOT_JSON, (("content-type", b"application/json"),))
    yield Bad("truncated", _json(features=one)[:-5], Reason.NOT_JSON)
    yield Bad("bad UTF-8", b'{"stream": "bad/1", "features": {"a": ["\xff"]}}', Reason.BAD_UTF8)
    yield Bad("10,000 levels deep", b"[" * 10_000 + b"]" * 10_000, Reason.TOO_DEEP)
    yield Bad("20 MB", b'{"features": {"a": [1]}, "stream": "' + b"x" * 20_000_000 + b'"}', Reason.BAD_STREAM_NAME)
    yield Bad("null value", None, Reason.EMPTY)
    yield Bad("no stream", orjson.dumps({"features": one}), Reason.NO_STREAM, key=None)
    yield Bad("columns of unequal length", _json(features={"a": [1], "b": [1, 2]}), Reason.UNEQUAL_LENGTHS)
    yield Bad("numbers and strings", _json(features={"amount": [1.0, "two"]}), Reason.MIXED_TYPES)
    yield Bad("a million rows", _json(features={"a": [0] * 1_000_000}), Reason.TOO_MANY_ROWS)
    yield Bad("100,000 columns", _json(features={f"c{i}": [0] for i in range(100_000)}), Reason.TOO_MANY_COLUMNS)
    yield Bad("duplicate names", b'{"stream": "bad/1", "features": {"a": [1], "a": [2]}}', Reason.DUPLICATE_NAME)
    yield Bad(
        "a stream name of 10 MB", orjson.dumps({"features": one, "stream": "x" * 10_000_000}), Reason.BAD_STREAM_NAME
    )
    yield Bad("control characters", orjson.dumps({"stream": "a\x07b", "features": one}), Reason.BAD_STREAM_NAME)
    yield Bad("ts −1", _json(ts=-1, features=one), Reason.BAD_TIME)
    yield Bad("ts in nanoseconds", _json(ts=1_763_769_600_123_000_000, features=one), Reason.BAD_TIME)
    yield Bad("ts in 2099", _json(ts=4_070_908_800_000, features=one), Reason.BAD_TIME)
    yield Bad("Arrow truncated", _arrow({"a": pa.array([1.0] * 100)})[:-300], Reason.BAD_ARROW)
    yield Bad("Arrow corrupted", b"\xff\xff\xff\xff" + bytes(range(256)), Reason.BAD_ARROW)
    yield Bad("Arrow nested", _arrow({"a": pa.array([{"b": 1}])}), Reason.UNSUPPORTED_TYPE)
    bomb = gzip.compress(bytes(200_000_000))
    yield Bad("gzip bomb", bomb, Reason.TOO_LARGE, (("content-encoding", b"gzip"),))
    yield Bad("unknown content type", b"<a/>", Reason.UNKNOWN_CONTENT_TYPE, (("content-type", b"text/xml"),))
    yield Bad("wrong logits shape", _json(features=one, logits=[[0.1, 0.2]]), Reason.BAD_SHAPE)
    yield Bad("ragged logits", _json(features=one, logits=[[0.1, 0.2], [0.3]]), Reason.BAD_SHAPE)
    yield Bad("unknown version", _json(version=99, features=one), Reason.UNKNOWN_VERSION)
    yield Bad("200 headers", _json(features=one), Reason.TOO_MANY_HEADERS, tuple((f"h{i}", b"x") for i in range(200)))
    yield Bad("unknown role", _json(role="king", features=one), Reason.BAD_ROLE)
    # Usable: the detectors say what is odd about them.
    yield Bad("a new and a missing column", _json(features={"other": [1.0]}), None)
    yield Bad("strings in a numeric column", _json(features={"amount": ["a", "b"]}), None)
    yield Bad("NaN, infinities, 1e400", b'{"stream": "bad/1", "features": {"amount": [NaN, Infinity, 1e400]}}', None)
    yield Bad("zero rows", _json(features={"amount": []}), None)
    yield Bad("one row", _json(features={"amount": [1.0]}), None)
    yield Bad("NaN logits", b'{"stream": "bad/1", "features": {"amount": [1]}, "logits": [[NaN, 1]]}', None)
    yield Bad("probabilities that do not sum to 1", _json(features=one, probabilities=[[0.9, 0.9], [0.1, 0.1]]), None)
    dictionary = pa.array(["a", "b"]).dictionary_encode()
    columns = {"amount": pa.array([1, None], pa.float16()), "kind": dictionary, "nothing": pa.nulls(2)}
    yield Bad("Arrow dictionary, null, half floats", _arrow(columns), None)
    yield Bad("Arrow decimals", _arrow({"amount": pa.array([1, 2], pa.decimal128(5, 2))}), None)
