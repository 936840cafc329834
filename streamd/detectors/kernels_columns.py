"""Compiled loops over the columns of one batch, and over the past of its means.

See `compiled` for what that means.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from streamd.detectors.compiled import compiled, read
from streamd.table import FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_DOUBLES, _SUMS = read(types.float64, 2), read(types.float64, 3)
_PLACES, _FLAGS = read(types.int64, 1), read(types.boolean, 1)

FLAT = 1e-12  # a standard deviation under this share of the mean is rounding
PHI_MAX = 0.99  # beyond, 100 past means tell nothing
EXPONENT = 0x7FF0000000000000  # all of its bits are set in infinities and NaN
LIMIT = 1e6  # a shift of something that never moved is infinite; scores are finite


@compiled(types.float64[:, ::1](_DOUBLES))
def batch_moments(matrix: FloatArray) -> FloatArray:  # pragma: no cover - compiled
    """Count, mean and mean squared deviation of each column's finite values.

    Args:
        matrix: (columns, rows).

    Returns:
        (3, columns); NaN for mean and deviation where nothing is finite.
    """
    columns, rows = matrix.shape
    moments = np.full((3, columns), np.nan)
    for i in range(columns):
        # Sums about the first finite value: one pass, and no cancellation when the mean is large.
        shift, count, total, squares = 0.0, 0, 0.0, 0.0
        for j in range(rows):
            value = matrix[i, j]
            if math.isfinite(value):
                if count == 0:
                    shift = value
                count += 1
                deviation = value - shift
                total += deviation
                squares += deviation * deviation
        moments[0, i] = count
        if count > 0:
            mean = total / count
            moments[1, i] = shift + mean
            moments[2, i] = max(squares / count - mean * mean, 0.0)
    return moments


@compiled(types.float64[:, ::1](_DOUBLES, _SUMS, _PLACES, _PLACES, types.int64))
def past_moments(
    means: FloatArray, sums: FloatArray, following: IntArray, filled: IntArray, block: int
) -> FloatArray:  # pragma: no cover - compiled
    """What the rings of past batches say of each column.

        means    6  7 | 8  4 | 5      batches in a ring of 5 places, in blocks of 2; batch 9 will take the place of 4
        sums     6+7  |  8   | 5      a block's sums begin anew with its first place: batch 4 is in none any more

    Args:
        means: (columns, places) of past batches.
        sums: (2, columns, blocks) 1/count and mean squared deviation, summed over the batches of each block.
        following: (columns,) int64, the place that the next batch of that column takes.
        filled: (columns,) int64, how many places hold a batch.
        block: places of one.

    Returns:
        (5, columns): mean of the means, their standard deviation (n − 1), their lag-1 autocorrelation,
        and, of the batches that are in the sums, the harmonic mean of the counts and the mean of the mean squared
        deviations. NaN without two batches.
    """
    columns = means.shape[0]
    moments = np.full((5, columns), np.nan)
    for i in range(columns):
        n = filled[i]
        if n < 2:
            continue
        total, inverse, within = 0.0, 0.0, 0.0
        for j in range(n):
            total += means[i, j]
        for k in range(sums.shape[2]):
            inverse += sums[0, i, k]
            within += sums[1, i, k]
        mean = total / n
        # The oldest batch stands at `following` once the ring is full, at 0 before.
        oldest, summed = 0, n
        if following[i] < n:
            oldest = following[i]
            begun = oldest % block
            if begun > 0:
                summed -= min(oldest - begun + block, n) - oldest
        squares, products, before = 0.0, 0.0, 0.0
        for step in range(n):
            place = oldest + step
            if place >= n:
                place -= n
            deviation = means[i, place] - mean
            squares += deviation * deviation
            products += deviation * before
            before = deviation
        moments[0, i] = mean
        moments[1, i] = math.sqrt(squares / (n - 1))
        moments[2, i] = products / squares if squares > 0.0 else 0.0
        moments[3, i] = summed / inverse
        moments[4, i] = within / summed
    return moments


@compiled(types.float64(types.float64, types.float64))
def _ratio(shift: float, scale: float) -> float:  # pragma: no cover - compiled
    if abs(shift) >= LIMIT * scale:
        return math.copysign(LIMIT, shift) if shift != 0.0 else 0.0
    return shift / scale


@compiled(types.float64[:, ::1](_DOUBLES, _DOUBLES, _DOUBLES, types.int64, types.boolean))
def standardise(
    now: FloatArray, centres: FloatArray, past: FloatArray, least: int, dependent: bool
) -> FloatArray:  # pragma: no cover - compiled
    """How far each column's batch mean lies from its past.

    With φ the lag-1 autocorrelation of the past means (less its bias, Kendall 1954), τ = (1 + φ)/(1 − φ) is how
    many of them tell as much as one independent one, and (1 + φ²)/(1 − φ²) the same for their variance
    (Bayley and Hammersley 1946). A batch of fewer rows than the past ones has a mean that varies more. So has one
    whose own rows vary more: few far rows move the mean and the variance together, and a mean over its own deviation
    keeps the tails of a normal one where rows are skewed or long-tailed (Efron 1969).

    Args:
        now: (3, columns) what `batch_moments` says of the batch.
        centres: (4, columns) centre, scale, number of past means n, and the variance of the centre times n / scale².
        past: (5, columns) what `past_moments` says.
        least: the n under which a column is not judged.
        dependent: whether to use φ.

    Returns:
        (4, columns): z, the t statistic of the prediction interval, its degrees of freedom for a scale that is a
        standard deviation, and the shift in standard deviations of a row. NaN where a column cannot be judged.
    """
    columns = now.shape[1]
    out = np.full((4, columns), np.nan)
    for i in range(columns):
        count, mean, square = now[0, i], now[1, i], now[2, i]
        centre, scale, n = centres[0, i], centres[1, i], centres[2, i]
        if not (count > 0 and n >= least and math.isfinite(mean + square + centre + scale)):
            continue
        own = 1.0
        if scale <= FLAT * abs(centre):
            scale = math.sqrt(square / count)  # a past that never moved: the batch's own rows say how far is far
        else:
            scale *= math.sqrt(max(1.0, past[3, i] / count))
            if 0.0 < past[4, i] < square:
                own = math.sqrt(square / past[4, i])
        shift = mean - centre
        phi = min(max(past[2, i] + (1.0 + 3.0 * past[2, i]) / n, 0.0), PHI_MAX) if dependent else 0.0
        tau, tau_variance = (1.0 + phi) / (1.0 - phi), (1.0 + phi * phi) / (1.0 - phi * phi)
        # Dependent values vary less about their own mean than about the true one.
        widening = math.sqrt((n - 1.0) / max(n - tau, 1.0) * (1.0 + centres[3, i] * tau / n))
        spread = math.sqrt(max(past[4, i] + past[1, i] * past[1, i], square))
        out[0, i] = _ratio(shift, scale)
        out[1, i] = _ratio(shift, scale * widening * own)
        out[2, i] = max(n / tau_variance - 1.0, 1.0)
        out[3, i] = abs(_ratio(shift, spread))
    return out


@compiled(types.int64[:, ::1](_DOUBLES))
def value_counts(matrix: FloatArray) -> IntArray:  # pragma: no cover - compiled
    """How many values of each column are NaN, how many infinite, and whether the finite ones are all equal.

    Args:
        matrix: (columns, rows).

    Returns:
        (3, columns) int64; the last is 1 where all values that are not NaN are equal and there are any.
    """
    columns, rows = matrix.shape
    counts = np.zeros((3, columns), np.int64)
    bits = matrix.view(np.int64)
    for i in range(columns):
        # Whole numbers first, which the compiler does four at a time: nearly all columns end here.
        special, changes = 0, 0
        for j in range(rows):
            special += (bits[i, j] & EXPONENT) == EXPONENT
            changes += bits[i, j] != bits[i, 0]
        if special == 0 and changes > 0 and matrix[i, 0] != 0.0:  # 0.0 and −0.0 differ in their bits
            continue
        nans, infinite, changes = 0, 0, 0
        first = np.nan
        for j in range(rows):
            value = matrix[i, j]
            if value != value:
                nans += 1
            else:
                if first != first:
                    first = value
                changes += value != first
                infinite += abs(value) == np.inf
        counts[0, i] = nans
        counts[1, i] = infinite
        counts[2, i] = nans < rows and changes == 0
    return counts


@compiled(
    types.void(
        types.float64[:, ::1],
        types.float64[:, :, ::1],
        types.int64[::1],
        types.int64[::1],
        types.int64,
        _DOUBLES,
        _FLAGS,
    )
)
def remember(
    means: FloatArray,
    sums: FloatArray,
    following: IntArray,
    filled: IntArray,
    block: int,
    now: FloatArray,
    loud: BoolArray,
) -> None:  # pragma: no cover - compiled
    """Write `now` (3, columns) into the rings of `past_moments`, but for columns without values or that are `loud`."""
    columns, places = means.shape
    for i in range(columns):
        if now[0, i] > 0 and math.isfinite(now[1, i] + now[2, i]) and not loud[i]:
            place = following[i]
            k = place // block
            if place == k * block:
                sums[0, i, k], sums[1, i, k] = 0.0, 0.0
            means[i, place] = now[1, i]
            sums[0, i, k] += 1.0 / now[0, i]
            sums[1, i, k] += now[2, i]
            following[i] = place + 1 if place + 1 < places else 0
            filled[i] = min(filled[i] + 1, places)


def warm_up() -> None:
    """Have every loop ready. Importing this module does it; the daemon calls this at start to say so in code."""
