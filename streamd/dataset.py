"""Files of rows as Tables, little by little: Parquet, CSV and Arrow files and folders, npz, folders of images.

    DataSet ──tables(rows)──▶ Piece(table of features, the other columns that were asked for)
            ──sample(rows)──▶ one Piece, blocks of neighbours from all of it: what a fit learns from

A file is never held in memory. npz files are, as numpy reads them.
"""

from __future__ import annotations

import difflib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from streamd.codec.arrow import add_column
from streamd.codec.columns import TableBuilder
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, StreamdError
from streamd.table import Categorical, Table, concatenate

FORMATS = {  # suffix -> what Arrow calls it
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".gz": "csv",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
READ_ROWS = 16_384  # what one read decodes at least; small reads cost more than the rows
BLOCKS = 20  # of neighbours, that a sample is made of: what depends on the row before it can be seen to
_OWN_FILE = Limits(
    rows=2**40, columns=2**20, cells=2**50
)  # what a person names is not bounded like a stranger's record


class DataFileError(StreamdError):
    """The file's content cannot be used; the text says why and what to do."""


class NotReadableError(DataFileError):
    """A file or folder may not be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some rows: their features, and the other columns that were asked for, one value a row."""

    table: Table
    others: Mapping[str, NDArray[Any]]

    def take(self, rows: NDArray[np.intp]) -> Piece:
        """The rows at these places."""
        return Piece(self.table.take(rows), {name: values[rows] for name, values in self.others.items()})


@dataclass(frozen=True)
class DataSet:
    """Rows of one file or folder, to be read as often as one likes.

    Attributes:
        path: of the file or folder.
        features: names of the columns that are features.
        count: how many rows there are.
    """

    path: Path
    features: tuple[str, ...]
    count: int
    _read: Callable[[int], Iterator[Piece]]

    def tables(self, rows: int = READ_ROWS) -> Iterator[Piece]:
        """All rows in their order, `rows` at a time; the last piece may have fewer.

        Raises:
            DataFileError: the file is broken, or a column is nothing that can be a feature.
        """
        return self._read(rows)

    def sample(self, rows_max: int) -> Piece:
        """All rows where they are at most `rows_max`, else the first rows of each of 20 blocks of neighbours."""
        block_rows = max(1, -(-self.count // BLOCKS))
        kept = block_rows if self.count <= rows_max else max(1, rows_max // BLOCKS)
        first, pieces = 0, []
        for piece in self.tables():
            places = np.arange(first, first + piece.table.rows)
            pieces.append(piece.take(np.flatnonzero(places % block_rows < kept)))
            first += piece.table.rows
        if not first:
            raise DataFileError(f"{self.path} has no rows")
        others = {name: np.concatenate([piece.others[name] for piece in pieces]) for name in pieces[0].others}
        return Piece(concatenate([piece.table for piece in pieces]), others)


def open_dataset(
    path: Path, features: Sequence[str] | None = None, exclude: Sequence[str] = (), others: Sequence[str] = ()
) -> DataSet:
    """The rows of a file or folder.

    Args:
        path: a Parquet, CSV or Arrow file, a folder of such files (partitions, too), an npz file, a folder of images.
        features: names of the columns that are features; None: all that are in neither `exclude` nor `others`.
        others: columns that are wanted beside them: labels, a time.

    Raises:
        FileNotFoundError: there is no such file.
        NotReadableError: it may not be read.
        DataFileError: it cannot be used, or has no column of that name.
    """
    check_readable(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _open_arrays(path, _read_npz(path), features, exclude, others)
    if path.is_dir() and (images := _images(path)) is not None:
        return _open_arrays(path, {"image": images}, features, exclude, others)
    arrow = open_arrow(path)
    chosen = choose(path, arrow.schema.names, features, exclude, others)
    wanted = [*chosen, *(name for name in others if name not in chosen)]

    def read(rows: int) -> Iterator[Piece]:
        for batch in arrow_batches(path, arrow, wanted, rows):
            yield Piece(table_of(path, batch, chosen), {name: _values(batch.column(name)) for name in others})

    return DataSet(path, chosen, arrow_count(path, arrow), read)


# --- Arrow ----------------------------------------------------------------------------------------


def open_arrow(path: Path) -> Any:
    """A pyarrow Dataset over the file, or over the files of one format in the folder.

    Raises:
        FileNotFoundError, NotReadableError, DataFileError: as `open_dataset`.
    """
    check_readable(path)
    kind, files = _kind(path)
    try:
        # Files by name: another file in the folder, of no rows, is not an error.
        return ds.dataset(files or str(path), format=kind, partitioning=_partitioning(path, files))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataFileError(
            f"{path} is not a readable {kind} {'folder' if files else 'file'}: {first_line(error)}"
        ) from error


def arrow_count(path: Path, dataset: Any) -> int:
    """Rows: from the metadata, except that CSV is read through once. Raises DataFileError."""
    try:
        return int(dataset.count_rows())
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"{path}: {first_line(error)}") from error


def arrow_batches(path: Path, dataset: Any, columns: Sequence[str], rows: int) -> Iterator[Any]:
    """Tables of `rows` rows across the borders of row groups; the last may have fewer. Raises DataFileError."""
    pending: list[Any] = []
    waiting = 0
    try:
        # Little is read ahead: who asks for it, not the disk, is what this waits for.
        scanner = dataset.scanner(
            columns=list(columns), batch_size=max(rows, READ_ROWS), batch_readahead=2, fragment_readahead=1
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
        raise DataFileError(f"{path}: {first_line(error)}") from error
    if waiting:
        yield pa.Table.from_batches(pending)


def choose(
    path: Path, there: Sequence[str], features: Sequence[str] | None, exclude: Sequence[str], others: Sequence[str]
) -> tuple[str, ...]:
    """The names of the features. Raises DataFileError for one that is not there, or is there twice."""
    for name in (*(features or ()), *exclude, *others):
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there[:20])}"
            raise DataFileError(f"{path} has no column {name!r}: {hint}")
    if len(set(there)) < len(there):
        twice = next(name for name in there if list(there).count(name) > 1)
        raise DataFileError(f"{path} has two columns of the name {twice!r}: rename one")
    return tuple(features) if features is not None else tuple(n for n in there if n not in (*exclude, *others))


def table_of(path: Path, rows: Any, features: Sequence[str]) -> Table:
    """The features of an Arrow table as a Table. Raises DataFileError for a column that is no feature."""
    builder = TableBuilder(_OWN_FILE)
    for name in features:
        column = rows.column(name).combine_chunks()
        column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
        try:
            add_column(builder, name, column, _OWN_FILE)
        except InvalidRecord as error:
            raise DataFileError(f"{path}: {error.detail}: leave it out with --exclude {name}") from error
    if not features:
        raise DataFileError(f"{path} has no column that is a feature")
    return builder.build()


def _kind(path: Path) -> tuple[str, list[str]]:
    """The format, and the files of a folder. Hidden files and markers such as `_SUCCESS` are passed over."""
    if not path.is_dir():
        kind = FORMATS.get(path.suffix.lower())
        if kind is None:
            raise DataFileError(f"{path}: {path.suffix or 'no suffix'} is not one of {', '.join(FORMATS)}, .npz")
        return kind, []
    found = {f: FORMATS[f.suffix.lower()] for f in sorted(_inside(path)) if _is_data(f, path)}
    for file in found:
        check_readable(file)
    kinds = sorted(set(found.values()))
    if not kinds:
        raise DataFileError(f"{path} has no file that ends in {', '.join((*FORMATS, *IMAGES))}")
    if len(kinds) > 1:
        raise DataFileError(
            f"{path} has files of several formats ({', '.join(kinds)}): name one file, or a folder of one"
        )
    return kinds[0], [str(file) for file in found]


def _inside(folder: Path) -> Iterator[Path]:
    """All files, those of folders in it, too. A folder that may not be read is an error: its rows would be missed."""

    def refuse(error: OSError) -> None:
        raise NotReadableError(_may_not_be_read(Path(error.filename))) from error

    for inner, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(inner, name) for name in names)


def check_readable(path: Path) -> None:
    """Raises FileNotFoundError where there is nothing, NotReadableError where this process may not read it."""
    try:
        path.stat()
    except PermissionError as error:  # a folder on the way to it
        raise NotReadableError(_may_not_be_read(path)) from error
    except OSError as error:
        raise FileNotFoundError(path) from error
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise NotReadableError(_may_not_be_read(path))


def _may_not_be_read(path: Path) -> str:
    return f"{path} may not be read: give yourself the right to read it"


def _is_data(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.suffix.lower() in FORMATS


def _partitioning(path: Path, files: Sequence[str]) -> Any:
    """`year=2018/month=03/…` in a folder are columns."""
    return ds.partitioning(flavor="hive") if any("=" in Path(f).relative_to(path).as_posix() for f in files) else None


def _values(column: Any) -> NDArray[Any]:
    """A column as it is: numbers, strings or times; what is missing is NaN, None or NaT."""
    values: NDArray[Any] = column.to_numpy()
    return values


# --- npz and images -------------------------------------------------------------------------------


def _open_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], features: Sequence[str] | None, exclude: Sequence[str],
    others: Sequence[str],
) -> DataSet:  # fmt: skip
    """Arrays of one length: (rows,) a column, (rows, columns) one column each, (rows, …) an n-dimensional feature."""
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataFileError(f"{path}: its arrays differ in rows ({', '.join(f'{n} {c}' for n, c in lengths.items())})")
    columns: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        if values.ndim == 2:
            columns |= {f"{name}{i}": values[:, i] for i in range(values.shape[1])}
        else:
            columns[name] = values
    chosen = choose(path, tuple(columns), features, exclude, others)

    def read(rows: int) -> Iterator[Piece]:
        for first in range(0, next(iter(lengths.values()), 0), rows):
            cut = slice(first, first + rows)
            yield Piece(_table(path, {n: columns[n][cut] for n in chosen}), {n: columns[n][cut] for n in others})

    return DataSet(path, chosen, next(iter(lengths.values()), 0), read)


def _table(path: Path, columns: Mapping[str, NDArray[Any]]) -> Table:
    numeric, categorical, arrays = {}, {}, {}
    for name, values in columns.items():
        if values.dtype.kind in "US":
            categories, codes = np.unique(values.astype(str), return_inverse=True)
            categorical[name] = Categorical(codes.astype(np.int32), tuple(categories.tolist()))
        elif values.dtype.kind not in "fiub":
            raise DataFileError(f"{path}: {name!r} is {values.dtype}, which is neither numbers nor text")
        elif values.ndim == 1:
            numeric[name] = values.astype(np.float64)
        else:
            arrays[name] = values.astype(np.float64)
    if not columns:
        raise DataFileError(f"{path} has no column that is a feature")
    return Table(len(next(iter(columns.values()))), numeric, {}, categorical, arrays)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataFileError(f"{path} is not a readable npz file of plain arrays: {first_line(error)}") from error


def _images(folder: Path) -> NDArray[np.uint8] | None:
    """The pictures in a folder, by name, as (images, height, width) or (images, channels, height, width)."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGES]
    if not files:
        return None
    from PIL import Image, UnidentifiedImageError

    pictures = []
    for file in files:
        try:
            with Image.open(file) as image:
                picture = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DataFileError(f"{file} is not a readable picture: {first_line(error)}") from error
        pictures.append(picture if picture.ndim == 2 else np.moveaxis(picture, 2, 0))
        if pictures[-1].shape != pictures[0].shape:
            raise DataFileError(
                f"{file} is {pictures[-1].shape}, {files[0].name} is {pictures[0].shape}: bring them to one size"
            )
    return np.stack(pictures)


def first_line(error: BaseException) -> str:
    """What an error says, without its context."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
