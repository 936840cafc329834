"""Arrow IPC streams to a Table.

Numbers alone, without nulls, are copied once: side by side, as the detectors read them. Beside other columns,
those that are float64 without nulls are views of the record's own bytes.

==============================================  =================================================
float16/32/64, integers, decimals               numeric
null                                            numeric, all of it missing
string, large string, string view, bool,        categorical
dictionary of strings
dictionary of numbers                           numeric
FixedSizeList of numbers (nested too),          an n-dimensional feature, or `logits`,
FixedShapeTensor                                `probabilities`, or the block `features`
dates, times, durations                         UNSUPPORTED_TYPE: whatever drifts, the clock does;
                                                send the hour or the age as a number
binary, lists of any length, structs, maps      UNSUPPORTED_TYPE
==============================================  =================================================

Schema metadata: `streamd.stream`, `streamd.ts`, `streamd.feature_names` (JSON list, the columns of the block
`features`), `streamd.ids` (the name of the column that holds the row ids).

Arrow trusts what it reads. A batch is validated whole before anything looks into its buffers, since a
hostile offset would read past their end. Compressed buffers are refused: they say themselves how much memory
they want.

https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from streamd.codec.columns import TableBuilder, row_ids
from streamd.codec.limits import Limits
from streamd.codec.names import check_count, check_names
from streamd.codec.record import Content
from streamd.errors import InvalidRecord, Reason
from streamd.table import FloatArray, PredictionKind

_PREDICTIONS: tuple[PredictionKind, ...] = ("logits", "probabilities")
_DOUBLE = pa.float64()

# Places of fields in their tables, https://github.com/apache/arrow/blob/main/format/Message.fbs
_HEADER_SLOT = 2  # Message.header
_DICTIONARY_DATA_SLOT = 1  # DictionaryBatch.data, a RecordBatch
_COMPRESSION_SLOT = 3  # RecordBatch.compression
_UINT16, _INT32, _UINT32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


def read_arrow(payload: bytes, limits: Limits) -> Content:
    """The batch in an Arrow IPC stream of one record batch or more.

    Raises:
        InvalidRecord: BAD_ARROW where the bytes are broken; else what does not fit, and where.
    """
    batch = _read(payload, limits)
    names, rows, metadata = batch.schema.names, batch.num_rows, batch.schema.metadata or {}
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRecord(Reason.DUPLICATE_NAME, f"two columns have the name {twice[:80]!r}")
    places = {name: place for place, name in enumerate(names)}
    ids_name = _metadata_text(metadata, "streamd.ids")
    ids = None
    if ids_name is not None:
        ids = row_ids(batch.column(_pop(places, ids_name)).to_pylist(), rows, limits)
    predictions = {name: batch.column(places.pop(name)) for name in _PREDICTIONS if name in places}
    builder = TableBuilder(limits)
    if b"streamd.feature_names" in metadata:
        _add_block(builder, batch.column(_pop(places, "features")), _feature_names(metadata, limits), limits)
    matrix = _as_matrix(batch, list(places.values()))
    if matrix is not None:
        builder.add_matrix(tuple(places), matrix)
    else:
        for name, place in places.items():
            add_column(builder, name, batch.column(place), limits)
    # With both, logits: the probabilities follow from them.
    for kind in _PREDICTIONS:
        if kind in predictions:
            builder.set_predictions(kind, _fixed_size(predictions[kind], f"column {kind!r}", Reason.BAD_SHAPE))
            break
    return Content(
        builder.build(), ids, _metadata_text(metadata, "streamd.stream"), _time(_metadata_text(metadata, "streamd.ts"))
    )


def _read(payload: bytes, limits: Limits) -> Any:
    """All rows as one record batch: bounds checked, buffers validated."""
    if payload.startswith(b"ARROW1"):
        raise InvalidRecord(Reason.BAD_ARROW, "an Arrow file, not an Arrow stream: write it with ipc.new_stream")
    try:
        schema, batches = _batches(pa.py_buffer(payload))
        check_count(len(schema), "columns", limits.columns, Reason.TOO_MANY_COLUMNS)
        rows = sum(batch.num_rows for batch in batches)
        check_count(rows, "rows", limits.rows, Reason.TOO_MANY_ROWS)
        check_count(rows * len(schema), "cells", limits.cells, Reason.TOO_LARGE)
        for batch in batches:
            batch.validate(full=True)
        if len(batches) == 1:
            return batches[0]
        table = pa.Table.from_batches(batches, schema).unify_dictionaries()
        return pa.RecordBatch.from_arrays([_whole(column) for column in table.columns], schema=table.schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, struct.error) as error:
        raise InvalidRecord(Reason.BAD_ARROW, f"not a whole Arrow stream: {str(error)[:300]}") from None


def _batches(buffer: Any) -> tuple[Any, list[Any]]:
    """The schema and the record batches, not yet validated."""
    reader = pa.ipc.MessageReader.open_stream(buffer)
    messages = []
    while True:
        try:
            messages.append(reader.read_next_message())
        except StopIteration:
            break
    if not messages:
        raise pa.ArrowInvalid("there is no message in it")
    kinds = [message.type for message in messages]
    for kind, message in zip(kinds, messages, strict=True):
        if kind != "schema" and _is_compressed(kind, message.metadata):
            raise InvalidRecord(
                Reason.UNSUPPORTED_TYPE,
                "the Arrow buffers are compressed: compress the whole value instead, with content-encoding: zstd",
            )
    if set(kinds[1:]) <= {"record batch"}:
        # Not of the message: that one is not checked to be a schema, and pyarrow 26 crashes where it is none.
        schema = pa.ipc.read_schema(buffer)
        return schema, [pa.ipc.read_record_batch(message, schema) for message in messages[1:]]
    # Dictionaries are joined to their columns by the stream reader only, which is slower by a third.
    stream = pa.ipc.open_stream(buffer)
    return stream.schema, list(stream)


def _whole(column: Any) -> Any:
    """A chunked array as one array."""
    chunks = column.combine_chunks()
    return chunks if isinstance(chunks, pa.Array) else pa.concat_arrays(column.chunks)


def _is_compressed(kind: str, metadata: Any) -> bool:
    """Whether the flatbuffer of a batch (verified by Arrow as it was read) has a `compression` field."""
    data = memoryview(metadata)
    table = _child(data, _indirect(data, 0), _HEADER_SLOT)
    if kind == "dictionary" and table is not None:
        table = _child(data, table, _DICTIONARY_DATA_SLOT)
    return table is not None and _field(data, table, _COMPRESSION_SLOT) is not None


def _indirect(data: memoryview, place: int) -> int:
    return place + int(_UINT32.unpack_from(data, place)[0])


def _child(data: memoryview, table: int, slot: int) -> int | None:
    """Where the table in field `slot` of the table at `table` starts."""
    place = _field(data, table, slot)
    return None if place is None else _indirect(data, place)


def _field(data: memoryview, table: int, slot: int) -> int | None:
    """Where field `slot` of the flatbuffer table at `table` is; None where it is left out."""
    vtable = table - int(_INT32.unpack_from(data, table)[0])
    size = _UINT16.unpack_from(data, vtable)[0]
    entry = 4 + 2 * slot
    if entry + 2 > size:
        return None
    offset = int(_UINT16.unpack_from(data, vtable + entry)[0])
    return table + offset if offset else None


def _as_matrix(batch: Any, places: list[int]) -> FloatArray | None:
    """The columns at `places` as (columns, rows) float64; None where they are not all numbers without nulls."""
    if not places or not batch.num_rows:
        return None
    try:
        matrix: FloatArray = batch.select(places).to_tensor(row_major=False).to_numpy().T
    except pa.ArrowException:
        return None
    return matrix if matrix.dtype == np.float64 else None


def add_column(builder: TableBuilder, name: str, column: Any, limits: Limits) -> None:
    """One Arrow array as a column of a table. Raises InvalidRecord for a type that has no meaning here."""
    kind = column.type
    if kind == _DOUBLE and column.null_count == 0 and len(column):
        view: Any = np.from_dlpack(column)  # of all ways to a view the quickest
        builder.add_numeric(name, view, 0)
    elif isinstance(kind, pa.DictionaryType):
        _add_dictionary(builder, name, column, limits)
    elif _is_number(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        builder.add_numeric(name, _floats(column), column.null_count)
    elif _is_text(kind):
        _add_dictionary(builder, name, column.cast(pa.large_string()).dictionary_encode(), limits)
    elif pa.types.is_boolean(kind):
        builder.add_categorical(name, _booleans(column))
    elif pa.types.is_fixed_size_list(kind) or isinstance(kind, pa.FixedShapeTensorType):
        builder.add_array(name, _fixed_size(column, f"column {name!r}", Reason.UNSUPPORTED_TYPE))
    else:
        raise InvalidRecord(
            Reason.UNSUPPORTED_TYPE,
            f"column {name!r} is {str(kind)[:80]}: leave it out, or send it as numbers or strings",
        )


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _floats(column: Any) -> FloatArray:
    """Numbers as float64, null as NaN."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64(), safe=False)
    array: FloatArray = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return array


def _booleans(column: Any) -> list[str | None]:
    return [None if value is None else "true" if value else "false" for value in column.to_pylist()]


def _add_dictionary(builder: TableBuilder, name: str, column: Any, limits: Limits) -> None:
    values = column.dictionary
    if _is_number(values.type):
        builder.add(name, column.cast(values.type).to_pylist())
        return
    if not _is_text(values.type):
        raise InvalidRecord(
            Reason.UNSUPPORTED_TYPE, f"column {name!r} is a dictionary of {str(values.type)[:80]}, not of strings"
        )
    categories = values.to_pylist()
    if None in categories or len(set(categories)) != len(categories) or len(categories) > len(column):
        # Not a plain coding, or more categories than are used here: code it anew.
        builder.add_categorical(name, column.to_pylist())
        return
    codes = column.indices.fill_null(-1) if column.null_count else column.indices
    builder.add_codes(name, codes.to_numpy(zero_copy_only=False).astype(np.int32), tuple(categories))


def _fixed_size(column: Any, what: str, otherwise: Reason) -> FloatArray:
    """A FixedSizeList column as (rows, size, …) float64; a null row is NaN. `otherwise`: it is none."""
    rows, shape = len(column), [len(column)]
    if isinstance(column.type, pa.FixedShapeTensorType):
        tensor = column.type
        if tensor.permutation not in (None, list(range(len(tensor.shape)))):
            raise InvalidRecord(Reason.UNSUPPORTED_TYPE, f"{what} is a tensor with permuted dimensions")
        shape += tensor.shape
        column = column.storage
        array = _fixed_size(column, what, otherwise)
        return array.reshape(shape)
    missing = None
    while pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        shape.append(size)
        if column.null_count:
            null = np.repeat(column.is_null().to_numpy(zero_copy_only=False), size)
            missing = null if missing is None else np.repeat(missing, size) | null
        elif missing is not None:
            missing = np.repeat(missing, size)
        # Not flatten(), which leaves the null rows out.
        column = column.values.slice(column.offset * size, len(column) * size)
    if len(shape) == 1 or not _is_number(column.type):
        raise InvalidRecord(
            otherwise, f"{what} is {str(column.type)[:80]}, it must be a FixedSizeList of numbers, one a row"
        )
    if len(column) == 0 and rows:
        raise InvalidRecord(Reason.BAD_SHAPE, f"{what} is a list of nothing")
    array = _floats(column)
    if missing is not None:
        array = np.where(missing, np.nan, array)
    return array.reshape(shape)


def _add_block(builder: TableBuilder, column: Any, names: list[str], limits: Limits) -> None:
    """One FixedSizeList column as len(names) numeric columns."""
    block = _fixed_size(column, "column 'features'", Reason.BAD_SHAPE)  # (rows, columns)
    if block.ndim != 2 or block.shape[1] != len(names):
        raise InvalidRecord(
            Reason.BAD_SHAPE,
            f"column 'features' has shape {block.shape}, and streamd.feature_names has {len(names)} names",
        )
    check_count(block.size, "cells", limits.cells, Reason.TOO_LARGE)
    # What is NaN in a block with nulls was a null or a NaN; only the nulls count.
    has_nulls = column.null_count > 0 or column.values.null_count > 0
    nulls = _nulls_in_block(column, len(names)) if has_nulls else [0] * len(names)
    for i, name in enumerate(names):
        builder.add_numeric(name, block[:, i], nulls[i])


def _nulls_in_block(column: Any, width: int) -> list[int]:
    rows_missing = column.is_null().to_numpy(zero_copy_only=False)  # (rows,)
    cells = column.values.slice(column.offset * width, len(column) * width).is_null()
    missing = cells.to_numpy(zero_copy_only=False).reshape(len(column), width) | rows_missing[:, None]
    counts: list[int] = missing.sum(axis=0).tolist()
    return counts


def _pop(places: dict[str, int], name: str) -> int:
    if name not in places:
        raise InvalidRecord(
            Reason.BAD_SCHEMA, f"the schema metadata speaks of a column {name[:80]!r}, and there is none"
        )
    return places.pop(name)


def _feature_names(metadata: dict[bytes, bytes], limits: Limits) -> list[str]:
    try:
        names = orjson.loads(metadata[b"streamd.feature_names"])
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRecord(Reason.BAD_SCHEMA, "streamd.feature_names must be a JSON list of strings")
    if len(set(names)) != len(names):
        raise InvalidRecord(Reason.DUPLICATE_NAME, "streamd.feature_names has a name twice")
    check_count(len(names), "columns", limits.columns, Reason.TOO_MANY_COLUMNS)
    check_names(names, "column", limits)
    return names


def _metadata_text(metadata: dict[bytes, bytes], name: str) -> str | None:
    value = metadata.get(name.encode())
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        raise InvalidRecord(Reason.BAD_UTF8, f"the schema metadata {name} is not UTF-8") from None


def _time(text: str | None) -> int | str | None:
    """Metadata is text: digits are epoch milliseconds."""
    digits = text is not None and text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
    return int(text) if text is not None and digits and len(text) <= 20 else text
