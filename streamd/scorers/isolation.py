"""The isolation forest: how few random splits it takes to set a row apart from all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.fitted import Fitted
from streamd.scorers.transform import Inputs, Transform
from streamd.table import FloatArray, Table

KIND = "isolation"
Indices = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Forest:
    """Flattened trees: see `kernels_forest` for what lies where. Immutable.

    Attributes:
        thresholds, columns, children, lengths: (nodes,).
        roots, depths: (trees,).
        inputs: how many a row has.
        normaliser: the mean length of an unsuccessful search among as many rows as a tree was grown from, c(n) in
            the paper; 0 for trees of one row.
        offset: what scikit-learn calls `offset_`: added to the score, so that 0 is where `contamination` puts it.

    Raises:
        ValueError: the arrays do not fit each other. The walk does not look where it steps.
    """

    thresholds: NDArray[np.float32]
    columns: Indices
    children: Indices
    lengths: FloatArray
    roots: Indices
    depths: Indices
    inputs: int
    normaliser: float
    offset: float

    def __post_init__(self) -> None:
        nodes = len(self.thresholds)
        wanted = {"columns": np.uint32, "children": np.uint32, "lengths": np.float64}
        shapes_fit = all(getattr(self, name).shape == (nodes,) for name in wanted)
        types_fit = all(getattr(self, name).dtype == dtype for name, dtype in wanted.items())
        types_fit &= self.thresholds.dtype == np.float32 and self.roots.dtype == self.depths.dtype == np.uint32
        if not shapes_fit or not types_fit or self.roots.shape != self.depths.shape or not nodes or not len(self.roots):
            raise ValueError("the arrays of these trees do not fit each other")
        furthest = self.children.astype(np.int64) + (self.thresholds < np.inf)
        if furthest.max() >= nodes or self.roots.max() >= nodes or self.depths.max() > nodes:
            raise ValueError("these trees have nodes that are not there")
        if self.columns.max() >= 2 * self.inputs:
            raise ValueError(f"these trees read more than the {self.inputs} inputs of a row")

    def scores(self, inputs: Inputs) -> FloatArray:
        """(rows,) of (inputs, rows) float32, NaN where a value is missing: 2^(−mean path length / c(n)) + offset.

        Liu, Ting and Zhou 2008, "Isolation Forest". It is −decision_function of scikit-learn.
        """
        from streamd.scorers import kernels_forest  # numba, which the command line need not wait for

        sums = np.zeros(inputs.shape[1])
        kernels_forest.add_path_lengths(inputs, *self._arrays(), sums)
        if self.normaliser == 0.0:
            return np.full(len(sums), 0.5 + self.offset)
        sums /= -len(self.roots) * self.normaliser
        return np.exp2(sums, out=sums) + self.offset

    def shortenings(self, inputs: Inputs) -> FloatArray:
        """(inputs, rows): how many steps the splits by each input make the mean path of a row shorter.

        With the mean length of a path through the forest, they add up to the row's: the feature contributions of
        Palczewska, Palczewski, Robinson and Neagu 2013, "Interpreting random forest models".
        """
        from streamd.scorers import kernels_forest

        sums = np.zeros(inputs.shape)
        kernels_forest.add_shortenings(inputs, *self._arrays(), sums)
        return sums / len(self.roots)

    def _arrays(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        return self.thresholds, self.columns, self.children, self.lengths, self.roots, self.depths

    def described(self) -> dict[str, Any]:
        """JSON values; with `tensors` all that `from_parts` wants."""
        return {"inputs": self.inputs, "normaliser": self.normaliser, "offset": self.offset}

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {f"forest.{name}": getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_parts(cls, described: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Forest:
        """The inverse of `described` and `tensors`.

        Raises:
            KeyError, ValueError: a part is missing, or they do not fit each other.
        """
        arrays = {name: np.ascontiguousarray(tensors[f"forest.{name}"]) for name in _ARRAYS}
        scalars = int(described["inputs"]), float(described["normaliser"]), float(described["offset"])
        return cls(**arrays, inputs=scalars[0], normaliser=scalars[1], offset=scalars[2])


_ARRAYS = tuple(field.name for field in fields(Forest))[:6]


class IsolationScores:
    """Implements Scores. What each feature adds is the steps that its splits save, and nothing where they cost some."""

    def __init__(self, values: FloatArray, inputs: Inputs, forest: Forest, transform: Transform) -> None:
        self.values = values
        self._inputs = inputs
        self._forest = forest
        self._transform = transform

    def explain(self, rows: NDArray[np.int64]) -> FloatArray:
        shortened = self._forest.shortenings(np.ascontiguousarray(self._inputs[:, rows]))
        return np.maximum(self._transform.by_feature(shortened), 0.0)


class IsolationScorer:
    """Implements Scorer."""

    def __init__(self, transform: Transform, forest: Forest) -> None:
        if transform.inputs != forest.inputs:
            raise ValueError(f"the columns make {transform.inputs} inputs, and the forest reads {forest.inputs}")
        self.features = transform.features
        self._transform = transform
        self._forest = forest

    def score(self, table: Table) -> IsolationScores:
        inputs = self._transform(table)
        values = self._forest.scores(inputs)
        unknown = self._transform.unknown_rows(table)
        if unknown is not None:
            values[unknown] = np.nan
        return IsolationScores(values, inputs, self._forest, self._transform)


def load(fitted: Fitted) -> IsolationScorer:
    """What `fitting.isolation` learned.

    Raises:
        ValueError: a part is missing, or they do not fit each other.
    """
    try:
        transform = Transform.from_parts(fitted.described["transform"], fitted.tensors)
        return IsolationScorer(transform, Forest.from_parts(fitted.described["forest"], fitted.tensors))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this isolation forest lacks a part: {error!r}") from error
