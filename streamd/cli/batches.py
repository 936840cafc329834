"""Rows of a parquet, CSV or Arrow file as batches to send, without holding the file in memory."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from streamd.errors import StreamdError

FORMATS = {  # suffix -> what Arrow calls it
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".gz": "csv",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
}
_READ_ROWS = 16_384  # what one read decodes at least; small reads cost more than the rows


class DataFileError(StreamdError):
    """The file's content cannot be sent; the text says why and what to do."""


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
        if not path.exists():
            raise FileNotFoundError(path)
        kind = FORMATS.get(path.suffix.lower())
        if kind is None:
            raise DataFileError(f"{path}: {path.suffix or 'no suffix'} is not one of {', '.join(FORMATS)}")
        self._path = path
        self._columns = columns
        try:
            self._dataset = ds.dataset(str(path), format=kind)
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(f"{path} is not a readable {kind} file: {_first_line(error)}") from error
        self.names = tuple(self._dataset.schema.names)
        self.features = self._choose()
        self._read = [*self.features, *columns.logits, *columns.probabilities]
        self._read += [name for name in (columns.ids, columns.time) if name is not None and name not in self._read]

    def count(self) -> int:
        """Rows in the file: from its metadata, except that a CSV file is read through once."""
        try:
            return int(self._dataset.count_rows())
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(f"{self._path}: {_first_line(error)}") from error

    def batches(self, rows: int) -> Iterator[Batch]:
        """Batches of `rows` rows in the file's order; the last may be shorter. DataFileError as for the file."""
        for table in self._tables(rows):
            yield self._batch(table)

    def _choose(self) -> list[str]:
        """The names of the feature columns, all names checked."""
        columns = self._columns
        there = self._dataset.schema.names
        other = [*columns.exclude, *columns.logits, *columns.probabilities]
        given = [*(columns.features or ()), *other]
        for name in (columns.ids, columns.time):
            if name is not None:
                given.append(name)
                other.append(name)
        for name in given:
            if name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there[:20])}"
                raise DataFileError(f"{self._path} has no column {name!r}: {hint}")
        if len(set(there)) < len(there):
            raise DataFileError(f"{self._path} has two columns of one name: rename one")
        return list(columns.features) if columns.features is not None else [n for n in there if n not in other]

    def _tables(self, rows: int) -> Iterator[pa.Table]:
        """The file cut into tables of `rows` rows, across the borders of its row groups."""
        pending: list[pa.RecordBatch] = []
        waiting = 0
        try:
            # Little is read ahead: the broker, not the disk, is what this waits for.
            scanner = self._dataset.scanner(
                columns=self._read, batch_size=max(rows, _READ_ROWS), batch_readahead=2, fragment_readahead=1
            )
            for piece in scanner.to_batches():
                pending.append(piece)
                waiting += piece.num_rows
                if waiting < rows:
                    continue
                table = pa.Table.from_batches(pending)
                whole = waiting - waiting % rows
                for first in range(0, whole, rows):
                    yield table.slice(first, rows)
                pending = table.slice(whole).to_batches()
                waiting -= whole
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(f"{self._path}: {_first_line(error)}") from error
        if waiting:
            yield pa.Table.from_batches(pending)

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
            raise DataFileError(f"{self._path}: predictions must be numbers: {_first_line(error)}") from error

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
        """When the batch was complete: its latest time, epoch milliseconds. Times without a zone are taken as UTC."""
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
                f"{self._path}: column {self._columns.time!r} is not a time: {_first_line(error)}"
            ) from error
        latest = pc.max(column).as_py()
        return None if latest is None else int(latest)


def _is_feature(kind: pa.DataType) -> bool:
    """Numbers, text, booleans, and lists of numbers: an n-dimensional feature."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_feature(kind.value_type)
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    return any(check(kind) for check in checks) or pa.types.is_large_string(kind)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
