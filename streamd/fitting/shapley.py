"""Shapley values of a scorer's rows, whatever the scorer: what each feature adds to the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.base import Scorer
from streamd.table import MISSING_CODE, Categorical, FloatArray, Table

SEED = 7
BACKGROUND_ROWS = 40  # what a feature is replaced by: its values in so many normal rows
ORDERS = 5  # each walked forwards and backwards; fewer where there are many features
EVALUATIONS_MAX = 4000  # of masked rows, a row; each with every row of the background
_CALL_ROWS = 65_536


def shapley_values(scorer: Scorer, rows: Table, background: Table, names: Sequence[str]) -> FloatArray:
    """How much each feature adds to a row's score, compared with normal rows: SHAP values (Lundberg and Lee 2017).

    From a normal row to the row, one feature after the other takes its value, in random orders, each walked forwards
    and backwards; what the score rises at a feature is its share (Strumbelj and Kononenko 2014; the permutation
    explainer of the package `shap`, to whose values these are equal where no three features act together). They add
    up to the score less the background's mean score. Seeded: the same rows give the same values.

    Args:
        rows: to be explained.
        background: normal rows, of which 40 are taken, evenly from all.
        names: of single columns, numeric or categorical.

    Returns:
        (features, rows).
    """
    matrix = _Matrix(rows, background, names)
    places = np.unique(np.linspace(0, background.rows - 1, min(BACKGROUND_ROWS, background.rows)).astype(int))
    normal, strange = matrix.of(background.take(places)), matrix.of(rows)  # (normal rows, features), (rows, features)
    features = len(names)
    taken = _walks(features)  # (walks, features + 1, features)
    values = np.zeros((features, rows.rows))
    for row in range(rows.rows):
        mixed = np.where(taken[:, :, None, :], strange[row], normal).reshape(-1, features)
        parts = [scorer.score(matrix.table(mixed[i : i + _CALL_ROWS])).values for i in range(0, len(mixed), _CALL_ROWS)]
        scores = np.nan_to_num(np.concatenate(parts)).reshape(*taken.shape[:2], len(normal)).mean(axis=2)
        which = np.argmax(taken[:, 1:] != taken[:, :-1], axis=2)  # (walks, features) the feature of each step
        np.add.at(values[:, row], which, np.diff(scores, axis=1))
    return values / len(taken)


def _walks(features: int) -> NDArray[np.bool_]:
    """(walks, features + 1, features) whether a feature has the row's value, step by step from none to all."""
    orders = max(1, min(ORDERS, EVALUATIONS_MAX // (2 * (features + 1))))
    generator = np.random.default_rng(SEED)
    walks = []
    for _ in range(orders):
        order = generator.permutation(features)
        walks += [order, order[::-1]]
    places = np.argsort(np.stack(walks), axis=1)  # of each feature in the walk
    return np.asarray(places[:, None, :] < np.arange(features + 1)[None, :, None])


class _Matrix:
    """Columns as one matrix of doubles and back: a category is its place in a list, a missing one −1."""

    def __init__(self, rows: Table, background: Table, names: Sequence[str]) -> None:
        self._names = names
        self._categories: dict[str, tuple[str, ...]] = {}
        for name in names:
            known = [t.categorical[name].categories for t in (background, rows) if name in t.categorical]
            if known and not any(name in t.numeric for t in (background, rows)):
                self._categories[name] = tuple(dict.fromkeys(c for categories in known for c in categories))

    def of(self, table: Table) -> FloatArray:
        """(rows, features)."""
        matrix = np.full((table.rows, len(self._names)), np.nan)
        for i, name in enumerate(self._names):
            categories = self._categories.get(name)
            if categories is None:
                matrix[:, i] = table.numeric.get(name, np.nan)
            elif name in table.categorical:
                column = table.categorical[name]
                index = {category: place for place, category in enumerate(categories)}
                places = np.array([*(index[c] for c in column.categories), MISSING_CODE])
                matrix[:, i] = places[column.codes]  # the last place is what a missing one reads
            else:
                matrix[:, i] = MISSING_CODE
        return matrix

    def table(self, matrix: FloatArray) -> Table:
        """The inverse."""
        numeric, categorical = {}, {}
        for i, name in enumerate(self._names):
            column = np.ascontiguousarray(matrix[:, i])
            categories = self._categories.get(name)
            if categories is None:
                numeric[name] = column
            else:
                categorical[name] = Categorical(column.astype(np.int32), categories)
        return Table(len(matrix), numeric, categorical=categorical)
