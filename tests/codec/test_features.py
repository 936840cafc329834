"""Feature batches in JSON: what every layout, type and odd number becomes."""

from __future__ import annotations

import base64
import gzip
import json
import math

import numpy as np
import orjson
import pytest
import zstandard

from streamd.codec import fastjson
from streamd.codec.decode import decode
from streamd.codec.jsontext import parse_json
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason
from streamd.model import Acknowledgement, Envelope, FeatureBatch, ReferencePart, Reset, Undo

NOW_MS = 1_763_769_600_123
LIMITS = Limits()


def read(value, headers=(), key=None, timestamp_ms=NOW_MS):
    value = value if isinstance(value, bytes) else orjson.dumps(value)
    return decode(Envelope("streamd.features", 0, 7, timestamp_ms, key, value, tuple(headers)), LIMITS, "features")


def column(*values):
    """The table of one column, x."""
    return read(b'{"stream": "s", "features": {"x": [' + ",".join(values).encode() + b"]}}").table


@pytest.fixture(params=["simdjson", "orjson"])
def parser(request, monkeypatch):
    """Both ways that JSON by columns may take."""
    if request.param == "orjson":
        monkeypatch.setattr(fastjson, "simdjson", None)
    else:
        pytest.importorskip("simdjson")


CANONICAL = {
    "stream": "fraud/7",
    "ts": NOW_MS - 5,
    "features": {"amount": [12.5, 3, None], "country": ["DE", "FR", None], "new": [True, False, None]},
    "logits": [[0.1, 2.3], [1.0, -0.4], [0.2, None]],
    "ids": ["t-1", "t-2", "t-3"],
}


@pytest.mark.usefixtures("parser")
def test_the_canonical_message_becomes_a_batch():
    batch = read(CANONICAL)
    table = batch.table
    assert (batch.stream, batch.event_time_ms, batch.offset) == ("fraud/7", NOW_MS - 5, 7)
    assert batch.ids == ("t-1", "t-2", "t-3")
    np.testing.assert_array_equal(table.numeric["amount"], [12.5, 3.0, math.nan])
    assert table.nulls == {"amount": 1}
    assert table.categorical["country"].codes.tolist() == [0, 1, -1]
    assert table.categorical["country"].categories == ("DE", "FR")
    assert table.categorical["new"].categories == ("true", "false")
    assert table.predictions.kind == "logits"
    np.testing.assert_array_equal(table.predictions.values, [[0.1, 2.3], [1.0, -0.4], [0.2, math.nan]])


def test_the_fast_path_is_taken_for_numbers_strings_nulls_and_predictions():
    pytest.importorskip("simdjson")
    document = fastjson.parse_columns(orjson.dumps(CANONICAL), LIMITS)
    assert document is not None
    assert fastjson.parse_columns(b'{"features":{"emb[0]":[1.5]}}', LIMITS)["features"]["emb[0]"].tolist() == [1.5]


@pytest.mark.parametrize(
    "text",
    [
        b'{"features":{"x":[[1,2],[3,4]]}}',
        b'{"features":{"x":[1,[2],[]]}}',
        b'{"features":{"x":[1],"x":[2]}}',
        b'{"features":{"x":["\\u0041"]}}',
        b'{"features":{"x":[1]},"rows":[]}',
        b'{"features":{"x":[1]},"note":{}}',
        b'{"features":{"x":[1e400]}}',
        b'{"features":{"x":1}}',
        b'{"features":[]}',
        b'{"logits":[[1]]}',
        b"[1]",
        b"{",
        b"",
    ],
)
def test_the_fast_path_leaves_alone_what_it_cannot_be_sure_of(text):
    assert fastjson.parse_columns(text, LIMITS) is None


def test_both_parsers_read_the_same_doubles_to_the_bit():
    pytest.importorskip("simdjson")
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(size=200), rng.integers(0, 2**64, 400, np.uint64).view(np.float64)])
    values = [*values[np.isfinite(values)].tolist(), 0, -0.0, 2**53 + 1, 2**64 - 1, -(2**63), 5e-324]
    text = orjson.dumps({"features": {"x": values}})
    fast = fastjson.parse_columns(text, LIMITS)["features"]["x"]
    exact = np.array(parse_json(text, LIMITS)["features"]["x"], dtype=np.float64)
    assert fast.tobytes() == exact.tobytes()


def test_a_batch_outlives_the_parser_that_read_it():
    kept = read({"stream": "s", "features": {"x": [1.5] * 100}}).table.numeric["x"]
    for _ in range(20):
        read({"stream": "s", "features": {"x": [2.5] * 100}})
    assert set(kept.tolist()) == {1.5}


def test_rows_become_columns_and_a_name_that_a_row_lacks_is_null_there():
    table = read({"stream": "s", "rows": [{"a": 1, "c": "x"}, {"c": "y", "b": 2.5}, {"a": 3, "b": None}]}).table
    np.testing.assert_array_equal(table.numeric["a"], [1, math.nan, 3])
    np.testing.assert_array_equal(table.numeric["b"], [math.nan, 2.5, math.nan])
    assert table.categorical["c"].codes.tolist() == [0, 1, -1]
    assert table.nulls == {"a": 1, "b": 2}


def test_rows_and_columns_of_the_same_data_are_the_same_table():
    columns = {"a": [1.5, 2.5], "b": ["x", "y"]}
    rows = [{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}]
    assert (
        read({"stream": "s", "features": columns}).table.sha256() == read({"stream": "s", "rows": rows}).table.sha256()
    )


def test_numbers_that_json_cannot_write_are_read_as_what_they_mean():
    table = column("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400, "null", "1")
    expected = [math.nan, math.inf, -math.inf, math.inf, -math.inf, math.inf, math.nan, 1.0]
    np.testing.assert_array_equal(table.numeric["x"], expected)
    assert table.nulls == {"x": 1}


def test_megabytes_of_digits_are_a_number_too_large_and_cost_no_time():
    assert column("1" * 5_000_000).numeric["x"].tolist() == [math.inf]


@pytest.mark.usefixtures("parser")
def test_integers_beyond_2_to_53_are_the_nearest_double():
    assert column("9007199254740993", "18446744073709551615").numeric["x"].tolist() == [2.0**53, 2.0**64]


@pytest.mark.usefixtures("parser")
def test_a_column_of_nulls_is_numeric_and_missing():
    table = column("null", "null")
    assert np.isnan(table.numeric["x"]).all()
    assert table.nulls == {"x": 2}


@pytest.mark.usefixtures("parser")
def test_zero_rows_and_one_row_are_batches():
    assert column().rows == 0
    assert read({"stream": "s", "features": {"x": []}, "logits": []}).table.predictions is None
    assert column("1").rows == 1


@pytest.mark.usefixtures("parser")
def test_strings_in_place_of_numbers_are_categories_for_the_quality_detector_to_judge():
    assert column('"1"', '"NaN"').categorical["x"].categories == ("1", "NaN")


@pytest.mark.usefixtures("parser")
def test_arrays_of_one_shape_are_an_n_dimensional_feature():
    table = read({"stream": "s", "features": {"pixels": [[[1, 2], [3, 4]], [[5, 6], [7, None]]]}}).table
    np.testing.assert_array_equal(table.arrays["pixels"], [[[1, 2], [3, 4]], [[5, 6], [7, math.nan]]])


def test_predictions_alone_are_a_batch():
    table = read({"stream": "s", "probabilities": [[0.2, 0.9], [math.nan, 0.5]]}).table
    assert (table.rows, table.predictions.kind, table.prediction_names()[1]) == (2, "probabilities", "probabilities[1]")


def test_logits_of_nan_and_probabilities_that_do_not_sum_to_one_are_usable():
    values = read(b'{"stream": "s", "probabilities": [[0.9, 0.9], [NaN, 0.1]]}').table.predictions.values
    np.testing.assert_array_equal(values, [[0.9, 0.9], [math.nan, 0.1]])


def test_with_logits_and_probabilities_the_logits_count():
    assert read({"stream": "s", "logits": [[1, 2]], "probabilities": [[0.1, 0.9]]}).table.predictions.kind == "logits"


def test_brackets_and_colons_in_strings_are_neither_levels_nor_pairs():
    text = {"stream": "s", "features": {"[[[[": ["{" * 50, 'a":"b', "]" * 50 + "\\"]}}
    assert read(text).table.categorical["[[[["].categories == ("{" * 50, 'a":"b', "]" * 50 + "\\")


# --- Who, when, in what role --------------------------------------------------------------------------


def test_the_stream_is_the_payloads_else_the_keys_else_the_cloud_events():
    bare = {"features": {"x": [1]}}
    subject = [("ce_subject", b"c")]
    assert read(bare | {"stream": "a"}, subject, b"b").stream == "a"
    assert read(bare, subject, b"b").stream == "b"
    assert read(bare, subject).stream == "c"
    assert read(bare, key="größe/7".encode()).stream == "größe/7"


def test_the_time_is_the_payloads_else_the_cloud_events_else_the_records():
    bare = {"stream": "s", "features": {"x": [1]}}
    event = [("ce_time", b"2025-11-20T23:00:00.250+01:00")]
    assert read(bare | {"ts": NOW_MS - 1}, event).event_time_ms == NOW_MS - 1
    assert read(bare | {"ts": "2025-11-21T00:00:00.001Z"}).event_time_ms == 1_763_683_200_001
    assert read(bare, event).event_time_ms == 1_763_676_000_250
    assert read(bare).event_time_ms == NOW_MS


def test_a_time_a_day_ahead_of_the_records_own_is_believed_and_one_in_the_past_too():
    bare = {"stream": "s", "features": {"x": [1]}}
    assert read(bare | {"ts": NOW_MS + 86_400_000}).event_time_ms == NOW_MS + 86_400_000
    assert read(bare | {"ts": "2001-01-01T00:00:00Z"}).event_time_ms == 978_307_200_000


def test_a_reference_is_told_by_its_header_or_its_role_and_may_come_in_parts():
    bare = {"stream": "s", "features": {"x": [1]}}
    header = [("streamd-role", b"reference"), ("streamd-part", b"2/3")]
    assert isinstance(read(bare), FeatureBatch)
    part = read(bare, header)
    assert isinstance(part, ReferencePart)
    assert (part.part, part.parts, part.batch.stream) == (2, 3, "s")
    assert (read(bare | {"role": "reference"}).part, read(bare | {"role": "reference"}).parts) == (1, 1)


@pytest.mark.parametrize("columns", [[], "a", ["a", 1], {"a": 1}])
def test_a_reset_of_columns_that_are_no_names_is_refused_and_forgets_nothing(columns):
    with pytest.raises(InvalidRecord, match="`columns` of a reset must be a list of names") as caught:
        read({"stream": "s", "role": "reset", "columns": columns})
    assert caught.value.reason is Reason.BAD_SCHEMA


def test_a_reset_may_name_columns_and_a_reason_and_an_undo_its_author():
    said = {"role": "reset", "author": "ann", "columns": ["a", "b", "a"], "reason": "new prices"}
    assert read(said, key=b"k") == Reset("k", NOW_MS, "ann", ("a", "b"), "new prices")
    assert read({"role": "undo", "stream": "s", "author": "ann"}) == Undo("s", NOW_MS, "ann")
    with pytest.raises(InvalidRecord, match="`author` must be a string"):
        read({"role": "undo", "stream": "s", "author": 7})


def test_a_reset_and_an_acknowledgement_are_told_by_their_role():
    assert read({"role": "reset", "author": "me"}, key=b"k") == Reset("k", NOW_MS, "me")
    ack = {"command_id": "c41d", "outcome": "refused", "detail": "busy", "at": "2025-11-22T00:00:00Z"}
    expected = Acknowledgement("s", NOW_MS, "c41d", "refused", "busy")
    assert read({"stream": "s", "role": "ack", "ack": ack}) == expected


def test_version_1_is_read_as_number_and_as_text():
    bare = {"stream": "s", "features": {"x": [1]}}
    assert read(bare | {"version": 1}).stream == read(bare | {"version": "1"}).stream == "s"
    assert read(bare, [("streamd-schema-version", b"1")]).stream == "s"


# --- Wrappers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        (b"gzip", gzip.compress),
        (b"GZIP", lambda value: gzip.compress(value[:9]) + gzip.compress(value[9:])),
        (b"zstd", zstandard.compress),
        (b"zstd", zstandard.ZstdCompressor(write_content_size=False).compress),
        (b"identity", bytes),
    ],
)
def test_a_compressed_value_is_the_value(encoding, compress):
    assert read(compress(orjson.dumps(CANONICAL)), [("Content-Encoding", encoding)]).ids == ("t-1", "t-2", "t-3")


def test_a_structured_cloud_event_gives_subject_time_and_data():
    event = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1", "subject": "fraud/7"}
    event |= {"time": "2025-11-21T00:00:00Z", "data": {"features": {"x": [1.0]}}}
    header = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    batch = read(event, header)
    assert (batch.stream, batch.event_time_ms) == ("fraud/7", 1_763_683_200_000)
    assert batch.table.numeric["x"].tolist() == [1.0]
    inner = {"data_base64": base64.b64encode(json.dumps({"features": {"x": [2.0]}}).encode()).decode(), "data": None}
    assert read(event | inner, header).table.numeric["x"].tolist() == [2.0]


# --- Open Inference -----------------------------------------------------------------------------------


def test_an_open_inference_request_and_response_are_a_batch():
    request = {
        "id": "42",
        "parameters": {"ts": NOW_MS - 9},
        "model_name": "fraud",
        "model_version": "7",
        "inputs": [
            {"name": "amount", "shape": [2], "datatype": "FP32", "data": [1.5, 2.5]},
            {"name": "age", "shape": [2, 1], "datatype": "INT64", "data": [30, 40]},
            {"name": "emb", "shape": [2, 3], "datatype": "FP64", "data": [[1, 2, 3], [4, 5, 6]]},
            {"name": "image", "shape": [2, 1, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]},
            {"name": "country", "shape": [2], "datatype": "BYTES", "data": ["DE", "FR"]},
            {"name": "new", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        ],
        "outputs": [
            {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
            {"name": "probabilities", "shape": [2, 2], "datatype": "FP32", "data": [0.1, 0.9, 0.4, 0.6]},
        ],
    }
    batch = read(request)
    table = batch.table
    assert (batch.stream, batch.event_time_ms) == ("fraud/7", NOW_MS - 9)
    assert list(table.numeric) == ["amount", "age", "emb[0]", "emb[1]", "emb[2]"]
    assert table.numeric["emb[1]"].tolist() == [2, 5]
    assert table.arrays["image"].tolist() == [[[1, 2]], [[3, 4]]]
    assert (table.categorical["country"].categories, table.categorical["new"].categories) == (
        ("DE", "FR"),
        ("true", "false"),
    )
    assert table.predictions.values.tolist() == [[0.1, 0.9], [0.4, 0.6]]
    assert read(request | {"parameters": {"stream": "other"}}).stream == "other"


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"shape": [3], "datatype": "FP32", "data": [1]}, "bad_shape"),
        ({"shape": [0, 10**12], "datatype": "FP32", "data": []}, "too_many_columns"),
        ({"shape": [0, 10**6, 10**6], "datatype": "FP32", "data": []}, "too_large"),
        ({"shape": [1, 0], "datatype": "FP32", "data": []}, "bad_shape"),
        ({"shape": [-1], "datatype": "FP32", "data": []}, "bad_shape"),
        ({"shape": [1], "datatype": "COMPLEX", "data": [1]}, "unsupported_type"),
        ({"shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}, "unsupported_type"),
        ({"shape": [1], "datatype": "BYTES", "data": [1]}, "mixed_types"),
    ],
)
def test_an_open_inference_tensor_that_does_not_fit_is_refused(tensor, reason):
    with pytest.raises(InvalidRecord) as caught:
        read({"parameters": {"stream": "s"}, "inputs": [{"name": "x", **tensor}]})
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", [[], {}, None, 7])
def test_an_open_inference_output_whose_name_is_no_name_is_no_prediction(name):
    with pytest.raises(InvalidRecord, match="neither features nor predictions"):
        read({"parameters": {"stream": "s"}, "outputs": [{"name": name}]})


def test_the_names_of_the_prediction_outputs_are_configuration():
    value = orjson.dumps({"outputs": [{"name": "scores", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]})
    envelope = Envelope("t", 0, 0, NOW_MS, b"s", value)
    batch = decode(envelope, Limits(logits_names=("scores",)), "features")
    assert batch.table.predictions.kind == "logits"
