"""The entropy scorer: how unsure a model is of each row that it predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamd.scorers import kernels
from streamd.table import FloatArray, PredictionKind, Predictions

Winners = NDArray[np.int32]


def entropies_and_winners(values: FloatArray, kind: PredictionKind) -> tuple[FloatArray, Winners]:
    """The Shannon entropy of each row's prediction in nats, and its most likely class.

    H = −Σ p ln p (Shannon 1948) with p = softmax(logits), computed from z − max z so that nothing overflows,
    or p = probabilities divided by their sum. One column stands for two classes: a probability p is [1 − p, p],
    a logit z is [0, z]. A row has no entropy where one of its values is NaN, where all logits are −∞, where a
    probability is negative or infinite (or over 1, for one column), and where all are zero.

    Args:
        values: (rows, classes) float64.
        kind: what they are.

    Returns:
        (rows,) entropies, NaN where there is none; (rows,) classes, of equal ones the first, -1 where there is none.
    """
    rows, classes = values.shape
    if classes == 1:
        values = _two_classes(values, kind)
    entropies, winners = np.empty(rows), np.empty(rows, dtype=np.int32)
    score = kernels.logit_entropies if kind == "logits" else kernels.probability_entropies
    score(np.ascontiguousarray(values), entropies, winners)
    return entropies, winners


def softmax_entropy(values: FloatArray, kind: PredictionKind) -> FloatArray:
    """The entropies alone: see `entropies_and_winners`.

    >>> softmax_entropy(np.array([[0.0, 0.0], [50.0, -50.0]]), "logits").round(3)
    array([0.693, 0.   ])
    """
    return entropies_and_winners(values, kind)[0]


def confidences(predictions: Predictions) -> FloatArray:
    """(rows,) the probability of each row's most likely class; NaN where it has none.

    >>> confidences(Predictions("logits", np.array([[0.0, 0.0], [50.0, -50.0]])))
    array([0.5, 1. ])
    """
    values = predictions.values
    if values.shape[1] == 1:
        values = _two_classes(values, predictions.kind)
    with np.errstate(invalid="ignore", divide="ignore"):
        if predictions.kind == "logits":
            return np.asarray(1.0 / np.exp(values - values.max(axis=1, keepdims=True)).sum(axis=1))
        return np.asarray(values.max(axis=1) / values.sum(axis=1))


def _two_classes(values: FloatArray, kind: PredictionKind) -> FloatArray:
    """(rows, 2) from the one column of the second class."""
    first = np.zeros(len(values)) if kind == "logits" else 1.0 - values[:, 0]
    return np.column_stack([first, values[:, 0]])
