"""Rows of named columns as numbers for a network: standardised, one-hot encoded, bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.table import MISSING_CODE, Categorical, FloatArray, Table

Inputs = NDArray[np.float32]
Scaling = Literal["standard", "minmax"]
Imputing = Literal["mean", "median"]
NO_SLOT = -1
MONSTROUS = 1e100  # a value beyond this is treated as infinite, so that no sum of squares overflows
FLAT = 1e-9  # a spread below this share of the level is rounding


@dataclass(frozen=True, eq=False)
class Transform:
    """Which columns a network reads, and how.

    A numeric column is (value − mean) / scale, clipped to ±bound, so that one infinite value is an outlier and
    not the end of all arithmetic; a missing value is the column's fill. A categorical column is one input for each
    of its commonest categories, 1 in the row's own; any other category, and a missing one, is 0 in all of them.
    The indicators come last: 1 where the value of their column is missing.

    Attributes:
        numeric: names, k of them.
        means, scales: (k,) of the reference; of min–max scaling the lowest value and the range.
        categorical: names and the categories that have an input.
        bound: in scales.
        fills: (k,) what stands for a missing value, after scaling; all 0, which is the mean, when left out.
        indicated: names of the columns with an indicator.
        features: the names of the columns, numeric ones first.
        inputs: how many there are.
        owners: (inputs,) the place of each input's column in `features`.
    """

    numeric: tuple[str, ...]
    means: FloatArray
    scales: FloatArray
    categorical: tuple[tuple[str, tuple[str, ...]], ...]
    bound: float
    fills: FloatArray | None = None
    indicated: tuple[str, ...] = ()
    features: tuple[str, ...] = field(init=False)
    inputs: int = field(init=False)
    owners: NDArray[np.intp] = field(init=False, repr=False)
    _slots: tuple[dict[str, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        widths = [1] * len(self.numeric) + [len(categories) for _, categories in self.categorical]
        ends = np.cumsum(widths, dtype=np.intp)
        starts = ends - widths
        slots = tuple(
            {category: int(start) + i for i, category in enumerate(categories)}
            for start, (_, categories) in zip(starts[len(self.numeric) :], self.categorical, strict=True)
        )
        # What follows from the fields above, worked out once: the only place that writes to a frozen object.
        features = (*self.numeric, *(name for name, _ in self.categorical))
        indicated = np.array([features.index(name) for name in self.indicated], dtype=np.intp)
        owners = np.concatenate([np.repeat(np.arange(len(widths)), widths), indicated])
        if self.fills is None:
            object.__setattr__(self, "fills", np.zeros(len(self.numeric)))
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "owners", owners)
        object.__setattr__(self, "inputs", len(owners))
        object.__setattr__(self, "_slots", slots)

    def __call__(self, table: Table) -> Inputs:
        """(inputs, rows) float32, a new array: the network's layout, in which no row's result depends on another's."""
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        inputs = np.empty((self.inputs, table.rows), dtype=np.float32)
        k = len(self.numeric)
        if k:
            kernels.standardise(table.matrix(self.numeric), self.means, self.scales, self.fills, self.bound, inputs[:k])
        inputs[k:] = 0.0
        for (name, _), slots in zip(self.categorical, self._slots, strict=True):
            column = table.categorical.get(name)
            if column is None:
                continue
            found = [slots.get(category, NO_SLOT) for category in column.categories]
            found.append(NO_SLOT)  # what the code of a missing value reads
            kernels.set_ones(np.ascontiguousarray(column.codes), np.array(found, dtype=np.int32), inputs)
        for i, name in enumerate(self.indicated, start=self.inputs - len(self.indicated)):
            inputs[i] = missing(table, name)
        return inputs

    def by_feature(self, per_input: NDArray[Any]) -> FloatArray:
        """(inputs, rows) summed over the inputs of each column: (features, rows)."""
        sums = np.zeros((len(self.features), per_input.shape[1]))
        np.add.at(sums, self.owners, per_input)
        return sums

    def described(self) -> dict[str, Any]:
        """JSON values; with `tensors` all that `from_parts` wants."""
        categorical = [[name, list(categories)] for name, categories in self.categorical]
        names = {"numeric": list(self.numeric), "categorical": categorical, "indicated": list(self.indicated)}
        return {**names, "bound": self.bound}

    def tensors(self) -> dict[str, NDArray[Any]]:
        assert self.fills is not None
        return {"transform.means": self.means, "transform.scales": self.scales, "transform.fills": self.fills}

    @classmethod
    def from_parts(cls, described: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Transform:
        """The inverse of `described` and `tensors`.

        Raises:
            KeyError, ValueError: a part is missing, or they do not fit each other.
        """
        means, scales, fills = (tensors[f"transform.{part}"] for part in ("means", "scales", "fills"))
        numeric = tuple(described["numeric"])
        if not means.shape == scales.shape == fills.shape == (len(numeric),):
            raise ValueError(f"{len(numeric)} numeric columns have {len(means)} means and {len(scales)} scales")
        categorical = tuple((name, tuple(categories)) for name, categories in described["categorical"])
        return cls(numeric, means, scales, categorical, described["bound"], fills, tuple(described["indicated"]))

    def unknown_rows(self, table: Table) -> NDArray[np.bool_] | None:
        """(rows,) whether all of a row's columns are missing; None where surely none is."""
        if any(name in table.categorical for name, _ in self.categorical):
            known = np.zeros(table.rows, dtype=bool)
            for name, _ in self.categorical:
                column = table.categorical.get(name)
                if column is not None:
                    known |= column.codes != MISSING_CODE
                    if known.all():
                        return None
        elif self.numeric:
            known = ~np.isnan(table.matrix(self.numeric)[0])
            if known.all():
                return None
        else:
            return np.ones(table.rows, dtype=bool)
        for values in table.matrix(self.numeric):
            known |= ~np.isnan(values)
        return None if known.all() else ~known


def missing(table: Table, name: str) -> NDArray[np.bool_]:
    """(rows,) whether the column of that name has no value; all of them where it is not there."""
    if name in table.numeric:
        return np.isnan(table.numeric[name])
    column = table.categorical.get(name)
    return np.ones(table.rows, dtype=bool) if column is None else column.codes == MISSING_CODE


class Spread(NamedTuple):
    """How the values of one column or channel are scaled."""

    mean: float
    scale: float
    fill: float


def spread(values: FloatArray, scaling: Scaling = "standard", imputing: Imputing = "mean") -> Spread | None:
    """Mean and deviation, or lowest value and range, of the finite values; None where there is none.

    A constant column, whose spread says nothing, is divided by 1.
    """
    finite = values[np.abs(values) < MONSTROUS]  # NaN and ±inf fail it too
    if not len(finite):
        return None
    mean = float(finite.mean())
    if scaling == "standard":
        start, width = mean, float(finite.std())
    else:
        start = float(finite.min())
        width = float(finite.max()) - start
    scale = width if width > FLAT * abs(mean) else 1.0
    middle = mean if imputing == "mean" else float(np.median(finite))
    return Spread(start, scale, (middle - start) / scale)


def learn_transform(
    table: Table,
    bound: float,
    categories_max: int,
    *,
    scaling: Scaling = "standard",
    imputing: Imputing = "mean",
    indicators: bool = False,
) -> Transform:
    """The transform of a reference.

    Columns without any finite value are left out. Of equally common categories the first in the alphabet comes first.

    Args:
        table: the reference.
        bound: in scales.
        categories_max: inputs that one categorical column may have.
        scaling: see `spread`.
        imputing: what a missing number is taken for.
        indicators: whether a column with missing values gets an input that tells them.
    """
    numeric = {name: found for name, column in table.numeric.items() if (found := spread(column, scaling, imputing))}
    categorical = []
    for name, categories in table.categorical.items():
        counts = np.bincount(categories.codes[categories.codes != MISSING_CODE], minlength=len(categories.categories))
        common = _commonest(categories, counts)[:categories_max]
        if common:
            categorical.append((name, tuple(common)))
    features = (*numeric, *(name for name, _ in categorical))
    return Transform(
        tuple(numeric),
        np.array([found.mean for found in numeric.values()]),
        np.array([found.scale for found in numeric.values()]),
        tuple(categorical),
        bound,
        np.array([found.fill for found in numeric.values()]),
        tuple(name for name in features if indicators and missing(table, name).any()),
    )


def _commonest(column: Categorical, counts: NDArray[np.intp]) -> list[str]:
    seen = [(int(-count), name) for name, count in zip(column.categories, counts, strict=True) if count]
    return [name for _, name in sorted(seen)]
