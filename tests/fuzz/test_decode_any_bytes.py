"""Any bytes and headers at all either decode or raise InvalidRecord."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord
from streamd.model import Envelope, FeatureBatch

_SPEC = importlib.util.spec_from_file_location("fuzz_decode", Path(__file__).with_name("fuzz_decode.py"))
fuzz_decode = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz_decode)

LIMITS = Limits(decoded_bytes=1 << 16)


def check(value, headers=(), key=b"k", kind="features", timestamp_ms=1_763_769_600_123):
    try:
        observation = decode(Envelope("t", 0, 0, timestamp_ms, key, value, tuple(headers)), LIMITS, kind)
    except InvalidRecord:
        return
    if isinstance(observation, FeatureBatch):
        lengths = {len(column) for column in observation.table.numeric.values()}
        lengths |= {len(column.codes) for column in observation.table.categorical.values()}
        assert lengths <= {observation.table.rows}


kinds = st.sampled_from(["features", "telemetry"])
header_names = st.sampled_from(
    ["content-type", "content-encoding", "streamd-role", "streamd-part", "ce_time", "ce_subject", "ce_specversion", "x"]
)
header_values = (
    st.none()
    | st.binary(max_size=20)
    | st.sampled_from(
        [b"application/json", b"application/cloudevents+json", b"gzip", b"zstd", b"reference", b"1/2", b"1.0"]
    )
)
headers = st.lists(st.tuples(header_names, header_values), max_size=4)


@given(st.none() | st.binary(max_size=300), headers, st.none() | st.binary(max_size=10), kinds, st.integers())
@example(b"\xff\xff\xff\xff\x00\x00\x00\x00", [], None, "features", -1)
def test_any_record_decodes_or_is_invalid(value, headers, key, kind, timestamp_ms):
    check(value, headers, key, kind, timestamp_ms)


words = st.sampled_from(
    ["stream", "run", "step", "ts", "features", "rows", "logits", "probabilities", "ids", "role", "ack", "version"]
)
words |= st.sampled_from(
    ["inputs", "outputs", "parameters", "name", "shape", "datatype", "data", "metrics", "tensors", "columns", "outcome"]
)
scalars = st.sampled_from(["reference", "reset", "ack", "end", "done", "FP32", "BYTES", "BOOL", "NaN", "x"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | scalars | st.just([0, 2])
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=4), inner, max_size=6)
)


@given(st.dictionaries(words, documents, max_size=8) | documents, kinds)
def test_any_json_decodes_or_is_invalid(document, kind):
    check(json.dumps(document).encode(), kind=kind)


@given(documents)
def test_any_json_inside_a_cloud_event_decodes_or_is_invalid(document):
    event = json.dumps({"specversion": "1.0", "data": document, "data_base64": document}).encode()
    check(event, [("content-type", b"application/cloudevents+json")])


@given(st.binary(max_size=200))
def test_the_atheris_target_runs(data):
    fuzz_decode.check(data)


def _arrow_streams():
    """Small streams of every layout, to be broken."""
    batches = [
        pa.record_batch({"x": [1.0, None], "i": pa.array([1, 2], pa.int8()), "s": ["ab", None], "b": [True, None]}),
        pa.record_batch({"d": pa.array(["a", "b"]).dictionary_encode(), "v": pa.array(["x", "y"], pa.string_view())}),
        pa.record_batch({"f": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), "n": pa.nulls(2)}),
    ]
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
            writer.write_batch(batch)
        yield sink.getvalue().to_pybytes()


def break_arrow(rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    for stream in _arrow_streams():
        # The first message is of no known type (byte 20), or has no content (byte 36) either: pyarrow 26
        # crashes where it is asked for the schema of such a message.
        check(stream[:20] + b"\x01" + stream[21:])
        check(stream[:20] + b"\x01" + stream[21:36] + b"\x5b" + stream[37:])
        for _ in range(rounds):
            broken = bytearray(stream)
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(broken))
                broken[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            check(bytes(broken[: rng.choice([len(broken), len(broken), rng.randrange(len(broken))])]))


@pytest.mark.slow
def test_broken_arrow_streams_never_take_the_process_down():
    # In a process of its own: what this guards against is not an exception.
    code = f"import importlib.util as u; s = u.spec_from_file_location('t', {__file__!r}); m = u.module_from_spec(s)"
    code += "; s.loader.exec_module(m); m.break_arrow(1000, 7)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100, check=False)
    assert (done.returncode, done.stderr.decode()[-2000:]) == (0, "")
