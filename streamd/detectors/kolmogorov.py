"""P-values of the two-sided, two-sample Kolmogorov–Smirnov distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray

EXACT_ROWS_MAX = 500  # both samples at most this: every lattice path is counted, 0.3 ms a column at worst
PELZ_GOOD_ROWS_MIN = 140  # below, and for very small distances, scipy has exact algorithms; it needs 0.1 to 1 ms
SMIRNOV_MIN = 2.2  # n·D²: above, the two one-sided tails do not overlap to 15 digits (Simard and L'Ecuyer 2011)


def p_values(
    distances: FloatArray, reference_rows: NDArray[np.generic], window_rows: NDArray[np.generic], exact: bool
) -> FloatArray:
    """The chance of a distance this large or larger between two samples of one distribution.

    Args:
        distances: (columns,) D; NaN where a column cannot be judged.
        reference_rows: (columns,) m, whole or effective.
        window_rows: (columns,) n, whole or effective.
        exact: the rows are whole numbers and the value is to be that of `scipy.stats.ks_2samp`: all lattice
            paths where m and n are at most EXACT_ROWS_MAX, and for larger samples `method="asymp"`, the
            distribution of one sample of m·n/(m + n) rows, rounded. Without, that distribution by its
            quick formulas alone: where scipy would use slow ones, of p-values under 0.05 they are right to
            0.0003, of larger ones to 0.002 (0.05 for fewer than ten effective rows).

    Returns:
        (columns,) in [0, 1]; NaN where D is.
    """
    from streamd.detectors import kernels_tails  # numba costs more to import than most commands take

    m, n = np.asarray(reference_rows, np.float64), np.asarray(window_rows, np.float64)
    with np.errstate(invalid="ignore"):
        rows = np.maximum(np.round(m * n / (m + n)), 1.0)
    results = np.empty(distances.shape)
    kernels_tails.kolmogorov_tails(rows, distances, results)
    if exact:
        judged = ~np.isnan(distances)
        few = np.maximum(m, n) <= EXACT_ROWS_MAX
        for i in np.flatnonzero(judged & few):
            furthest = round(float(distances[i]) * m[i] * n[i])
            results[i] = kernels_tails.paths_outside(int(m[i]), int(n[i]), furthest)
        slow = np.flatnonzero(judged & ~few & _needs_scipy(distances, rows))
        if len(slow):
            from scipy.stats import kstwo

            results[slow] = kstwo.sf(distances[slow], rows[slow])
    return np.asarray(np.clip(results, 0.0, 1.0))


def _needs_scipy(distances: FloatArray, rows: FloatArray) -> NDArray[np.bool_]:
    """Where scipy would use an algorithm other than those of `kernels_tails.kolmogorov_tail`."""
    quick = rows * distances**2 >= np.where(rows <= PELZ_GOOD_ROWS_MIN, 4.0, SMIRNOV_MIN)
    quick |= (distances >= 0.5) | (distances <= 0)
    close = (rows <= PELZ_GOOD_ROWS_MIN) | ((rows <= 100_000) & (rows * distances**1.5 <= 1.4))
    return np.asarray(~quick & close)
