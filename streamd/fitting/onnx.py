"""Take in an ONNX file of the user's own: nothing is trained, its columns and their medians are written down."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.fitting.base import FitError, Learned, Progress, ScorerSettings
from streamd.scorers.onnx import BOUND, KIND, Columns, OnnxNetwork, OnnxScorer, RawColumns, Reads, ScaledColumns
from streamd.scorers.transform import learn_transform
from streamd.table import FloatArray, Table

TRIED_ROWS = 200
BOUND_SCALED = 10.0  # deviations, as for our own networks


class OnnxSettings(ScorerSettings):
    """Options of `onnx`: a network from Keras, TensorFlow, scikit-learn, anything, run by onnxruntime.

    One input of float or double, (rows, …) with a dynamic first axis. All weights in the one file.
    """

    type: Literal["onnx"] = "onnx"

    path: Path
    """The file. Its bytes go into the bundle; it is not read again."""

    reads: Reads = "reconstruction"
    """What it gives: `reconstruction`, rows like those that go in, whose mean squared error is the score; or `score`,
    one number a row."""

    columns: tuple[str, ...] = ()
    """The columns that it takes, in its order: numeric ones, or one n-dimensional one. Empty: all numeric ones in the
    data's order, or else the one n-dimensional column."""

    transform: Literal["none", "standard"] = "none"
    """`none`: values as they are, the median for a missing one. `standard`: scaled and encoded as for our own
    networks, for a file that was trained so: numeric columns first, then categories."""

    output: str = ""
    """The name of its output. Empty: the only one."""

    strange: Literal["high", "low"] = "high"
    """Which scores of `reads: score` are the strange ones: `low` for a decision function of scikit-learn."""

    categories_max: int = Field(default=20, ge=1)
    """Inputs that one categorical column may have under `transform: standard`."""

    @property
    def kind(self) -> str:
        return KIND

    def learn(self, learned: Table, validating: Table, progress: Progress) -> Learned:
        """No row is learned from but for the medians (and the transform). The first ones are tried."""
        try:
            file = self.path.read_bytes()
        except OSError as error:
            raise FitError(f"{self.path} cannot be read: {error.strerror}") from error
        columns, parts = self._columns(learned)
        try:
            network = OnnxNetwork(file, self.output)
            medians = _medians(columns(learned)).astype(np.float32)
            _try(OnnxScorer(columns, network, self.reads, medians, self.strange), learned)
        except ValueError as error:
            raise FitError(f"{self.path}: {error}") from error
        described = {
            "columns": columns.features,
            "sent": columns.sent if isinstance(columns, RawColumns) else [],
            "transform": parts,
            "output": self.output,
            "reads": self.reads,
            "strange": self.strange,
            "sha256": hashlib.sha256(file).hexdigest(),
        }
        tensors: dict[str, NDArray[Any]] = {"file": np.frombuffer(file, np.uint8), "medians": medians}
        if isinstance(columns, ScaledColumns):
            tensors |= columns.transform.tensors()
        note = f"{self.path.name}, {len(file)} bytes, reads {len(medians)} values a row; nothing was trained"
        return Learned(described, tensors, note)

    def _columns(self, learned: Table) -> tuple[Columns, dict[str, Any] | None]:
        if self.transform == "none":
            return raw_columns(learned, self.columns), None
        transform = learn_transform(_only(learned, self.columns), BOUND_SCALED, self.categories_max)
        if not transform.inputs:
            raise FitError("no column has a value: there is nothing to scale")
        return ScaledColumns(transform), transform.described()


def _try(scorer: OnnxScorer, learned: Table) -> None:
    """Refuse a file whose scores depend on the rows around, on chance, or are none.

    Raises:
        ValueError: it does so.
    """
    tried = np.arange(min(learned.rows, TRIED_ROWS))
    forwards = scorer.score(learned.take(tried)).values
    backwards = scorer.score(learned.take(tried[::-1])).values[::-1]
    if not np.isfinite(forwards).any():
        raise ValueError(f"none of {len(tried)} rows has a finite score")
    if not np.allclose(forwards, backwards, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise ValueError(
            "the same rows in another order have other scores: it draws random numbers, or a layer was "
            "exported in training mode (batch normalisation, dropout)"
        )


def raw_columns(table: Table, names: tuple[str, ...]) -> RawColumns:
    """The columns as they are, missing values filled with their medians.

    Raises:
        FitError: they cannot be read so.
    """
    if not names:
        names = tuple(table.numeric) or (tuple(table.arrays) if len(table.arrays) == 1 else ())
    if not names:
        raise FitError("the data has no numeric column for the file: name its n-dimensional one in `columns`")
    arrays = [name for name in names if name in table.arrays]
    if arrays and len(names) > 1:
        raise FitError(f"{arrays[0]!r} is n-dimensional: the file can be given it alone, or numeric columns")
    for name in names:
        if name in table.categorical:
            raise FitError(f"column {name!r} holds categories: `transform: standard` makes numbers of them")
        if name not in table.arrays and name not in table.numeric:
            raise FitError(f"there is no column {name!r}; there are {sorted((*table.numeric, *table.arrays))}")
    sent = table.arrays[names[0]].shape[1:] if arrays else ()
    elements = int(np.prod(sent)) if sent else len(names)
    return RawColumns(names, sent, _medians(RawColumns(names, sent, np.zeros(elements)).values(table)))


def _only(table: Table, names: tuple[str, ...]) -> Table:
    """The table with these columns alone, in their order; as it is without names."""
    there = {**table.numeric, **table.categorical}
    for name in names:
        if name not in there:
            raise FitError(f"there is no column {name!r}; there are {sorted(there)}")
    numeric = {name: table.numeric[name] for name in names or table.numeric if name in table.numeric}
    categorical = {n: table.categorical[n] for n in names or table.categorical if n in table.categorical}
    return Table(table.rows, numeric, categorical=categorical)


def _medians(values: NDArray[np.floating[Any]]) -> FloatArray:
    """(elements,) of (rows, elements), without what is missing; 0 where all is."""
    known = ~np.isnan(values).all(axis=0)
    medians = np.zeros(values.shape[1])
    medians[known] = np.nanmedian(values[:, known], axis=0)
    return np.clip(medians, -BOUND, BOUND)
