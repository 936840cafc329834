"""Arrow IPC streams: every type, no copies, nothing compressed, nothing corrupt."""

from __future__ import annotations

import decimal
import math

import numpy as np
import orjson
import pyarrow as pa
import pytest

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason
from streamd.model import Envelope

NOW_MS = 1_763_769_600_123
LIMITS = Limits()


def stream(*batches, options=None, dictionaries=None):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def read(value, headers=(), key=b"s"):
    return decode(Envelope("streamd.features", 0, 7, NOW_MS, key, value, tuple(headers)), LIMITS, "features")


def table(**columns):
    return read(stream(pa.record_batch(columns))).table


def test_doubles_without_nulls_are_views_of_the_records_own_bytes():
    value = stream(pa.record_batch({"a": [1.0, 2.0], "b": [3.0, math.nan], "c": [4.0, None]}))
    numeric = read(value).table.numeric
    record = np.frombuffer(value, np.uint8)
    assert np.shares_memory(numeric["a"], record)
    assert np.shares_memory(numeric["b"], record)
    assert not np.shares_memory(numeric["c"], record)
    assert numeric["a"].tolist() == [1.0, 2.0]


def test_numbers_alone_lie_side_by_side_as_the_detectors_read_them():
    columns = {"a": pa.array([1.0, math.nan]), "b": pa.array([3, 2**53]), "c": pa.array([0.5, -1.5], pa.float32())}
    got = table(**columns)
    matrix = got.matrix(("a", "b", "c"))
    assert matrix.flags.carray
    np.testing.assert_array_equal(matrix, [[1.0, math.nan], [3.0, 2**53], [0.5, -1.5]])
    assert all(np.shares_memory(got.numeric[name], matrix) for name in columns)
    assert not got.nulls


def test_a_view_outlives_the_record():
    numeric = read(stream(pa.record_batch({"a": [1.5] * 1000}))).table.numeric
    for _ in range(20):
        stream(pa.record_batch({"a": [2.5] * 1000}))
    assert set(numeric["a"].tolist()) == {1.5}


def test_every_numeric_type_becomes_a_double_and_null_is_counted():
    got = table(
        half=pa.array(np.array([1.5, 2.5, 3.5], np.float16)),
        single=pa.array([0.5, None, 2.5], pa.float32()),
        small=pa.array([1, 2, None], pa.int8()),
        large=pa.array([2**53 + 1, None, -1], pa.int64()),
        unsigned=pa.array([2**64 - 1, 0, 1], pa.uint64()),
        exact=pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.50")], pa.decimal128(9, 2)),
        nothing=pa.nulls(3),
        coded=pa.array([7.5, None, 7.5]).dictionary_encode(),
        empty=pa.array([math.nan, None, 1.0]),
    )
    nan = math.nan
    expected = {
        "half": [1.5, 2.5, 3.5],
        "single": [0.5, nan, 2.5],
        "small": [1, 2, nan],
        "large": [2.0**53, nan, -1],
        "unsigned": [2.0**64, 0, 1],
        "exact": [1.25, nan, -3.5],
        "nothing": [nan] * 3,
        "coded": [7.5, nan, 7.5],
        "empty": [nan, nan, 1],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(got.numeric[name], values, err_msg=name)
        assert got.numeric[name].dtype == np.float64
    assert got.nulls == {"single": 1, "small": 1, "large": 1, "exact": 1, "nothing": 3, "coded": 1, "empty": 1}


def test_strings_booleans_and_dictionaries_of_strings_are_categorical():
    got = table(
        text=pa.array(["DE", None, "FR"]),
        large=pa.array(["a", "b", "a"], pa.large_string()),
        view=pa.array(["a", None, "a"], pa.string_view()),
        flag=pa.array([True, None, False]),
        coded=pa.array(["x", "y", None]).dictionary_encode(),
        doubled=pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["p", "p", "q"])),
        sparse=pa.DictionaryArray.from_arrays(pa.array([9, 9, 8]), pa.array([f"v{i}" for i in range(10)])),
        holed=pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(["p", None])),
    ).categorical
    words = {
        name: [None if code < 0 else column.categories[code] for code in column.codes] for name, column in got.items()
    }
    assert words == {
        "text": ["DE", None, "FR"],
        "large": ["a", "b", "a"],
        "view": ["a", None, "a"],
        "flag": ["true", None, "false"],
        "coded": ["x", "y", None],
        "doubled": ["p", "p", "q"],
        "sparse": ["v9", "v9", "v8"],
        "holed": ["p", None, None],
    }
    assert all(column.codes.dtype == np.int32 for column in got.values())
    assert (got["doubled"].categories, got["sparse"].categories) == (("p", "q"), ("v9", "v8"))


def test_the_block_of_features_has_its_names_in_the_metadata():
    flat = pa.array([1.0, 2.0, 3.0, None, 5.0, 6.0])
    block = pa.FixedSizeListArray.from_arrays(flat, 2)
    names = orjson.dumps(["a", "b"])
    value = stream(pa.record_batch({"features": block}, metadata={"streamd.feature_names": names}))
    got = read(value).table
    np.testing.assert_array_equal(got.numeric["a"], [1, 3, 5])
    np.testing.assert_array_equal(got.numeric["b"], [2, math.nan, 6])
    assert got.nulls == {"b": 1}


def test_a_block_of_doubles_is_a_view():
    block = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0)), 3)
    metadata = {"streamd.feature_names": b'["a","b","c"]'}
    value = stream(pa.record_batch({"features": block}, metadata=metadata))
    numeric = read(value).table.numeric
    assert np.shares_memory(numeric["b"], np.frombuffer(value, np.uint8))
    assert numeric["b"].tolist() == [1.0, 4.0]


def test_null_rows_of_a_list_are_missing_and_keep_their_place():
    rows = pa.array([[1.0, 2.0], None, [5.0, 6.0]], pa.list_(pa.float32(), 2))
    metadata = {"streamd.feature_names": b'["a","b"]'}
    got = read(stream(pa.record_batch({"features": rows, "logits": rows}, metadata=metadata))).table
    np.testing.assert_array_equal(got.numeric["b"], [2, math.nan, 6])
    assert got.nulls == {"a": 1, "b": 1}
    np.testing.assert_array_equal(got.predictions.values, [[1, 2], [math.nan, math.nan], [5, 6]])


def test_fixed_size_lists_and_tensors_are_n_dimensional_features():
    nested = pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], pa.list_(pa.list_(pa.int8(), 2), 2))
    tensor = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [2, 2]), pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.float32(), 4))
    )
    got = table(nested=nested, tensor=tensor).arrays
    assert got["nested"].tolist() == got["tensor"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_more_record_batches_are_one_batch():
    first = pa.record_batch(
        {"x": [1.0], "c": pa.array(["a"]).dictionary_encode(), "v": pa.array([[1.0]], pa.list_(pa.float64(), 1))}
    )
    second = pa.record_batch(
        {"x": [2.0], "c": pa.array(["b"]).dictionary_encode(), "v": pa.array([[2.0]], pa.list_(pa.float64(), 1))}
    )
    got = read(stream(first, second)).table
    assert got.numeric["x"].tolist() == [1.0, 2.0]
    assert [got.categorical["c"].categories[code] for code in got.categorical["c"].codes] == ["a", "b"]
    assert got.arrays["v"].tolist() == [[1.0], [2.0]]


def test_the_metadata_names_stream_time_and_row_ids():
    metadata = {"streamd.stream": "fraud/7", "streamd.ts": str(NOW_MS - 5), "streamd.ids": "who"}
    value = stream(pa.record_batch({"x": [1.0, 2.0], "who": ["a", "b"]}, metadata=metadata))
    batch = read(value, key=None)
    assert (batch.stream, batch.event_time_ms, batch.ids) == ("fraud/7", NOW_MS - 5, ("a", "b"))
    assert list(batch.table.numeric) == ["x"]


@pytest.mark.parametrize("columns", [{"x": [1.0] * 1000}, {"c": pa.array(["a"] * 1000).dictionary_encode()}])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_since_they_say_themselves_how_much_they_want(codec, columns):
    value = stream(pa.record_batch(columns), options=pa.ipc.IpcWriteOptions(compression=codec))
    with pytest.raises(InvalidRecord, match="content-encoding") as caught:
        read(value)
    assert caught.value.reason == Reason.UNSUPPORTED_TYPE


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"streamd.feature_names": b'["a"]'}, Reason.BAD_SHAPE),
        ({"streamd.feature_names": b'["a","a"]'}, Reason.DUPLICATE_NAME),
        ({"streamd.feature_names": b"a,b"}, Reason.BAD_SCHEMA),
        ({"streamd.ids": b"missing"}, Reason.BAD_SCHEMA),
        ({"streamd.ts": b"-1"}, Reason.BAD_TIME),
        ({"streamd.stream": b"\xff"}, Reason.BAD_UTF8),
    ],
)
def test_metadata_that_does_not_fit_is_refused(metadata, reason):
    block = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(4.0)), 2)
    with pytest.raises(InvalidRecord) as caught:
        read(stream(pa.record_batch({"features": block}, metadata=metadata)))
    assert caught.value.reason == reason


def test_a_string_whose_offsets_leave_its_buffer_is_refused():
    good, bad = (np.array(offsets, np.int32).tobytes() for offsets in ([0, 2, 4], [0, 1_000_000, 4]))
    value = stream(pa.record_batch({"x": ["ab", "cd"]}))
    assert value.count(good) == 1
    with pytest.raises(InvalidRecord) as caught:
        read(value.replace(good, bad))
    assert caught.value.reason == Reason.BAD_ARROW


def test_a_dictionary_code_without_a_category_is_refused():
    bad = pa.DictionaryArray.from_arrays(pa.array([0, 77], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(InvalidRecord) as caught:
        read(stream(pa.RecordBatch.from_arrays([bad], names=["x"])))
    assert caught.value.reason == Reason.BAD_ARROW


def test_zero_rows_are_a_batch():
    assert table(x=pa.array([], pa.float64()), c=pa.array([], pa.string())).rows == 0
