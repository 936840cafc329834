"""Rows of a parquet, CSV or Arrow file as batches to send, without holding the file in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamd.client.arguments import parts_of
from streamd.dataset import (
    READ_ROWS,
    DataFileError,
    arrow_batches,
    arrow_count,
    choose,
    first_line,
    open_arrow,
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file are what; `features` None: all that are nothing else and are not excluded."""

    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    logits: tuple[str, ...] = ()
    probabilities: tuple[str, ...] = ()
    ids: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What `FeatureProducer.send` takes."""

    rows: int
    features: Mapping[str, Any] | None
    logits: Any
    probabilities: Any
    ids: list[str] | None
    ts: int | None


class DataFile:
    """A file of rows.

    Attributes:
        names: of all its columns.
        features: names of those that are features.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: it cannot be read, or a column that was asked for is not in it.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns
        self._dataset = open_arrow(path)
        self.names = tuple(self._dataset.schema.names)
        other = [*columns.exclude, *columns.logits, *columns.probabilities]
        other += [name for name in (columns.ids, columns.time) if name is not None]
        self.features = list(choose(path, self.names, columns.features, other, ()))
        self._read = [*self.features, *columns.logits, *columns.probabilities]
        self._read += [name for name in (columns.ids, columns.time) if name is not None and name not in self._read]

    def count(self) -> int:
        """Rows in the file: from its metadata, except that a CSV file is read through once."""
        return arrow_count(self._path, self._dataset)

    def batches(self, rows: int) -> Iterator[Batch]:
        """Batches of `rows` rows in the file's order; the last may be shorter. DataFileError as for the file."""
        for table in arrow_batches(self._path, self._dataset, self._read, rows):
            yield self._batch(table)

    def parts(self, rows: int) -> tuple[int, Iterator[Batch]]:
        """The rows as the parts of a reference, `rows` in one at most, and how many parts.

        With a time column they are in the order of time, and of one hour each: a season is learned by it. For that
        the file is held in memory, as the reference will be.

        Raises:
            DataFileError: as for the file; a row has no time; there are more parts than the daemon takes.
        """
        column = self._columns.time
        if column is None:
            return len(parts_of(self.count(), rows, None)), self.batches(rows)
        table = pa.concat_tables(arrow_batches(self._path, self._dataset, self._read, READ_ROWS))
        times = self._times(table.column(column))
        if times.null_count:
            row = pc.index(pc.is_null(times), True).as_py()
            raise DataFileError(f"{self._path}: row {row} has no {column!r}; a reference wants the time of every row")
        order = np.argsort(times.to_numpy(), kind="stable")
        if (np.diff(order) < 0).any():
            table = table.unify_dictionaries().take(order)
        parts = parts_of(table.num_rows, rows, np.sort(times.to_numpy()).tolist())
        return len(parts), (self._batch(table.slice(first, last - first)) for first, last in parts)

    def _batch(self, table: pa.Table) -> Batch:
        columns = self._columns
        probabilities = self._matrix(table, columns.probabilities)
        if probabilities is not None and probabilities.shape[1] == 1:
            # A binary model's one column is the probability of its second class.
            probabilities = np.concatenate([1.0 - probabilities, probabilities], axis=1)  # (rows, 2)
        features = {name: self._feature(name, table.column(name)) for name in self.features}
        ids = None if columns.ids is None else [str(value) for value in table.column(columns.ids).to_pylist()]
        ts = None if columns.time is None else self._time(table.column(columns.time))
        return Batch(table.num_rows, features or None, self._matrix(table, columns.logits), probabilities, ids, ts)

    def _matrix(self, table: pa.Table, names: Sequence[str]) -> Any:
        """(rows, len(names)) float64, or None without names."""
        if not names:
            return None
        try:
            return np.stack(
                [table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names], axis=1
            )
        except pa.ArrowException as error:
            raise DataFileError(f"{self._path}: predictions must be numbers: {first_line(error)}") from error

    def _feature(self, name: str, column: pa.ChunkedArray) -> Any:
        """An array where all are numbers, else a list with None where a value is missing."""
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = kind.value_type
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        elif pa.types.is_null(kind):
            return [None] * len(column)
        elif not _is_feature(kind):
            raise DataFileError(
                f"{self._path}: column {name!r} is {kind}, which is no feature: name the columns to send with --columns"
            )
        numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        return column.to_numpy() if numeric and column.null_count == 0 else column.to_pylist()

    def _time(self, column: pa.ChunkedArray) -> int | None:
        """When the batch was complete: its latest time, epoch milliseconds."""
        latest = pc.max(self._times(column)).as_py()
        return None if latest is None else int(latest)

    def _times(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Epoch milliseconds. Times without a zone are taken as UTC."""
        try:
            if pa.types.is_string(column.type):
                column = column.cast(pa.timestamp("ms", tz="UTC"))
            if pa.types.is_date(column.type):
                column = column.cast(pa.timestamp("ms"))
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64())
            if not pa.types.is_integer(column.type):
                raise DataFileError(
                    f"{self._path}: column {self._columns.time!r} is {column.type}: --time wants timestamps, "
                    "RFC 3339 text or epoch milliseconds"
                )
        except pa.ArrowException as error:
            raise DataFileError(
                f"{self._path}: column {self._columns.time!r} is not a time: {first_line(error)}"
            ) from error
        return column


def _is_feature(kind: pa.DataType) -> bool:
    """Numbers, text, booleans, and lists of numbers: an n-dimensional feature."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_feature(kind.value_type)
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    return any(check(kind) for check in checks) or pa.types.is_large_string(kind)
