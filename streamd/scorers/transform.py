"""Rows of named columns as numbers for a network: standardised, one-hot encoded, bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamd.table import MISSING_CODE, Categorical, FloatArray, Table

Inputs = NDArray[np.float32]
NO_SLOT = -1
MONSTROUS = 1e100  # a value beyond this is treated as infinite, so that no sum of squares overflows


@dataclass(frozen=True, eq=False)
class Transform:
    """Which columns a network reads, and how.

    A numeric column is (value − mean) / scale, clipped to ±bound, so that one infinite value is an outlier and
    not the end of all arithmetic; a missing value is the mean. A categorical column is one input for each of
    its commonest categories, 1 in the row's own; any other category, and a missing one, is 0 in all of them.

    Attributes:
        numeric: names, k of them.
        means, scales: (k,) of the reference.
        categorical: names and the categories that have an input.
        bound: in standard deviations.
        features: the names of the columns, numeric ones first.
        starts: (features,) each column's first input.
        inputs: how many there are.
    """

    numeric: tuple[str, ...]
    means: FloatArray
    scales: FloatArray
    categorical: tuple[tuple[str, tuple[str, ...]], ...]
    bound: float
    features: tuple[str, ...] = field(init=False)
    starts: NDArray[np.intp] = field(init=False, repr=False)
    inputs: int = field(init=False)
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
        object.__setattr__(self, "features", (*self.numeric, *(name for name, _ in self.categorical)))
        object.__setattr__(self, "starts", starts)
        object.__setattr__(self, "inputs", int(ends[-1]) if widths else 0)
        object.__setattr__(self, "_slots", slots)

    def __call__(self, table: Table) -> Inputs:
        """(inputs, rows) float32, a new array: the network's layout, in which no row's result depends on another's."""
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        inputs = np.empty((self.inputs, table.rows), dtype=np.float32)
        k = len(self.numeric)
        if k:
            kernels.standardise(table.matrix(self.numeric), self.means, self.scales, self.bound, inputs[:k])
        inputs[k:] = 0.0
        for (name, _), slots in zip(self.categorical, self._slots, strict=True):
            column = table.categorical.get(name)
            if column is None:
                continue
            found = [slots.get(category, NO_SLOT) for category in column.categories]
            found.append(NO_SLOT)  # what the code of a missing value reads
            kernels.set_ones(np.ascontiguousarray(column.codes), np.array(found, dtype=np.int32), inputs)
        return inputs

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


def learn_transform(table: Table, bound: float, categories_max: int) -> Transform:
    """The transform of a reference.

    Means and deviations are of the finite values; a constant column, whose deviation says nothing, is divided
    by 1. Columns without any value are left out. Of equally common categories the first in the alphabet comes first.

    Args:
        table: the reference.
        bound: in standard deviations.
        categories_max: inputs that one categorical column may have.
    """
    numeric, means, scales = [], [], []
    for name, column in table.numeric.items():
        finite = column[np.abs(column) < MONSTROUS]  # NaN and ±inf fail it too
        if not len(finite):
            continue
        mean, deviation = float(finite.mean()), float(finite.std())
        numeric.append(name)
        means.append(mean)
        scales.append(deviation if deviation > 1e-9 * abs(mean) else 1.0)
    categorical = []
    for name, categories in table.categorical.items():
        counts = np.bincount(categories.codes[categories.codes != MISSING_CODE], minlength=len(categories.categories))
        common = _commonest(categories, counts)[:categories_max]
        if common:
            categorical.append((name, tuple(common)))
    return Transform(tuple(numeric), np.array(means), np.array(scales), tuple(categorical), bound)


def _commonest(column: Categorical, counts: NDArray[np.intp]) -> list[str]:
    seen = [(int(-count), name) for name, count in zip(column.categories, counts, strict=True) if count]
    return [name for _, name in sorted(seen)]
