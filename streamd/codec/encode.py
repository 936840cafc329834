"""Nouns to bytes, for applications: feature batches, telemetry, references, resets, acknowledgements, ends of runs.

Imported by `streamd.client`, so at import it needs orjson alone. numpy, pandas, polars, torch and pyarrow are
used only where the caller's own objects are of them, or the format asks for it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import orjson

from streamd.model import Header

Outcome = Literal["done", "refused", "failed", "expired"]
Ending = Literal["done", "failed"]
Encoded = tuple[bytes, list[Header]]

_JSON_TYPE = b"application/json"
_ARROW_TYPE = b"application/vnd.apache.arrow.stream"
_INFINITIES = (math.inf, -math.inf)


def encode_features(
    stream: str,
    features: Any = None,
    *,
    names: Sequence[str] | None = None,
    logits: Any = None,
    probabilities: Any = None,
    ids: Iterable[str] | None = None,
    ts_ms: int | None = None,
    role: Literal["reference"] | None = None,
    part: tuple[int, int] | None = None,
    format: Literal["json", "arrow"] = "json",
) -> Encoded:
    """One feature batch as the value and headers of a record; key it by `stream`.

    Args:
        stream: the stream's name, by habit `model/version`.
        features: a mapping of columns, a list of rows (mappings), a pandas or polars DataFrame, a pyarrow
            Table, or a numpy array or torch tensor of shape (rows, columns) with `names`.
            A missing number is None or NaN.
        names: the columns of an array.
        logits: (rows, classes), or `probabilities`; lists, numpy or torch.
        probabilities: (rows, classes).
        ids: one name a row, to find it again in alerts.
        ts_ms: event time in epoch milliseconds; without it the record's timestamp counts.
        role: `reference` for what normal looks like.
        part: (i, n): part i of n of a reference.
        format: `arrow` is smaller and cheaper on both sides, and needs pyarrow.

    Raises:
        ValueError: the batch cannot be written, and why.
        ModuleNotFoundError: the format is `arrow` and pyarrow is not installed.
    """
    columns = _columns(features, names)
    predictions = {"logits": logits, "probabilities": probabilities}
    given = {kind: _array(values) for kind, values in predictions.items() if values is not None}
    row_ids = None if ids is None else [str(item) for item in ids]
    if format == "json":
        value, content_type = _to_json(stream, columns, given, row_ids, ts_ms), _JSON_TYPE
    elif format == "arrow":
        value, content_type = _to_arrow(stream, columns, given, row_ids, ts_ms), _ARROW_TYPE
    else:
        raise ValueError(f"format {format!r} is neither 'json' nor 'arrow'")
    headers: list[Header] = [("content-type", content_type)]
    if role is not None:
        headers.append(("streamd-role", role.encode()))
    if part is not None:
        if role != "reference" or not 1 <= part[0] <= part[1]:
            raise ValueError(f"part {part!r} must be (i, n) with 1 <= i <= n, and role 'reference'")
        headers.append(("streamd-part", b"%d/%d" % part))
    return value, headers


def encode_reset(
    stream: str,
    *,
    author: str | None = None,
    ts_ms: int | None = None,
    columns: Sequence[str] = (),
    reason: str | None = None,
) -> Encoded:
    """The order to forget a stream's reference and state, or those of some columns."""
    more = {"columns": list(columns) or None, "reason": reason}
    return _message({"stream": stream, "role": "reset", "author": author, "ts": ts_ms} | more)


def encode_undo(stream: str, *, author: str | None = None, ts_ms: int | None = None) -> Encoded:
    """The order to put a stream's reference before the present one in force again."""
    return _message({"stream": stream, "role": "undo", "author": author, "ts": ts_ms})


def encode_ack(
    name: str,
    command_id: str,
    outcome: Outcome,
    *,
    detail: str = "",
    at_ms: int | None = None,
    kind: Literal["stream", "run"] = "stream",
) -> Encoded:
    """The answer to a command, for the stream's (or run's) own partition: key it by `name`."""
    ack = {"command_id": command_id, "outcome": outcome, "detail": detail} | ({} if at_ms is None else {"at": at_ms})
    return _message({kind: name, "role": "ack", "ack": ack})


def encode_telemetry(
    run: str,
    step: int,
    metrics: Mapping[str, float | None],
    *,
    tensors: Mapping[str, Mapping[str, float | None]] | None = None,
    epoch: float | None = None,
    ts_ms: int | None = None,
) -> Encoded:
    """What a training run measured at one step; key it by `run`.

    NaN and infinities are the news: they are written as `NaN`, `Infinity`, `-Infinity`. None: not measured.
    """
    document: dict[str, Any] = {"run": run, "step": step}
    given = {"epoch": epoch, "ts": ts_ms, "metrics": metrics, "tensors": tensors}
    document |= {key: item for key, item in given.items() if item is not None and item != {}}
    numbers = (number for values in (metrics, *(tensors or {}).values()) for number in values.values())
    if all(number is None or math.isfinite(number) for number in numbers):
        return orjson.dumps(document), [("content-type", _JSON_TYPE)]
    # orjson would write null, and "not measured" is not what a NaN says.
    value = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return value, [("content-type", _JSON_TYPE)]


def encode_end(run: str, *, step: int | None = None, outcome: Ending = "done", ts_ms: int | None = None) -> Encoded:
    """The word that a training run is over, so that its silence is no finding; key it by `run`."""
    return _message({"run": run, "role": "end", "step": step, "outcome": outcome, "ts": ts_ms})


def _message(document: dict[str, Any]) -> Encoded:
    kept = {key: value for key, value in document.items() if value is not None and value != []}
    return orjson.dumps(kept), [("content-type", _JSON_TYPE)]


# --- What the caller has, as columns: lists, or numpy arrays of numbers -----------------------------


def _columns(features: Any, names: Sequence[str] | None) -> dict[str, Any]:
    if features is None:
        return {}
    family = type(features).__module__.partition(".")[0]
    if names is not None or family in ("numpy", "torch"):
        return _split(_array(features), names)
    if family == "pandas":
        return {str(name): _pandas_column(str(name), features[name]) for name in features.columns}
    if family == "polars":
        return {name: _polars_column(features.get_column(name)) for name in features.columns}
    if family == "pyarrow":
        return {name: _arrow_values(name, features.column(i)) for i, name in enumerate(features.schema.names)}
    if isinstance(features, Mapping):
        return {str(name): _column(values) for name, values in features.items()}
    if isinstance(features, Sequence) and all(isinstance(row, Mapping) for row in features):
        keys = dict.fromkeys(key for row in features for key in row)
        return {str(key): [_scalar(row.get(key)) for row in features] for key in keys}
    raise ValueError(
        f"features are a {type(features).__name__}: send a mapping of columns, a list of rows, a DataFrame, "
        "or an array with names"
    )


def _split(array: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """An array (rows, columns) as its columns."""
    shape = getattr(array, "shape", None) or (len(array), len(array[0]) if array else 0)
    if names is None or len(shape) != 2 or shape[1] != len(names):
        given = "no names" if names is None else f"{len(names)} names"
        raise ValueError(
            f"features of shape {tuple(shape)} with {given}: (rows, columns) and a name a column are needed"
        )
    if isinstance(array, list):
        return {name: [row[i] for row in array] for i, name in enumerate(names)}
    return {name: array[:, i] for i, name in enumerate(names)}


def _column(values: Any) -> Any:
    family = type(values).__module__.partition(".")[0]
    if family == "pandas":
        return _pandas_column(str(values.name), values)
    if family == "polars":
        return _polars_column(values)
    return _array(values)


def _array(values: Any) -> Any:
    """A list, or a numpy array of numbers (8-bit booleans and strings become lists)."""
    if type(values).__module__.partition(".")[0] == "torch":
        tensor = values.detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor).numpy()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(values, numpy.ndarray):
        if values.dtype.kind in "fiu":
            return values
        if values.dtype.kind not in "bUO":
            raise ValueError(f"values of type {values.dtype}: send numbers, strings or booleans")
        values = values.tolist()
    return [_scalar(value) for value in values]


def _scalar(value: Any) -> Any:
    """A value that JSON knows: numpy's scalars and arrays inside lists become Python's."""
    if isinstance(value, list | tuple):
        return [_scalar(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _pandas_column(name: str, series: Any) -> Any:
    dtype = series.dtype
    kind = getattr(dtype, "kind", "O")
    if kind in "Mm":
        raise ValueError(f"column {name!r} is of type {dtype}: leave it out, or send it as a number (an hour, an age)")
    if kind in "fiu" and str(dtype) != "category":
        return series.to_numpy(dtype="float64", na_value=math.nan)
    return [None if missing else _scalar(value) for value, missing in zip(series, series.isna(), strict=True)]


def _polars_column(series: Any) -> Any:
    if series.dtype.is_temporal():
        raise ValueError(
            f"column {series.name!r} is of type {series.dtype}: leave it out, or send it as a number (an hour, an age)"
        )
    if series.dtype.is_numeric():
        # By way of to_list where numpy is not there: polars does not need it.
        return series.to_list() if series.dtype.is_decimal() else series.cast(float).to_numpy()
    return series.to_list()


def _arrow_values(name: str, column: Any) -> Any:
    """A column of a pyarrow Table or RecordBatch: numbers as an array where numpy is there, else a list."""
    import pyarrow as pa

    if pa.types.is_temporal(column.type):
        raise ValueError(
            f"column {name!r} is of type {column.type}: leave it out, or send it as a number (an hour, an age)"
        )
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not is_number or importlib.util.find_spec("numpy") is None:
        return column.to_pylist()
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(pa.float64()).to_numpy(zero_copy_only=False)


# --- Columns as bytes -------------------------------------------------------------------------------


def _to_json(
    stream: str, columns: dict[str, Any], predictions: dict[str, Any], ids: list[str] | None, ts_ms: int | None
) -> bytes:
    document: dict[str, Any] = {"stream": stream}
    if ts_ms is not None:
        document["ts"] = ts_ms
    if columns:
        document["features"] = {name: _widened(values) for name, values in columns.items()}
    document |= {kind: _widened(values) for kind, values in predictions.items()}
    if ids is not None:
        document["ids"] = ids
    if any(map(_has_infinity, [*columns.values(), *predictions.values()])):
        # orjson would write null, and missing is not what an infinity says.
        document |= {key: _lists(value) for key, value in document.items()}
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY, default=_copied)
    except TypeError as error:
        raise ValueError(f"the batch cannot be written as JSON: {error}") from error


def _widened(values: Any) -> Any:
    """An array as doubles. The shortest text of a float32 reads back as another double than Arrow carries."""
    narrow = not isinstance(values, list) and values.dtype.kind == "f" and values.dtype.itemsize < 8
    return values.astype("float64") if narrow else values


def _copied(value: Any) -> Any:
    """What orjson asks for where it cannot write an array as it lies in memory."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


def _has_infinity(values: Any) -> bool:
    if isinstance(values, list):
        return any(bound in values for bound in _INFINITIES) or any(
            _has_infinity(item) for item in values if isinstance(item, list)
        )
    numpy = sys.modules["numpy"]  # it is an array, so numpy is there
    return values.dtype.kind == "f" and bool(numpy.isinf(values).any())


def _lists(value: Any) -> Any:
    """Nested lists with None for NaN, as orjson writes it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_lists(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _to_arrow(
    stream: str, columns: dict[str, Any], predictions: dict[str, Any], ids: list[str] | None, ts_ms: int | None
) -> bytes:
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("format 'arrow' needs pyarrow: pip install pyarrow, or send 'json'") from error
    metadata = {"streamd.stream": stream}
    if ts_ms is not None:
        metadata["streamd.ts"] = str(ts_ms)
    arrays = {}
    try:
        for name, values in [*columns.items(), *predictions.items()]:
            if name in arrays:
                raise ValueError(f"a feature has the name {name!r}, which Arrow keeps for the predictions: rename it")
            arrays[name] = _arrow_column(pa, values)
        if ids is not None:
            metadata["streamd.ids"] = "streamd.ids"
            arrays["streamd.ids"] = pa.array(ids, pa.string())
        batch = pa.record_batch(arrays, metadata=metadata)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"the batch cannot be written as Arrow: {error}") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _arrow_column(pa: Any, values: Any) -> Any:
    """An Arrow array; n-dimensional values nest FixedSizeLists. NaN becomes null, as in JSON."""
    if isinstance(values, list):
        sizes = []
        level = values
        while level and all(isinstance(item, list) for item in level):
            sizes.append(len(level[0]))
            if any(len(item) != sizes[-1] for item in level):
                raise ValueError("the rows of an n-dimensional column are not all of one shape")
            level = [child for item in level for child in item]
        flat = pa.array(level, from_pandas=True)
    else:
        sizes = list(values.shape[1:])
        flat = pa.array(values.reshape(-1), from_pandas=True)
    for size in reversed(sizes):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat
