"""How much less a row says when it resembles the rows before it: the integrated autocorrelation time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray

PAIRS_SUMMED = 12  # lags 0 to 23 cost as much as a transform of 1,000 rows
ROWS_MAX = 2_000_000  # of more rows the last ones tell: beyond, sums of products would leave 64 bits
SHORT_ROWS_MAX = 1800  # of so many rows at most the ranks fit into 16 bits, and the sums of their products into 32
CHUNK_VALUES = 1 << 15  # columns are transformed a few at a time: this many values stay in the cache


def autocorrelation_times(ranks: NDArray[np.signedinteger[Any]]) -> FloatArray:
    """τ = 1 + 2·Σρ(lag) of each column, by Geyer's initial monotone sequence; n/τ rows would say as much.

    Autocorrelations are added in pairs, Γ_t = ρ(2t) + ρ(2t + 1), which are positive and never rise for a
    reversible chain; the sum ends before the first pair that is not positive, and no pair counts for more
    than the one before it (Geyer 1992, Practical Markov chain Monte Carlo, section 3.3). Most columns end
    after a few lags, which are summed directly; the rest are transformed. Ranks are whole numbers and so are
    the sums of their products, so that the result is the same on every machine.

    Args:
        ranks: (columns, rows) whole numbers whose mean is 0, in the order of time; a missing value is 0. Ranks of
            16 bits, of at most SHORT_ROWS_MAX rows, cost half.
            (τ then is what the variance of the mean of the present values is multiplied by.)

    Returns:
        (columns,) at least 1; 1 for a constant column.

    >>> rows = np.arange(1000)
    >>> autocorrelation_times(2 * np.stack([rows * 389 % 1000, rows]).astype(np.int32) - 999).round(1)
    array([  1. , 348.1])
    """
    from streamd.detectors import kernels_dependence  # numba costs more to import than most commands take

    ranks = np.ascontiguousarray(ranks[:, -ROWS_MAX:], ranks.dtype)
    columns, rows = ranks.shape
    assert rows <= SHORT_ROWS_MAX or ranks.dtype == np.int32, (ranks.dtype, rows)
    times = np.ones(columns)
    if rows < 4:  # not one pair of pairs
        return times
    kernels_dependence.short_times(ranks, PAIRS_SUMMED, times, np.int32 if ranks.dtype == np.int16 else np.int64)
    long = np.flatnonzero(np.isnan(times))
    step = max(1, CHUNK_VALUES // rows)
    for start in range(0, len(long), step):
        chosen = long[start : start + step]
        times[chosen] = _transformed_times(ranks[chosen].astype(np.float64))
    return times


def _transformed_times(ranks: FloatArray) -> FloatArray:
    """The same from all lags at once, by FFT; the sums are rounded to the whole numbers that they are."""
    from scipy import fft  # scipy costs more to import than most commands take

    rows = ranks.shape[1]
    size = fft.next_fast_len(2 * rows - 1, real=True)  # padded, so that the end does not meet the beginning
    transformed = fft.rfft(ranks, size)
    power = transformed.real**2 + transformed.imag**2
    covariances = np.rint(fft.irfft(power, size)[:, : rows - rows % 2])
    pairs = covariances[:, 0::2] + covariances[:, 1::2]  # (columns, rows // 2)
    ends = np.where((pairs <= 0).any(axis=1), (pairs <= 0).argmax(axis=1), pairs.shape[1])
    pairs = np.minimum.accumulate(pairs, axis=1)
    sums = np.where(np.arange(pairs.shape[1]) < ends[:, None], pairs, 0.0).sum(axis=1)
    return np.asarray(np.maximum(2.0 * sums / covariances[:, 0] - 1.0, 1.0))


def centred_ranks(values: FloatArray) -> NDArray[np.int32]:
    """The ranks of one column (rows,), doubled and centred so that ties give whole numbers; NaN becomes 0."""
    present = np.flatnonzero(~np.isnan(values))
    _, places, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    ranks = np.zeros(len(values), np.int32)
    ranks[present] = (2 * below + counts - len(present))[places]
    return ranks


def slowest_time(codes: NDArray[np.integer[Any]], categories: int) -> float:
    """τ of the order of a column's categories that resembles itself longest; the mean over all orders is smaller.

    The order is that of the second eigenvector of the reversible chain which steps as the column does, whose
    eigenvalue is the largest (correspondence analysis of neighbours); its ranks have the τ of the slowest mode.

    Args:
        codes: (rows,) 0 to categories − 1 in the order of time; anything else is missing.

    >>> slowest_time(np.arange(1000) // 50 % 4, 4) > 20
    True
    """
    known = (codes >= 0) & (codes < categories)
    both = known[1:] & known[:-1]
    pairs = codes[1:][both].astype(np.int64) * categories + codes[:-1][both]
    joint = np.bincount(pairs, minlength=categories**2).reshape(categories, categories).astype(np.float64)
    joint += joint.T
    shares = joint.sum(axis=0)
    if np.count_nonzero(shares) < 2:
        return 1.0
    roots = np.sqrt(np.maximum(shares, 1.0))
    chain = joint / np.outer(roots, roots) - np.sqrt(np.outer(shares, shares)) / shares.sum()
    order = np.empty(categories)
    order[np.argsort(np.linalg.eigh(chain)[1][:, -1] / roots, kind="stable")] = np.arange(categories)
    values = np.full(len(codes), np.nan)
    values[known] = order[codes[known]]
    return float(autocorrelation_times(centred_ranks(values)[None])[0])
