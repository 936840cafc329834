"""P-values of the two-sided, two-sample Kolmogorov–Smirnov distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray

EXACT_ROWS_MAX = 500  # both samples at most this: every lattice path is counted, 0.3 ms a column at worst


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
            quick formulas alone: of p-values under 0.05 they are right to 0.0003, of larger ones to 0.002. Beside all
            lattice paths they are at least two thirds, down to 1e-9, mostly more; where a side has fewer than 20
            effective rows they would be far less, and all paths are counted, the rows rounded down.

    Returns:
        (columns,) in [0, 1]; NaN where D is.
    """
    from streamd.detectors import kernels_tails  # numba costs more to import than most commands take

    results = np.empty(distances.shape)
    m, n = np.ascontiguousarray(reference_rows, np.float64), np.ascontiguousarray(window_rows, np.float64)
    kernels_tails.kolmogorov_tails(distances, m, n, exact, results)
    return results
