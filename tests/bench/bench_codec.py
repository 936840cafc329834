"""Decoding one batch of 256 × 32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import orjson
import pyarrow as pa
from bench_load import FEATURES, NAMES, ROWS, T0, Message, batches
from bench_profile import explained
from bench_table import Row, side_by_side

from streamd.codec.decode import decode
from streamd.codec.encode import encode_features
from streamd.codec.limits import Limits
from streamd.model import Envelope, FeatureBatch
from streamd.table import FloatArray

BATCHES = 20


def rows(quick: bool) -> Iterator[Row]:
    turns = 3 if quick else 50
    yield _row("decode JSON columns and logits", batches("json", BATCHES), "orjson.loads", orjson.loads, turns)
    rng = np.random.default_rng(3)
    plain = [encode_features("s", rng.normal(size=(ROWS, FEATURES)), names=NAMES, ts_ms=T0) for _ in range(BATCHES)]
    json = [Message(0, b"s", value, tuple(headers)) for value, headers in plain]
    yield _row("decode JSON columns", json, "orjson.loads", orjson.loads, turns, limit=0.6)
    arrow = [
        Message(0, b"s", *_arrow(pa.RecordBatch.from_arrays(list(rng.normal(size=(FEATURES, ROWS))), NAMES), {}))
        for _ in range(BATCHES)
    ]
    yield _row("decode Arrow, 32 columns", arrow, "pyarrow", _read, turns, limit=0.1)
    metadata = {"streamd.feature_names": orjson.dumps(NAMES).decode()}
    block = [Message(0, b"s", *_arrow(_block(rng.normal(size=(ROWS, FEATURES))), metadata)) for _ in range(BATCHES)]
    yield _row("decode Arrow, FixedSizeList", block, "pyarrow", _read, turns, limit=0.1)
    yield _row("decode Arrow and logits", batches("arrow", BATCHES), "pyarrow", _read, turns)


def _row(
    work: str,
    messages: list[Message],
    peer_name: str,
    peer: Callable[[bytes], object],
    turns: int,
    limit: float | None = None,
) -> Row:
    limits = Limits()
    envelopes = cycle([Envelope("t", 0, i, T0, m.key, m.value, m.headers) for i, m in enumerate(messages)])
    values = cycle([m.value for m in messages])

    def ours() -> None:
        assert isinstance(decode(next(envelopes), limits, "features"), FeatureBatch)

    ours_ms, peer_ms = side_by_side(ours, lambda: peer(next(values)), turns, 20, 20)
    return explained(Row(work, "ms", ours_ms, peer_name, peer_ms, limit=limit), ours, times=200)


def _read(value: bytes) -> list[pa.RecordBatch]:
    """What pyarrow alone does of it: batches, not yet validated, not yet columns."""
    return list(pa.ipc.open_stream(value))


def _block(values: FloatArray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.FixedSizeListArray.from_arrays(values.ravel(), FEATURES)], ["features"])


def _arrow(batch: pa.RecordBatch, metadata: dict[str, str]) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    batch = batch.replace_schema_metadata({"streamd.stream": "s", **metadata})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes(), (("content-type", b"application/vnd.apache.arrow.stream"),)
