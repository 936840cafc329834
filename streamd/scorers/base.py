"""What every scorer is: rows in, one number each out, and what made it so large."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray, Table


class Scores(Protocol):
    """The scores of one batch, and why.

    Attributes:
        values: (rows,) float64, the higher the stranger; NaN where a row has none.
    """

    values: FloatArray

    def explain(self, rows: NDArray[np.int64]) -> FloatArray:
        """How much each feature adds to the score of these rows: (features, len(rows)), in the order of
        `Scorer.features`. Only their order and their proportions mean anything."""


class Scorer(Protocol):
    """A fitted model on its device. A batch is scored in one pass; no row's score depends on the rows beside it.

    Attributes:
        features: the columns that it reads, by name. One that a batch lacks is missing in all its rows.
    """

    features: tuple[str, ...]

    def score(self, table: Table) -> Scores:
        """The scores of the rows of one batch. Columns that it does not know are not looked at."""
