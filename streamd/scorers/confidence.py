"""How sure a model is of each row that it predicted: the probability of its most likely class."""

from __future__ import annotations

import numpy as np

from streamd.table import FloatArray, PredictionKind, Predictions


def confidences(predictions: Predictions) -> FloatArray:
    """(rows,) the probability of each row's most likely class; NaN where it has none.

    >>> confidences(Predictions("logits", np.array([[0.0, 0.0], [50.0, -50.0]])))
    array([0.5, 1. ])
    """
    from streamd.scorers import kernels  # numba, which the command line need not wait for

    values = predictions.values
    if values.shape[1] == 1:
        values = two_classes(values, predictions.kind)
    if not values.flags.carray:  # a view of a network buffer, perhaps at an odd address
        values = np.require(values, np.float64, ["C_CONTIGUOUS", "ALIGNED"])
    found = np.empty(len(values))
    kernels.confidences(values, predictions.kind == "logits", found)
    return found


def two_classes(values: FloatArray, kind: PredictionKind) -> FloatArray:
    """(rows, 2) from the one column of the second class."""
    first = np.zeros(len(values)) if kind == "logits" else 1.0 - values[:, 0]
    return np.column_stack([first, values[:, 0]])
