"""The rows that a scorer is fitted to or held against: a file, a folder, or a slice of a topic; labels, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.codec.decode import decode
from streamd.config import Config
from streamd.dataset import DataFileError, NotReadableError, Piece, open_dataset
from streamd.errors import InvalidRecord
from streamd.model import FeatureBatch, ReferencePart
from streamd.table import Table, concatenate
from streamd.transport.kafka_range import Place, read_range

_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "anomaly": True,
    "0": False,
    "false": False,
    "no": False,
    "normal": False,
}


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Rows, which of them are known to be abnormal, and what to call where they came from."""

    table: Table
    labels: NDArray[np.bool_] | None
    source: str
    rows_there: int


def from_file(
    path: Path,
    columns: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    labels: str | None,
    rows_max: int,
) -> TrainingRows:
    """At most `rows_max` rows of the file, from all of it. Says what is wrong and exits where it cannot be used."""
    others = () if labels is None else (labels,)
    try:
        data = open_dataset(path, columns, exclude, others)
        piece = data.sample(rows_max)
        marked = None if labels is None else labels_of(piece, labels, path)
    except FileNotFoundError:
        fail(ExitCode.NO_INPUT, f"there is no file {path}")
    except NotReadableError as error:
        fail(ExitCode.NO_INPUT, str(error))
    except DataFileError as error:
        fail(ExitCode.DATA, str(error))
    return TrainingRows(piece.table, marked, str(path), data.count)


def labels_of(piece: Piece, name: str, path: Path) -> NDArray[np.bool_]:
    """(rows,) True for an anomaly: a column of 0 and 1, of booleans, or of such words. Raises DataFileError."""
    values = piece.others[name]
    marked = [_label(value) for value in values.tolist()]
    if None in marked:
        odd = values[marked.index(None)]
        raise DataFileError(f"{path}: the label {odd!r} in {name!r} is neither 0 or 1 nor one of {', '.join(_WORDS)}")
    return np.array(marked, dtype=bool)


def _label(value: Any) -> bool | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _WORDS.get(str(value).strip().lower())


def from_topic(
    config: Config, topic: str, stream: str, start: Place | None, end: Place | None, rows_max: int
) -> TrainingRows:
    """The last rows of a stream in a slice of a topic. Records that cannot be used are passed over."""
    tables: list[Table] = []
    rows = seen = passed = 0
    for envelope in read_range(config.kafka, topic, start, end):
        try:
            found = decode(envelope, config.limits, "features")
        except InvalidRecord:
            passed += 1
            continue
        batch = found.batch if isinstance(found, ReferencePart) else found
        if not isinstance(batch, FeatureBatch) or batch.stream != stream:
            continue
        tables.append(concatenate([batch.table]))  # a copy: a batch may be a view of a larger buffer
        rows += batch.table.rows
        seen += batch.table.rows
        while tables and rows - tables[0].rows >= rows_max:
            rows -= tables.pop(0).rows
    if not rows:
        bad = f"; {passed} records could not be read" if passed else ""
        fail(ExitCode.DATA, f"{topic} has no rows of the stream {stream!r} there{bad}")
    return TrainingRows(concatenate(tables), None, f"{topic} ({stream})", seen)
