"""The compiled loop over one column of one batch: moments, zeros and the buckets of the axis, in two passes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.compiled import DOUBLE, LONG, compiled, read, written
from streamd.table import FloatArray

COUNT, NANS, MEAN, M2, M3, M4 = range(6)  # of what `fold` returns


@compiled(DOUBLE[::1](read(DOUBLE, 1), read(LONG, 1), written(LONG, 1), written(DOUBLE, 1), written(DOUBLE, 1)))
def fold(
    values: FloatArray, buckets: NDArray[np.int64], rows: NDArray[np.int64], means: FloatArray, m2: FloatArray
) -> FloatArray:  # pragma: no cover - compiled
    """How many values are finite and how many NaN; the finite ones' mean and sums of powers of their distances from it.

    Args:
        values: (n,)
        buckets: (n,) where each value counts, too; −1: nowhere.
        rows, means, m2: (buckets,) zeros, to be filled: the same of each bucket, up to the second power.

    Returns:
        (6,) count, NaN, mean, and the sums of the second, third and fourth powers.
    """
    result = np.zeros(6)
    total, count, nans = 0.0, 0, 0
    for i in range(len(values)):
        value = values[i]
        if not math.isfinite(value):
            nans += math.isnan(value)
            continue
        count += 1
        total += value
        bucket = buckets[i]
        if bucket >= 0:
            rows[bucket] += 1
            means[bucket] += value
    result[COUNT], result[NANS] = count, nans
    if count == 0:
        return result
    for bucket in range(len(rows)):
        if rows[bucket]:
            means[bucket] /= rows[bucket]
    mean = total / count
    second, third, fourth = 0.0, 0.0, 0.0
    for i in range(len(values)):
        value = values[i]
        if not math.isfinite(value):
            continue
        apart = value - mean
        square = apart * apart
        second += square
        third += square * apart
        fourth += square * square
        bucket = buckets[i]
        if bucket >= 0:
            m2[bucket] += (value - means[bucket]) ** 2
    result[MEAN], result[M2], result[M3], result[M4] = mean, second, third, fourth
    return result
