"""A bundle on disk: what a fit learned, what normal looked like, and who may trust it. No pickle.

monitors/fraud-7/
    bundle.json            what this is: versions, columns, settings, threshold, metrics, and the files' sha256
    weights.safetensors    the scorer, as `scorers.fitted` writes it
    reference.arrow        rows of normal data: what `ks`, `chi2`, `entropy`, `iqr` and `quality` compare with
    loss.svg, …            pictures for people
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from streamd.codec.arrow import add_column
from streamd.codec.columns import TableBuilder
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, StreamdError
from streamd.table import FloatArray, Predictions, Table

FORMAT = "streamd-bundle/1"
DESCRIPTION, WEIGHTS, REFERENCE = "bundle.json", "weights.safetensors", "reference.arrow"
_LIMITS = Limits(rows=2**40, columns=2**20, cells=2**50)


class BundleError(StreamdError):
    """The folder is no bundle that can be used; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class BundleFolder:
    """What is in the folder, read and checked.

    Attributes:
        description: bundle.json.
        weights: bytes of the scorer; None where the bundle is a profile alone (of `streamd screen`).
        reference: rows of normal data.
        pictures: file name -> content.
    """

    description: Mapping[str, Any]
    weights: bytes | None
    reference: Table
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of everything that judges. Alerts carry that of `weights.safetensors`."""
        return hashlib.sha256((self.weights or b"") + self.reference.sha256().encode()).hexdigest()


def write(folder: Path, bundle: BundleFolder, *, replace: bool = False) -> None:
    """Write the bundle, whole or not at all.

    Raises:
        BundleError: the folder is there, and is to stay or is no bundle.
        OSError: it cannot be written.
    """
    if folder.exists() and not (replace and (folder / DESCRIPTION).is_file()):
        what = "there already: choose another --out, or --replace it" if not replace else "there and is no bundle"
        raise BundleError(f"{folder} is {what}")
    files = {REFERENCE: reference_bytes(bundle.reference), **bundle.pictures}
    if bundle.weights is not None:
        files[WEIGHTS] = bundle.weights
    listed = {n: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for n, data in sorted(files.items())}
    description = {"format": FORMAT, **bundle.description, "sha256": bundle.sha256, "files": listed}
    files[DESCRIPTION] = json.dumps(description, indent=2, ensure_ascii=False).encode() + b"\n"
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made.chmod(0o755)
        for name, data in files.items():
            (made / name).write_bytes(data)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            os.replace(folder, old / "old")
            os.replace(made, folder)
            shutil.rmtree(old)
        else:
            os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def read(folder: Path) -> BundleFolder:
    """Read a bundle and check every file against its hash.

    Raises:
        BundleError: it is none, is of another version, or a file is not what was written.
    """
    description = describe(folder)
    files = {name: _checked(folder, name, told) for name, told in description["files"].items()}
    if REFERENCE not in files:
        raise BundleError(f"{folder}: {DESCRIPTION} names no {REFERENCE}: write the bundle anew")
    weights = files.pop(WEIGHTS, None)
    try:
        reference = table_of_bytes(files.pop(REFERENCE))
    except (pa.ArrowException, InvalidRecord, ValueError) as error:
        raise BundleError(f"{folder / REFERENCE} is no reference: {error}") from error
    return BundleFolder(description, weights, reference, files)


def describe(folder: Path) -> dict[str, Any]:
    """bundle.json, of a version that is known. Raises BundleError."""
    path = folder / DESCRIPTION
    try:
        description = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        why = f"has no {DESCRIPTION}" if folder.is_dir() else "is not there"
        raise BundleError(f"{folder} {why}: `streamd fit … --out {folder}` makes a bundle") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("files"), dict):
        raise BundleError(f"{path} describes no bundle")
    if description.get("format") != FORMAT:
        raise BundleError(f"{folder} is {description.get('format')!r}, this version reads {FORMAT!r}: fit it anew")
    return description


def _checked(folder: Path, name: str, told: Any) -> bytes:
    """The file of that name in the folder itself, which is what it is told to be."""
    path = folder / name
    if Path(name).name != name or not isinstance(told, dict):
        raise BundleError(f"{folder / DESCRIPTION} describes no bundle: {name!r} is no file of it")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != told.get("sha256"):
        raise BundleError(f"{path} is not what was written: its sha256 differs from that in {DESCRIPTION}")
    return data


# --- The reference as Arrow -----------------------------------------------------------------------


def reference_bytes(table: Table) -> bytes:
    """An Arrow file of the columns, predictions among them. Equal tables, equal bytes."""
    rows = arrow_table(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def arrow_table(table: Table) -> Any:
    """The columns as a batch would bring them, as a pyarrow Table."""
    columns: dict[str, Any] = {}
    for name, values in table.numeric.items():
        columns[name] = pa.array(values, mask=np.isnan(values))
    for name, column in table.categorical.items():
        codes = pa.array(column.codes, mask=column.codes < 0)
        columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(column.categories, pa.string()))
    for name, array in table.arrays.items():
        columns[name] = _lists(array)
    if table.predictions is not None:
        columns[table.predictions.kind] = _lists(table.predictions.values)
    return pa.table(columns) if columns else pa.table({})


def table_of_bytes(data: bytes) -> Table:
    """The inverse of `reference_bytes`."""
    rows = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    builder = TableBuilder(_LIMITS)
    predictions: Predictions | None = None
    for name in rows.column_names:
        column = rows.column(name).combine_chunks()
        column = column if isinstance(column, pa.Array) else column.chunk(0)
        if name in ("logits", "probabilities"):
            flat: FloatArray = column.values.to_numpy(zero_copy_only=False).astype(np.float64)
            predictions = Predictions(name, flat.reshape(rows.num_rows, column.type.list_size))
        else:
            add_column(builder, name, column, _LIMITS)
    if predictions is not None:
        builder.set_predictions(predictions.kind, predictions.values)
    return builder.build()


def _lists(array: FloatArray) -> Any:
    """(rows, a, b, …) as FixedSizeLists of FixedSizeLists of doubles."""
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    for size in reversed(array.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values
