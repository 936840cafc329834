"""What is encoded decodes to the same, whatever the caller's objects and the format."""

from __future__ import annotations

import math
import subprocess
import sys

import jsonschema
import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamd.asyncapi import schema
from streamd.codec.decode import decode
from streamd.codec.encode import encode_ack, encode_end, encode_features, encode_reset
from streamd.codec.limits import Limits
from streamd.model import Acknowledgement, Envelope, ReferencePart, Reset, RunEnded

NOW_MS = 1_763_769_600_123
FORMATS = ["json", "arrow"]
NAN = math.nan


def decoded(encoded, key=b"key"):
    value, headers = encoded
    return decode(Envelope("streamd.features", 0, 7, NOW_MS, key, value, tuple(headers)), Limits(), "features")


def plain(table):
    """A table as Python values, None for what is missing."""
    columns = {
        name: [None if math.isnan(value) else value for value in column.tolist()]
        for name, column in table.numeric.items()
    }
    for name, column in table.categorical.items():
        columns[name] = [None if code < 0 else column.categories[code] for code in column.codes]
    return columns | {name: array.tolist() for name, array in table.arrays.items()}


ROWS = [{"amount": 12.5, "country": "DE"}, {"amount": -3.0, "country": "FR"}, {"amount": None, "country": None}]
COLUMNS = {"amount": [12.5, -3.0, None], "country": ["DE", "FR", None]}
ARRAY = np.array([[1.5, NAN], [2.5, -0.25]])
SOURCES = {
    "columns": (COLUMNS, {}, COLUMNS),
    "rows": (ROWS, {}, COLUMNS),
    "pandas": (pd.DataFrame(COLUMNS), {}, COLUMNS),
    "pandas with its own types": (
        pd.DataFrame(
            {
                "n": pd.array([1, None], "Int64"),
                "b": pd.array([True, None], "boolean"),
                "c": pd.Categorical(["x", None]),
            }
        ),
        {},
        {"n": [1.0, None], "b": ["true", None], "c": ["x", None]},
    ),
    "polars": (pl.DataFrame(COLUMNS), {}, COLUMNS),
    "polars integers": (
        pl.DataFrame({"n": [1, None], "b": [True, None], "c": pl.Series(["x", None], dtype=pl.Categorical)}),
        {},
        {"n": [1.0, None], "b": ["true", None], "c": ["x", None]},
    ),
    "numpy": (ARRAY, {"names": ["a", "b"]}, {"a": [1.5, 2.5], "b": [None, -0.25]}),
    "numpy float32": (
        np.float32([[0.1], [0.2]]),
        {"names": ["a"]},
        {"a": [float(np.float32(0.1)), float(np.float32(0.2))]},
    ),
    "numpy columns": (
        {"a": ARRAY[:, 0], "i": np.array([1, 2], np.int16), "s": np.array(["x", "y"]), "b": np.array([True, False])},
        {},
        {"a": [1.5, 2.5], "i": [1.0, 2.0], "s": ["x", "y"], "b": ["true", "false"]},
    ),
    "torch": (torch.tensor(ARRAY, requires_grad=True), {"names": ["a", "b"]}, {"a": [1.5, 2.5], "b": [None, -0.25]}),
    "torch bfloat16": (torch.tensor([[1.5], [2.5]], dtype=torch.bfloat16), {"names": ["a"]}, {"a": [1.5, 2.5]}),
    "lists with names": ([[1.5, 2], [3, 4]], {"names": ["a", "b"]}, {"a": [1.5, 3.0], "b": [2.0, 4.0]}),
    "n-dimensional": ({"p": np.arange(8.0).reshape(2, 2, 2)}, {}, {"p": np.arange(8.0).reshape(2, 2, 2).tolist()}),
    "n-dimensional lists": ({"p": [[[1, 2]], [[3, 4]]]}, {}, {"p": [[[1.0, 2.0]], [[3.0, 4.0]]]}),
    "infinities": (
        {"a": [math.inf, 1.0], "b": np.array([-math.inf, 2.0])},
        {},
        {"a": [math.inf, 1], "b": [-math.inf, 2]},
    ),
    "numpy scalars in a list": ({"a": [np.float32(1.5), np.int64(2)]}, {}, {"a": [1.5, 2.0]}),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_what_an_application_has_arrives_as_it_was(source, format):
    features, arguments, expected = SOURCES[source]
    batch = decoded(encode_features("fraud/7", features, format=format, **arguments))
    assert plain(batch.table) == expected
    assert batch.stream == "fraud/7"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "logits",
    [[[0.1, 2.3], [1.0, -0.4]], np.float64([[0.1, 2.3], [1.0, -0.4]]), torch.tensor([[0.5, 2.5], [1.0, -0.5]])],
)
def test_predictions_ids_and_time_arrive(logits, format):
    batch = decoded(encode_features("s", {"x": [1, 2]}, logits=logits, ids=["a", "b"], ts_ms=NOW_MS - 9, format=format))
    assert (batch.ids, batch.event_time_ms) == (("a", "b"), NOW_MS - 9)
    assert (batch.table.predictions.kind, batch.table.predictions.values.tolist()) == (
        "logits",
        logits if isinstance(logits, list) else logits.tolist(),
    )


@pytest.mark.parametrize("format", FORMATS)
def test_probabilities_arrive_without_features(format):
    table = decoded(encode_features("s", probabilities=[[0.25, 0.75]], format=format)).table
    assert (table.rows, table.predictions.kind) == (1, "probabilities")


@pytest.mark.parametrize("format", FORMATS)
def test_both_formats_are_the_same_table(format):
    json_table = decoded(encode_features("s", COLUMNS, logits=[[1.0]] * 3)).table
    assert (
        decoded(encode_features("s", COLUMNS, logits=[[1.0]] * 3, format=format)).table.sha256() == json_table.sha256()
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_part_of_a_reference_arrives_as_one(format):
    part = decoded(encode_features("s", COLUMNS, role="reference", part=(2, 3), format=format))
    assert isinstance(part, ReferencePart)
    assert (part.part, part.parts) == (2, 3)


def test_resets_acknowledgements_and_ends_arrive():
    assert decoded(encode_reset("s", author="me", ts_ms=NOW_MS - 1)) == Reset("s", NOW_MS - 1, "me")
    assert decoded(encode_reset("s")) == Reset("s", NOW_MS)
    ack = encode_ack("s", "c1", "failed", detail="no checkpoint", at_ms=NOW_MS)
    assert decoded(ack) == Acknowledgement("s", NOW_MS, "c1", "failed", "no checkpoint")
    value, headers = encode_ack("bert", "c1", "done", kind="run")
    envelope = Envelope("streamd.telemetry", 0, 0, NOW_MS, b"bert", value, tuple(headers))
    assert decode(envelope, Limits(), "telemetry") == Acknowledgement("bert", NOW_MS, "c1", "done", "")
    value, headers = encode_end("bert", step=9, outcome="failed", ts_ms=NOW_MS - 1)
    envelope = Envelope("streamd.telemetry", 0, 0, NOW_MS, b"bert", value, tuple(headers))
    assert decode(envelope, Limits(), "telemetry") == RunEnded("bert", NOW_MS - 1, 9, "failed")


def test_what_is_encoded_fits_its_schema():
    batch = encode_features("s", COLUMNS, logits=[[1.0]] * 3, ids=["a", "b", "c"], ts_ms=NOW_MS)
    for name, (value, _) in {
        "feature_batch": batch,
        "reset": encode_reset("s"),
        "ack": encode_ack("s", "c", "done"),
        "end": encode_end("r"),
    }.items():
        jsonschema.Draft7Validator(schema(name)).validate(orjson.loads(value))


@pytest.mark.parametrize(
    ("features", "arguments"),
    [
        (np.ones((2, 2)), {}),
        (np.ones((2, 2)), {"names": ["a"]}),
        (np.ones(2), {"names": ["a"]}),
        ({"a": np.array([1j])}, {}),
        ({"a": [object()]}, {}),
        (pd.DataFrame({"t": pd.to_datetime(["2025-01-01"])}), {}),
        (pl.DataFrame({"t": ["2025-01-01"]}).select(pl.col("t").str.to_date()), {}),
        ("text", {}),
        (COLUMNS, {"part": (1, 2)}),
        (COLUMNS, {"part": (3, 2), "role": "reference"}),
        (COLUMNS, {"format": "xml"}),
    ],
)
def test_what_cannot_be_encoded_is_a_value_error(features, arguments):
    with pytest.raises(ValueError, match=r"\w"):
        encode_features("s", features, **arguments)


def test_encoding_needs_nothing_but_orjson():
    code = (
        "import sys; from streamd.codec.encode import encode_features; "
        "value, _ = encode_features('s', {'x': [1.0, None, float('nan'), float('inf')]}); "
        'assert value == b\'{"stream":"s","features":{"x":[1.0,null,null,Infinity]}}\', value; '
        "heavy = {'numpy', 'pyarrow', 'pandas', 'polars', 'torch', 'pydantic'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_arrow_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyarrow"):
        encode_features("s", {"x": [1]}, format="arrow")


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.none() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
words = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@st.composite
def batches(draw):
    rows = draw(st.integers(1, 6))
    column = st.lists(numbers, min_size=rows, max_size=rows) | st.lists(words, min_size=rows, max_size=rows)
    return draw(st.dictionaries(names, column, min_size=1, max_size=5))


@given(batches(), st.sampled_from(FORMATS))
def test_any_columns_arrive_as_they_were(columns, format):
    if format == "arrow" and {"logits", "probabilities", "streamd.ids"} & set(columns):
        return
    assert plain(decoded(encode_features("s", columns, format=format)).table) == columns
