"""Which numbers of a table a network is trained on: transforms learned from rows, or a sentence why there are none."""

from __future__ import annotations

import numpy as np

from streamd.fitting.base import FitError
from streamd.fitting.networks import RowSettings
from streamd.scorers.arrays import DIMENSIONS, ArrayTransform, Reads, channels_first
from streamd.scorers.transform import Scaling, Spread, Transform, learn_transform, spread
from streamd.table import FloatArray, Table


def row_transform(learned: Table, settings: RowSettings) -> Transform:
    """The transform of columns.

    Raises:
        FitError: no rows, no column with a value, too many inputs.
    """
    if not learned.rows:
        raise FitError("there are no rows to learn from")
    transform = learn_transform(
        learned,
        settings.bound,
        settings.categories_max,
        scaling=settings.scaling,
        imputing=settings.imputing,
        indicators=settings.indicators,
    )
    if not transform.inputs:
        hint = "; for images and windows of a series there are conv, lstm and gru" if learned.arrays else ""
        raise FitError(f"there is no numeric or categorical column with a value{hint}")
    if transform.inputs > settings.inputs_max:
        raise FitError(f"{transform.inputs} inputs are over inputs_max = {settings.inputs_max}")
    return transform


def array_transform(
    learned: Table, reads: Reads, *, scaling: Scaling = "minmax", bound: float = 10.0, column: str | None = None
) -> ArrayTransform:
    """The transform of the one n-dimensional column.

    Args:
        learned: the rows to learn from.
        reads: what a row of it is.
        scaling: of a channel: to mean 0 and deviation 1, or to 0 … 1.
        bound: in deviations, or in ranges.
        column: its name; None where there is only one.

    Raises:
        FitError: no rows, no such column, another shape, no value in it.
    """
    name = _array_name(learned, column)
    array = learned.arrays[name]
    if not len(array):
        raise FitError("there are no rows to learn from")
    shapes = DIMENSIONS[reads]
    if array.ndim - 1 not in shapes or 0 in array.shape:
        wanted = " or ".join(shapes.values())
        raise FitError(f"a row of {name!r} has the shape {array.shape[1:]}; {reads} are {wanted}")
    spreads = [_spread(channel, scaling, name) for channel in np.moveaxis(channels_first(reads, array), 1, 0)]
    means, scales, fills = (np.array(values) for values in zip(*spreads, strict=True))
    return ArrayTransform(name, reads, array.shape[1:], means, scales, fills, bound)


def _array_name(table: Table, column: str | None) -> str:
    if column is not None:
        if column not in table.arrays:
            raise FitError(f"there is no n-dimensional column {column!r}; there are {sorted(table.arrays) or 'none'}")
        return column
    if len(table.arrays) != 1:
        found = f"there are {sorted(table.arrays)}: name one" if table.arrays else "there is none"
        raise FitError(f"one n-dimensional column is wanted (images, windows of a series); {found}")
    return next(iter(table.arrays))


def _spread(values: FloatArray, scaling: Scaling, name: str) -> Spread:
    found = spread(values, scaling)
    if found is None:
        raise FitError(f"column {name!r} has a channel without a single finite value")
    return found
