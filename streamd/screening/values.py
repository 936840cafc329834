"""Arrow columns as arrays to be summarised: numbers, categories, times; and which column is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamd.dataset import DataFileError, first_line
from streamd.screening.model import ColumnType
from streamd.screening.sketches import Hashes
from streamd.table import MISSING_CODE, CodeArray, FloatArray

NAME_CHARACTERS_MAX = 200  # of a category that are kept: one cell of text may be as large as the file
_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # numbers from here on are nano-, micro-, milliseconds
MISSING_HASH = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Field:
    """One column: its name, what it is, and its type in Arrow's words."""

    name: str
    type: ColumnType
    stored: str


@dataclass(frozen=True, slots=True, eq=False)
class Numeric:
    """(rows,) doubles; a missing value is NaN, and `nulls` of the NaN are missing. Times are epoch seconds."""

    values: FloatArray
    nulls: int


@dataclass(frozen=True, eq=False)
class Text:
    """(rows,) codes of categories; −1 is missing. An Arrow array of texts, one for each code, and a hash of each."""

    codes: CodeArray
    texts: Any
    hashes: Hashes

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The category of each code."""
        return tuple(self.some_names(slice(None)))

    def some_names(self, codes: Any) -> Sequence[str]:
        """Of these codes. Long texts are cut; a null, which no row has, is empty."""
        texts = self.texts[codes] if isinstance(codes, slice) else self.texts.take(codes)
        return [(text or "")[:NAME_CHARACTERS_MAX] for text in texts.to_pylist()]

    def hashes_of_rows(self) -> Hashes:
        """(rows,)"""
        return np.append(self.hashes, MISSING_HASH)[self.codes]


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """What is counted alone."""

    nulls: int


Values = Numeric | Text | Other


def fields_of(schema: Any, time: str | None) -> tuple[Field, ...]:
    """What each column is. `time` names the column that is a time whatever its type."""
    return tuple(
        Field(f.name, "time" if f.name == time else _type(f.type), str(f.type)) for f in schema
    )  # fmt: skip


def _type(arrow: Any) -> ColumnType:
    types = pa.types
    if types.is_dictionary(arrow):
        return _type(arrow.value_type)
    if types.is_integer(arrow) or types.is_floating(arrow) or types.is_decimal(arrow) or types.is_duration(arrow):
        return "numeric"
    if types.is_boolean(arrow) or types.is_string(arrow) or types.is_large_string(arrow) or types.is_string_view(arrow):
        return "categorical"
    return "time" if types.is_timestamp(arrow) or types.is_date(arrow) else "other"


def values_of(column: Any, field: Field) -> Values:
    """A ChunkedArray's values.

    Raises:
        DataFileError: text that should be a time is none.
    """
    if field.type == "categorical":
        return _text(column)
    if field.type == "time":
        return Numeric(_seconds(column, field.name), column.null_count)
    if field.type == "numeric":
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        if pa.types.is_duration(column.type):
            column = pc.cast(column, pa.int64())
        values = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return Numeric(np.asarray(values, np.float64), column.null_count)
    return Other(column.null_count)


def _text(column: Any) -> Text:
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    indices = column.indices.fill_null(MISSING_CODE) if column.indices.null_count else column.indices
    codes = np.asarray(indices.to_numpy(zero_copy_only=False), np.int32)
    texts = pc.cast(column.dictionary, pa.large_string())
    if texts.null_count:  # a dictionary may have a null of its own
        kept = np.where(np.asarray(texts.is_null()), MISSING_CODE, np.arange(len(texts)))
        codes = np.append(kept, MISSING_CODE)[codes].astype(np.int32)
    return Text(codes, texts, _hashes(texts))


def _hashes(texts: Any) -> Hashes:
    """(n,) of all of each text."""
    from streamd.screening import kernels  # numba costs more to import than most commands take

    bytes_ = pc.cast(texts, pa.large_binary())
    _, offsets, data = bytes_.buffers()
    places = np.frombuffer(offsets, np.int64)[bytes_.offset : bytes_.offset + len(bytes_) + 1]
    return kernels.hash_texts(places, np.frombuffer(data or b"", np.uint8))


def _seconds(column: Any, name: str) -> FloatArray:
    """(rows,) epoch seconds; NaN where a time is missing."""
    types = pa.types
    if types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if types.is_integer(column.type) or types.is_floating(column.type):
        numbers = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), np.float64)
        largest = float(np.nanmax(np.abs(numbers), initial=0.0))
        return numbers / next((unit for least, unit in _EPOCHS if largest >= least), 1.0)
    try:
        times = pc.cast(_cut_zone(column), pa.timestamp("us"), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataFileError(
            f"column {name!r} is no time ({first_line(error)}): write it as 2026-11-22T14:30:00 or as epoch seconds"
        ) from error
    micros = pc.cast(times, pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(micros.to_numpy(), np.float64) / 1e6


def _cut_zone(column: Any) -> Any:
    """Text with a zone is read with it; what comes out is UTC."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        first = next((value.as_py() for value in column if value.is_valid), "")
        if first.endswith("Z") or "+" in first:
            return pc.cast(column, pa.timestamp("us", tz="UTC"))
    return column


Bools = NDArray[np.bool_]
