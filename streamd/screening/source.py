"""Where rows come from: files, folders, npz, Arrow tables, pandas and polars frames; in chunks that can go anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds

from streamd.dataset import (
    DataFileError,
    NotReadableError,
    arrow_batches,
    arrow_count,
    check_readable,
    choose,
    first_line,
    open_arrow,
)

CHUNK_ROWS = 1_000_000  # what one worker does at a time, and what is merged in order: the same on every engine
BATCH_ROWS = 131_072  # read together: sorting more does not fit a processor's cache
BATCH_CELLS = 8_000_000  # 64 MB of doubles: wide data come in shorter batches
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a file begins
_ICONV = "convert the file, for instance by iconv -f latin1 -t utf-8"
HELD_BYTES = 256_000_000  # of files up to a quarter of it, and what they hold: read once, then kept in memory
RETYPED_MAX = 200  # columns of a CSV file that begin as numbers and go on as text


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Neighbouring rows. Can be pickled.

    Attributes:
        first_row: its number in all of the data.
        rows: how many there are.
        data: a pyarrow Dataset, or a pyarrow Table.
    """

    first_row: int
    rows: int
    data: Any


@dataclass(frozen=True, eq=False)
class Source:
    """Rows that can be read as often as one likes.

    Attributes:
        name: in words, for people: a path, `a pandas DataFrame`.
        schema: of Arrow.
        rows: how many.
        chunks: all of them, in their order.
    """

    name: str
    schema: Any
    rows: int
    chunks: tuple[Chunk, ...]

    def read(self, chunk: Chunk, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Any]]:
        """(number of its first row, Arrow table), in order. Raises DataFileError where the file is broken."""
        names = self.schema.names if columns is None else list(columns)
        rows = max(1024, min(BATCH_ROWS, BATCH_CELLS // max(1, len(names))))
        first = chunk.first_row
        if isinstance(chunk.data, pa.Table):
            parts: Iterator[Any] = (
                chunk.data.slice(at, rows).select(names) for at in range(0, chunk.data.num_rows, rows)
            )
        else:
            parts = arrow_batches(Path(self.name), chunk.data, names, rows)
        for part in parts:
            yield first, part
            first += part.num_rows


def open_source(data: Any) -> Source:
    """Rows of a path, or of a frame in memory.

    Args:
        data: a path (Parquet, CSV, Arrow, npz, a folder of them), a pyarrow Table, a pandas or a polars DataFrame.

    Raises:
        FileNotFoundError, NotReadableError: no such file, or it may not be read.
        DataFileError: it cannot be used; the text says why and what to do.
        TypeError: data is nothing of that kind.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        check_readable(path)
        source = _arrays(path) if path.suffix.lower() == ".npz" and path.is_file() else _files(path, {})
    else:
        source = _table(*_in_memory(data))
    choose(Path(source.name), source.schema.names, None, (), ())  # a name that is there twice cannot be asked for
    if not source.schema.names:
        raise DataFileError(f"{source.name} has no columns: is it the right file?")
    if not source.rows:
        raise DataFileError(f"{source.name} has no rows, only the names of {len(source.schema.names)} columns")
    return source


# --- Files ----------------------------------------------------------------------------------------


def _files(path: Path, as_text: dict[str, Any]) -> Source:
    if path.suffix.lower() == ".csv" and path.is_file():
        _check_encoding(path)
    try:
        dataset = open_arrow(path)
    except NotReadableError:
        raise
    except DataFileError as error:
        raise DataFileError(_sentence(path, str(error))) from error
    _check_schemas(path, dataset)
    counts: dict[str, int] = {}
    if isinstance(dataset.format, ds.CsvFileFormat):
        dataset, held, counts = _csv(path, dataset, as_text)
    else:
        held = _held(path, dataset)
    if held is not None:
        return _table(str(path), held)
    chunks, first = [], 0
    for fragments, rows in _chunks(path, dataset, counts):
        part = ds.FileSystemDataset(fragments, dataset.schema, dataset.format, filesystem=dataset.filesystem)
        chunks.append(Chunk(first, rows, part))
        first += rows
    return Source(str(path), dataset.schema, first, tuple(chunks))


def _held(path: Path, dataset: Any) -> Any:
    """All of a small data set; None of a larger one."""
    held = Held(dataset)
    if held.small:
        for batch in arrow_batches(path, dataset, dataset.schema.names, BATCH_ROWS):
            held.add(batch.to_batches())
            if not held.small:
                break
    return held.table()


class Held:
    """What was read of a data set, as long as it is little."""

    def __init__(self, dataset: Any) -> None:
        self._schema = dataset.schema
        self._batches: list[Any] = []
        self._bytes = 0
        self.small = sum(os.path.getsize(file) for file in dataset.files) <= HELD_BYTES // 4

    def add(self, batches: Iterable[Any]) -> None:
        for batch in batches if self.small else ():
            self._batches.append(batch)
            self._bytes += batch.get_total_buffer_size()
        if self._bytes > HELD_BYTES:
            self.small, self._batches = False, []

    def table(self) -> Any:
        """None of what is not little."""
        return pa.Table.from_batches(self._batches, self._schema).combine_chunks() if self.small else None


def _chunks(path: Path, dataset: Any, counts: Mapping[str, int]) -> Iterator[tuple[list[Any], int]]:
    """Fragments, each time of CHUNK_ROWS rows or more, and how many: row groups of Parquet, else whole files.

    `counts` has the rows of files that are known already.
    """
    pending: list[Any] = []
    waiting = 0
    for fragment in dataset.get_fragments():
        for piece in _pieces(path, fragment):
            pending.append(piece)
            waiting += counts[piece.path] if piece.path in counts else _count(path, piece)
            if waiting >= CHUNK_ROWS:
                yield pending, waiting
                pending, waiting = [], 0
    if waiting:
        yield pending, waiting


def _count(path: Path, piece: Any) -> int:
    """Rows. A fragment of some row groups counts those of its whole file."""
    groups = getattr(piece, "row_groups", None)
    return sum(group.num_rows for group in groups) if groups else arrow_count(path, piece)


def _pieces(path: Path, fragment: Any) -> list[Any]:
    if not hasattr(fragment, "split_by_row_group"):
        return [fragment]
    try:
        return list(fragment.split_by_row_group())
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"{path}: {first_line(error)}") from error


def _sentence(path: Path, error: str) -> str:
    """What is wrong with a file that cannot be opened, without Arrow's nested words."""
    if "Empty CSV" in error or "file size is 0 bytes" in error:
        return f"{path} is empty: was it written to the end?"
    if "magic bytes" in error or "Not an Arrow file" in error:
        return f"{path} is cut off, or is no {path.suffix.lstrip('.')} file: copy or write it again"
    if "multiple columns named" in error:
        name = error.rpartition("multiple columns named ")[2]
        return f"{path} has two columns of the name {name!r}: rename one"
    if "straddling object" in error:
        return f"{path}: {_csv_sentence(error)}"
    if "CSV parse error: " in error:
        return f"{path}: {_csv_sentence(error.rpartition('CSV parse error: ')[2])}"
    return error


def _check_schemas(path: Path, dataset: Any) -> None:
    """All files of a folder have the columns of the first, of the same types; of CSV files, the names alone."""
    by_name = isinstance(dataset.format, ds.CsvFileFormat)
    first: tuple[str, Any] | None = None
    for fragment in dataset.get_fragments():
        try:
            schema = fragment.physical_schema.remove_metadata()
            if by_name:
                schema = pa.schema([(name, pa.string()) for name in schema.names])
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(_sentence(Path(fragment.path), f"{fragment.path}: {first_line(error)}")) from error
        if first is None:
            first = fragment.path, schema
        elif schema != first[1]:
            raise DataFileError(
                f"{path} has files of different columns: {_difference(first[1], schema)} in "
                f"{Path(fragment.path).name}, unlike {Path(first[0]).name}: name one file, or bring them to one schema"
            )


def _difference(first: Any, other: Any) -> str:
    types = {field.name: field.type for field in first}
    there = {field.name: field.type for field in other}
    for name in types:
        if name not in there:
            return f"{name!r} is missing"
        if there[name] != types[name]:
            return f"{name!r} is {there[name]}, not {types[name]},"
    new = [name for name in there if name not in types]
    return f"{new[0]!r} is new" if new else "the order is another"


def _check_encoding(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(2) in _UTF_16:
            raise DataFileError(f"{path} is UTF-16: {_ICONV.replace('latin1', 'utf-16')}")


def _csv(path: Path, dataset: Any, as_text: dict[str, Any]) -> tuple[Any, Any, dict[str, int]]:
    """Empty cells are missing, in text too. A column that begins as numbers and goes on as text is text.

    Returns:
        the data set with its types, all of its rows where they are few, and how many each file has.
    """
    for _ in range(RETYPED_MAX):
        options = csv.ConvertOptions(column_types=as_text, strings_can_be_null=True)
        opened = ds.dataset(
            dataset.files, format=ds.CsvFileFormat(convert_options=options), partitioning=dataset.partitioning
        )
        undecoded = [field.name for field in opened.schema if pa.types.is_binary(field.type)]
        if undecoded:
            raise DataFileError(f"{path}: column {undecoded[0]!r} is not UTF-8: {_ICONV}")
        try:
            return opened, *_read_through(opened)
        except (pa.ArrowException, OSError) as error:
            name = _unconverted(first_line(error), opened.schema.names)
            if name is None or name in as_text:
                raise DataFileError(f"{path}: {_csv_sentence(first_line(error))}") from error
            as_text = {**as_text, name: pa.string()}
    raise DataFileError(f"{path}: more than {RETYPED_MAX} columns begin as numbers and go on as text: is it one table?")


def _read_through(opened: Any) -> tuple[Any, dict[str, int]]:
    """All rows where they are few, and how many each file has. Raises what Arrow raises where types do not fit."""
    held = Held(opened)
    counts: dict[str, int] = {}
    for fragment in opened.get_fragments():
        counts[fragment.path] = 0
        for batch in fragment.to_batches(opened.schema, batch_readahead=2):
            counts[fragment.path] += batch.num_rows
            held.add([batch])
    return held.table(), counts


def _unconverted(error: str, names: Sequence[str]) -> str | None:
    """The column that could not be converted: pyarrow counts them from 0, `In CSV column #3: …`."""
    if "conversion error to" not in error or "conversion error to string" in error:
        return None
    place = error.partition("In CSV column #")[2].partition(":")[0]
    return names[int(place)] if place.isdigit() and int(place) < len(names) else None


def _csv_sentence(error: str) -> str:
    if "straddling object" in error:
        return "a line is longer than 1 MB: is a quote missing? What holds such cells is better written as Parquet"
    if "Expected" in error and " columns, got " in error:
        where, _, rest = error.partition(": Expected ")
        wanted, _, got = rest.partition(" columns, got ")
        row = where.rpartition("Row ")[2]
        return (
            f"line {row.lstrip('#')} has {got.partition(':')[0]} cells, the first has {wanted}: "
            f"quote cells that hold commas, or mend the line"
        )
    if "invalid UTF8" in error:
        column = error.partition("column #")[2].partition(":")[0]
        line = error.partition("Row #")[2].partition(":")[0]
        return (
            f"line {line}, cell {int(column) + 1} is not UTF-8: {_ICONV}" if column.isdigit() else f"{error}: {_ICONV}"
        )
    return error


# --- In memory ------------------------------------------------------------------------------------


def _table(name: str, table: Any) -> Source:
    rows = table.num_rows
    chunks = [
        Chunk(first, min(CHUNK_ROWS, rows - first), table.slice(first, CHUNK_ROWS))
        for first in range(0, rows, CHUNK_ROWS)
    ]
    return Source(name, table.schema, rows, tuple(chunks))


def _in_memory(data: Any) -> tuple[str, Any]:
    """(what it is, an Arrow table)."""
    library = type(data).__module__.partition(".")[0]
    if isinstance(data, pa.Table):
        return "an Arrow table", data
    if library == "polars" and hasattr(data, "to_arrow"):
        return "a polars DataFrame", data.to_arrow()
    if library == "pandas" and hasattr(data, "columns"):
        return "a pandas DataFrame", _of_pandas(data)
    raise TypeError(f"a path, an Arrow table, a pandas or polars DataFrame can be screened, not {type(data).__name__}")


def _of_pandas(frame: Any) -> Any:
    """A column of mixed types becomes text."""
    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataFileError(f"a pandas DataFrame has two columns of the name {twice!r}: rename one")
    columns = []
    for place in range(len(names)):
        column = frame.iloc[:, place]
        try:
            columns.append(pa.Array.from_pandas(column))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns.append(pa.Array.from_pandas(column.map(str).where(column.notna(), None)))
    return pa.table(dict(zip(names, columns, strict=True)))


def _arrays(path: Path) -> Source:
    """npz: arrays of one length, (rows,) a column, (rows, columns) one column each."""
    from streamd.dataset import open_dataset

    table = next(iter(open_dataset(path).tables(2**40)), None)
    if table is None:
        raise DataFileError(f"{path} has no rows")
    if table.table.arrays:
        name = next(iter(table.table.arrays))
        raise DataFileError(f"{path}: {name!r} has more than two dimensions: leave it out")
    columns: dict[str, Any] = dict(table.table.numeric)
    for name, each in table.table.categorical.items():
        columns[name] = pa.array(np.array(each.categories, dtype=object)[each.codes], pa.string())
    source = _table(str(path), pa.table(columns))
    return Source(str(path), source.schema, source.rows, source.chunks)
