"""Rows of features and predictions, by columns: what a batch holds and what a reference is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.int32]
PredictionKind = Literal["logits", "probabilities"]

MISSING_CODE = -1
PHASE_ROWS_MIN = 20  # of a reference in one phase of a season: with fewer, rows of that phase are not judged


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """One column of categories: `codes` (rows,) int32 index `categories`; -1 is missing."""

    codes: CodeArray
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What the model said: `values` (rows, classes) float64."""

    kind: PredictionKind
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length. Nobody writes into its arrays: they may be views of a network buffer.

    Attributes:
        rows: the common length.
        numeric: name -> (rows,) float64; NaN where a value is missing or is not a number.
        nulls: how many of a numeric column's NaN were sent as null; a name that is absent has none.
        categorical: name -> Categorical of (rows,).
        arrays: name -> (rows, …) float64, n-dimensional features such as images.
        predictions: logits or probabilities, (rows, classes).
        times_ms: (rows,) when each row was, in event time; None where nobody needs to know.
    """

    rows: int
    numeric: Mapping[str, FloatArray] = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)
    categorical: Mapping[str, Categorical] = field(default_factory=dict)
    arrays: Mapping[str, FloatArray] = field(default_factory=dict)
    predictions: Predictions | None = None
    _matrices: dict[tuple[str, ...], FloatArray] = field(default_factory=dict, repr=False)
    times_ms: NDArray[np.int64] | None = None

    def prediction_names(self) -> tuple[str, ...]:
        """The names of the prediction columns: `logits[0]`, `logits[1]`, …"""
        if self.predictions is None:
            return ()
        return tuple(f"{self.predictions.kind}[{i}]" for i in range(self.predictions.values.shape[1]))

    def matrix(self, names: tuple[str, ...]) -> FloatArray:
        """The named numeric columns as (len(names), rows), C-contiguous; NaN where a column is not there.

        Stacked once per batch, however many detectors ask; not at all where the codec read them so.
        """
        matrix = self._matrices.get(names)
        if matrix is None:
            matrix = np.empty((len(names), self.rows))
            for i, name in enumerate(names):
                column = self.numeric.get(name)
                matrix[i] = np.nan if column is None else column
            self._matrices[names] = matrix
        return matrix

    def forget_matrices(self) -> None:
        """For a table that stays: they are as large as its columns, and stacked again when they are wanted again."""
        self._matrices.clear()

    def prediction_matrix(self) -> FloatArray:
        """The predictions as (classes, rows), C-contiguous; (0, rows) when there are none."""
        if self.predictions is None:
            return np.empty((0, self.rows))
        return np.ascontiguousarray(self.predictions.values.T)

    def take(self, indices: NDArray[np.intp]) -> Table:
        """The rows at `indices` (k,), in that order. How many nulls they hold is not known: none are counted."""
        predictions = self.predictions
        return Table(
            rows=len(indices),
            numeric={name: column[indices] for name, column in self.numeric.items()},
            categorical={n: Categorical(c.codes[indices], c.categories) for n, c in self.categorical.items()},
            arrays={name: array[indices] for name, array in self.arrays.items()},
            predictions=predictions and Predictions(predictions.kind, predictions.values[indices]),
            times_ms=None if self.times_ms is None else self.times_ms[indices],
        )

    def without(self, columns: Collection[str]) -> Table:
        """The table less some columns."""
        return replace(
            self,
            numeric={name: column for name, column in self.numeric.items() if name not in columns},
            nulls={name: count for name, count in self.nulls.items() if name not in columns},
            categorical={name: column for name, column in self.categorical.items() if name not in columns},
            arrays={name: array for name, array in self.arrays.items() if name not in columns},
            _matrices={},
        )

    def only(self, columns: Collection[str]) -> Table:
        """Some columns, without the predictions."""
        return replace(self.without(self.names.difference(columns)), predictions=None)

    @property
    def names(self) -> frozenset[str]:
        """Of all columns but the predictions'."""
        return frozenset((*self.numeric, *self.categorical, *self.arrays))

    def sha256(self) -> str:
        """The hash of the content: equal for equal columns in equal order, whatever the batches they came in."""
        digest = hashlib.sha256()
        for name, column in self.numeric.items():
            digest.update(f"numeric {name} {column.shape}\n".encode())
            digest.update(np.ascontiguousarray(column).data)
        for name, categorical in self.categorical.items():
            digest.update(f"categorical {name} {categorical.codes.shape} {categorical.categories!r}\n".encode())
            digest.update(np.ascontiguousarray(categorical.codes).data)
        for name, array in self.arrays.items():
            digest.update(f"array {name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        if self.predictions is not None:
            digest.update(f"{self.predictions.kind} {self.predictions.values.shape}\n".encode())
            digest.update(np.ascontiguousarray(self.predictions.values).data)
        if self.times_ms is not None:
            digest.update(b"times\n")
            digest.update(np.ascontiguousarray(self.times_ms).data)
        return digest.hexdigest()

    def to_state(self) -> dict[str, Any]:
        """The table as JSON values and arrays, for `streamd.state`."""
        predictions = self.predictions
        return {
            "rows": self.rows,
            "numeric": dict(self.numeric),
            "nulls": dict(self.nulls),
            "categorical": {
                n: {"codes": c.codes, "categories": list(c.categories)} for n, c in self.categorical.items()
            },
            "arrays": dict(self.arrays),
            "predictions": predictions and {"kind": predictions.kind, "values": predictions.values},
        } | ({} if self.times_ms is None else {"times_ms": self.times_ms})

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Table:
        """The inverse of `to_state`."""
        predictions = state["predictions"]
        return cls(
            rows=state["rows"],
            numeric=state["numeric"],
            nulls=state["nulls"],
            categorical={n: Categorical(c["codes"], tuple(c["categories"])) for n, c in state["categorical"].items()},
            arrays=state["arrays"],
            predictions=predictions and Predictions(predictions["kind"], predictions["values"]),
            times_ms=state.get("times_ms"),
        )


def concatenate(tables: Sequence[Table]) -> Table:
    """Put tables under each other. A column that some lack is missing there; arrays and predictions must agree.

    Predictions and n-dimensional columns whose shapes differ between the tables are left out.
    """
    rows = sum(t.rows for t in tables)
    numeric_names = dict.fromkeys(name for t in tables for name in t.numeric)
    categorical_names = dict.fromkeys(name for t in tables for name in t.categorical)
    array_names = dict.fromkeys(name for t in tables for name in t.arrays)
    numeric = {
        name: np.concatenate([t.numeric.get(name, np.full(t.rows, np.nan)) for t in tables]) for name in numeric_names
    }
    nulls = {name: total for name in numeric_names if (total := sum(t.nulls.get(name, 0) for t in tables))}
    categorical = {name: _concatenate_categorical(name, tables) for name in categorical_names}
    arrays = {
        name: np.concatenate([t.arrays[name] for t in tables])
        for name in array_names
        if len({t.arrays[name].shape[1:] if name in t.arrays else None for t in tables}) == 1
    }
    shapes = {t.predictions and (t.predictions.kind, t.predictions.values.shape[1]) for t in tables}
    first = tables[0].predictions if tables else None
    predictions = None
    if len(shapes) == 1 and first is not None:
        values = np.concatenate([t.predictions.values for t in tables if t.predictions is not None])
        predictions = Predictions(first.kind, values)
    times = [t.times_ms for t in tables if t.times_ms is not None]
    times_ms = np.concatenate(times) if times and len(times) == len(tables) else None
    return Table(rows, numeric, nulls, categorical, arrays, predictions, times_ms=times_ms)


def beside(
    table: Table, other: Table, phases: NDArray[np.intp] | None = None, other_phases: NDArray[np.intp] | None = None
) -> Table:
    """The columns of `table`, and those of `other` stretched or thinned to as many rows: each of its rows is repeated
    in its place, so that they depend on each other as much as there are fewer of them (τ grows by as much).

    With the phases of a season, of the rows of both, those of each phase are put beside rows of that phase; where
    `other` has none, its values are missing.
    """
    if phases is None or other_phases is None:
        return _joined(table, other.take(np.arange(table.rows) * other.rows // table.rows))
    places = np.full(table.rows, other.rows)  # the row after the last is one of nothing
    for phase in np.unique(other_phases).tolist():
        rows, given = np.flatnonzero(phases == phase), np.flatnonzero(other_phases == phase)
        places[rows] = given[np.arange(len(rows)) * len(given) // max(len(rows), 1)]
    nothing = Table(
        1,
        {name: np.full(1, np.nan) for name in other.numeric},
        categorical={name: Categorical(np.full(1, MISSING_CODE, np.int32), ()) for name in other.categorical},
        arrays={name: np.full((1, *array.shape[1:]), np.nan) for name, array in other.arrays.items()},
    )
    return _joined(table, concatenate([replace(other, predictions=None), nothing]).take(places))


def _joined(table: Table, stretched: Table) -> Table:
    return replace(
        table,
        numeric={**table.numeric, **stretched.numeric},
        categorical={**table.categorical, **stretched.categorical},
        arrays={**table.arrays, **stretched.arrays},
        _matrices={},
    )


def _concatenate_categorical(name: str, tables: Sequence[Table]) -> Categorical:
    """One column of many tables, its categories in the order in which they first appear."""
    index: dict[str, int] = {}
    parts = []
    for table in tables:
        column = table.categorical.get(name)
        if column is None:
            parts.append(np.full(table.rows, MISSING_CODE, dtype=np.int32))
            continue
        # The last place of the map is what code -1 (missing) reads.
        codes = [index.setdefault(category, len(index)) for category in column.categories]
        parts.append(np.array([*codes, MISSING_CODE], dtype=np.int32)[column.codes])
    return Categorical(np.concatenate(parts), tuple(index))
