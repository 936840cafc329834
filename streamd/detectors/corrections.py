"""P-values adjusted for the number of columns that were looked at."""

from __future__ import annotations

from typing import Literal

import numpy as np

from streamd.table import FloatArray

Correction = Literal["bonferroni", "benjamini_hochberg"]


def adjust(p_values: FloatArray, method: Correction) -> FloatArray:
    """The p-values that may be compared with one level, however many columns there are.

    Bonferroni bounds the chance of any false alarm at all: min(1, k·p). Benjamini–Hochberg bounds the share
    of false ones among the alarms: the smallest of k·p/rank over this and all larger p-values (Benjamini and
    Hochberg 1995); it keeps a budget of false alarms only where columns are independent or move together. NaN is a
    column that could not be judged: it stays NaN and k does not count it.

    Args:
        p_values: (columns,) in [0, 1] or NaN.

    Returns:
        (columns,) adjusted, at most 1; a new array.

    >>> adjust(np.array([0.01, 0.04, np.nan, 0.5]), "bonferroni")
    array([0.03, 0.12,  nan, 1.  ])
    """
    if method == "bonferroni":
        return np.asarray(np.minimum(p_values * np.count_nonzero(p_values == p_values), 1.0))  # NaN equals nothing
    judged = np.flatnonzero(~np.isnan(p_values))
    adjusted = np.full(p_values.shape, np.nan)
    k = len(judged)
    falling = judged[np.argsort(-p_values[judged], kind="stable")]
    scaled = p_values[falling] * k / np.arange(k, 0, -1)
    adjusted[falling] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted
