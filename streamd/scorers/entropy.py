"""The entropy scorer: how unsure a model is of each row that it predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamd.scorers import kernels
from streamd.scorers.confidence import two_classes
from streamd.table import FloatArray, PredictionKind

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
        values = two_classes(values, kind)
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
