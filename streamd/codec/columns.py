"""Values to a Table: what is a number, what a category, what a picture, and whether the lengths agree.

=======================================  =====================================================
numbers, nulls                           numeric; null is NaN, and counted
nulls alone                              numeric, all of it missing
strings, nulls                           categorical
booleans, nulls                          categorical, `true` and `false`
lists of numbers, all of one shape       an n-dimensional feature
any mixture of these                     MIXED_TYPES
=======================================  =====================================================

That a column is not what it was in the reference is not for a codec to know: the `quality` detector says it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy as np

from streamd.codec.limits import Limits
from streamd.codec.names import check_count, check_names
from streamd.errors import InvalidRecord, Reason
from streamd.table import Categorical, FloatArray, PredictionKind, Predictions, Table

_NUMBERS = frozenset({int, float})
_WORDS = {int: "numbers", float: "numbers", str: "strings", bool: "booleans", list: "lists", dict: "objects"}


class TableBuilder:
    """Collects the columns of one batch. Every method may raise InvalidRecord."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rows: int | None = None
        self._cells = 0
        self._numeric: dict[str, FloatArray] = {}
        self._nulls: dict[str, int] = {}
        self._categorical: dict[str, Categorical] = {}
        self._arrays: dict[str, FloatArray] = {}
        self._predictions: Predictions | None = None
        self._matrices: dict[tuple[str, ...], FloatArray] = {}

    def add(self, name: str, values: Any) -> None:
        """One column as JSON gives it: a list of values, or a (rows,) float64 array."""
        if isinstance(values, np.ndarray):
            self.add_numeric(name, values, 0)
            return
        if not isinstance(values, list):
            raise InvalidRecord(
                Reason.BAD_SCHEMA,
                f"column {name[:80]!r} is a {type(values).__name__}, it must be an array, one item a row",
            )
        kinds = set(map(type, values))
        has_nulls = NoneType in kinds
        kinds.discard(NoneType)
        if kinds <= _NUMBERS:
            self.add_numeric(name, np.array(values, dtype=np.float64), values.count(None) if has_nulls else 0)
        elif kinds == {str}:
            self.add_categorical(name, values)
        elif kinds == {bool}:
            self.add_categorical(name, [None if v is None else "true" if v else "false" for v in values])
        elif kinds == {list} and not has_nulls:
            self.add_array(name, numbers(values, f"column {name[:80]!r}"))
        elif kinds == {list}:
            raise InvalidRecord(Reason.BAD_SHAPE, f"column {name[:80]!r} has arrays in some rows and null in others")
        elif dict in kinds:
            raise InvalidRecord(
                Reason.BAD_SCHEMA, f"column {name[:80]!r} holds objects: make each of their keys a column"
            )
        else:
            words = " and ".join(sorted({_WORDS[kind] for kind in kinds}))
            raise InvalidRecord(
                Reason.MIXED_TYPES, f"column {name[:80]!r} mixes {words}: send one kind, or two columns"
            )

    def add_matrix(self, names: tuple[str, ...], matrix: FloatArray) -> None:
        """Many numeric columns without nulls at once, (columns, rows) float64, C-contiguous."""
        self._count(matrix.shape[1], len(names), "column", names[0])
        self._numeric.update(zip(names, matrix, strict=True))
        self._matrices[names] = matrix

    def add_numeric(self, name: str, array: FloatArray, nulls: int) -> None:
        """A (rows,) float64 column, `nulls` of whose NaN were sent as null."""
        self._count(len(array), 1, "column", name)
        self._numeric[name] = array
        if nulls:
            self._nulls[name] = nulls

    def add_categorical(self, name: str, values: Sequence[str | None]) -> None:
        """A column of strings; None is missing."""
        index = dict.fromkeys(values)
        index.pop(None, None)
        categories = tuple(str(category) for category in index)
        codes: dict[str | None, int] = {category: code for code, category in enumerate(categories)}
        codes[None] = -1
        self.add_codes(name, np.fromiter(map(codes.__getitem__, values), np.int32, len(values)), categories)

    def add_codes(self, name: str, codes: Any, categories: tuple[str, ...]) -> None:
        """A categorical column as (rows,) int32 codes into `categories`; -1 is missing."""
        self._count(len(codes), 1, "column", name)
        longest = max(map(len, categories), default=0)
        if longest > self._limits.category_chars:
            raise InvalidRecord(
                Reason.NAME_TOO_LONG,
                f"a value of column {name[:80]!r} has {longest} characters, {self._limits.category_chars} are allowed: "
                "free text is not a category",
            )
        self._categorical[name] = Categorical(codes, categories)

    def add_array(self, name: str, array: FloatArray) -> None:
        """An n-dimensional feature, (rows, …) float64."""
        if array.ndim < 2 or (array.shape[0] and array.size == 0):
            raise InvalidRecord(Reason.BAD_SHAPE, f"column {name[:80]!r} has shape {array.shape}: a row of it is empty")
        self._count(array.shape[0], math.prod(array.shape[1:]), "column", name)
        self._arrays[name] = array

    def set_predictions(self, kind: PredictionKind, values: Any) -> None:
        """Logits or probabilities, rows × classes, as nested lists or an array. After every column."""
        array = values if isinstance(values, np.ndarray) else numbers(values, kind)
        rows = len(array) if self._rows is None else self._rows
        if array.size == 0 and rows == 0:
            self._rows = 0
            return
        if array.ndim != 2 or array.shape[0] != rows or array.shape[1] < 1:
            raise InvalidRecord(
                Reason.BAD_SHAPE, f"{kind} have shape {array.shape}, they must be ({rows}, classes): one row a row"
            )
        check_count(array.shape[1], "classes", self._limits.classes, Reason.TOO_MANY_COLUMNS)
        self._count(array.shape[0], array.shape[1], "the prediction", kind)
        self._predictions = Predictions(kind, array)

    def build(self) -> Table:
        """The table.

        Raises:
            InvalidRecord: BAD_SCHEMA where there is neither a feature nor a prediction.
        """
        if self._rows is None:
            raise InvalidRecord(Reason.BAD_SCHEMA, "neither features nor predictions are in it")
        names = [*self._numeric, *self._categorical, *self._arrays]
        check_count(len(names), "columns", self._limits.columns, Reason.TOO_MANY_COLUMNS)
        check_names(names, "column", self._limits)
        return Table(
            self._rows, self._numeric, self._nulls, self._categorical, self._arrays, self._predictions, self._matrices
        )

    def _count(self, rows: int, cells_per_row: int, what: str, name: str) -> None:
        """Take a column into account; `what` and `name` together say which it is."""
        if rows != self._rows:
            if self._rows is not None:
                raise InvalidRecord(
                    Reason.UNEQUAL_LENGTHS,
                    f"{what} {name[:80]!r} has {rows} rows, what came before it has {self._rows}",
                )
            check_count(rows, "rows", self._limits.rows, Reason.TOO_MANY_ROWS)
            self._rows = rows
        self._cells += rows * cells_per_row
        if self._cells > self._limits.cells:
            check_count(self._cells, "cells", self._limits.cells, Reason.TOO_LARGE)


def numbers(values: Any, what: str) -> FloatArray:
    """Nested lists of numbers and nulls as a float64 array.

    Raises:
        InvalidRecord: BAD_SHAPE where they are no array, UNSUPPORTED_TYPE where they hold other things.
    """
    if not isinstance(values, list):
        raise InvalidRecord(Reason.BAD_SHAPE, f"{what}: a {type(values).__name__} is not an array of rows")
    try:
        array = np.array(values)
    except ValueError:
        raise InvalidRecord(Reason.BAD_SHAPE, f"{what}: the rows are not all of one shape") from None
    if array.size == 0 or array.dtype.kind in "fiu":
        return array.astype(np.float64, copy=False)
    # Nulls, or integers that only an object array holds, are numbers too.
    kinds = set(map(type, array.ravel().tolist())) if array.dtype.kind == "O" else {str}
    if not kinds <= {int, float, NoneType}:
        raise InvalidRecord(Reason.UNSUPPORTED_TYPE, f"{what}: an array may hold numbers and null, nothing else")
    return array.astype(np.float64)


def row_ids(values: Any, rows: int, limits: Limits) -> tuple[str, ...] | None:
    """The row ids: strings or integers, one a row; None where there are none.

    Raises:
        InvalidRecord: BAD_SCHEMA, UNEQUAL_LENGTHS, NAME_TOO_LONG.
    """
    if values is None:
        return None
    if not isinstance(values, list) or not set(map(type, values)) <= {str, int}:
        raise InvalidRecord(Reason.BAD_SCHEMA, "`ids` must be an array of strings, one a row")
    if len(values) != rows:
        raise InvalidRecord(Reason.UNEQUAL_LENGTHS, f"`ids` has {len(values)} items, the batch {rows} rows")
    ids = tuple(map(str, values))
    check_names(ids, "row id", limits)
    return ids
