"""The compiled loops over one column of one batch: moments and buckets, runs, hashes of rows and of texts."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from streamd.detectors.compiled import DOUBLE, INT, LONG, compiled, read, written
from streamd.table import FloatArray

HASH, BYTE = types.uint64, types.uint8
COUNT, NANS, MEAN, M2, M3, M4 = range(6)  # of what `fold` returns


@compiled(HASH(HASH))
def _mixed(bits: np.uint64) -> np.uint64:  # pragma: no cover - compiled
    """As `sketches.mixed`."""
    bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return bits ^ (bits >> np.uint64(33))


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


@compiled(LONG[::1](read(DOUBLE, 1), read(DOUBLE, 1), read(DOUBLE, 1), written(LONG, 1)))
def beyond(
    values: FloatArray, limits: FloatArray, edges: FloatArray, bars: NDArray[np.int64]
) -> NDArray[np.int64]:  # pragma: no cover - compiled
    """How many finite values lie outside of each pair of limits, and in each bar.

    Args:
        values: (n,)
        limits: (6,) three times low and high.
        edges: (bars + 1,) in equal steps; a value on an edge belongs to the bar above, the outer bars have no ends.
        bars: (bars,) added to.

    Returns:
        (3,)
    """
    found = np.zeros(3, np.int64)
    last = len(bars) - 1
    low, step = edges[0], (edges[-1] - edges[0]) / len(bars)
    for value in values:
        if not math.isfinite(value):
            continue
        for i in range(3):
            found[i] += value < limits[2 * i] or value > limits[2 * i + 1]
        place = (value - low) / step
        bar = last if place >= last else int(place) if place > 0.0 else 0
        while bar > 0 and value < edges[bar]:  # rounding may be off by one
            bar -= 1
        while bar < last and value >= edges[bar + 1]:
            bar += 1
        bars[bar] += 1
    return found


@compiled(LONG[::1](read(LONG, 1)))
def runs(bits: NDArray[np.int64]) -> NDArray[np.int64]:  # pragma: no cover - compiled
    """Of (n,), n > 0: changes from one to the next, lengths of the first, the last and the longest run, its start."""
    changes, first, start, longest, longest_start = 0, 0, 0, 0, 0
    for i in range(1, len(bits)):
        if bits[i] == bits[i - 1]:
            continue
        if changes == 0:
            first = i
        changes += 1
        if i - start > longest:
            longest, longest_start = i - start, start
        start = i
    last = len(bits) - start
    if last > longest:
        longest, longest_start = last, start
    return np.array([changes, first if changes else last, last, longest, longest_start])


@compiled(types.void(read(DOUBLE, 1), written(HASH, 1)))
def combine_numbers(values: FloatArray, rows: NDArray[np.uint64]) -> None:  # pragma: no cover - compiled
    """Add one column to (n,) the hashes of rows: 0.0 and −0.0 are one, and so are all NaN."""
    for i in range(len(values)):
        value = values[i] + 0.0 if values[i] == values[i] else np.nan
        bits = np.float64(value).view(np.uint64)
        rows[i] = _mixed(rows[i] * np.uint64(0x100000001B3) + bits)


@compiled(types.void(read(INT, 1), read(HASH, 1), written(HASH, 1)))
def combine_codes(
    codes: NDArray[np.int32], hashes: NDArray[np.uint64], rows: NDArray[np.uint64]
) -> None:  # pragma: no cover - compiled
    """The same of categories; a code that is negative counts from the end."""
    for i in range(len(codes)):
        rows[i] = _mixed(rows[i] * np.uint64(0x100000001B3) + hashes[codes[i]])


@compiled(HASH[::1](read(LONG, 1), read(BYTE, 1)))
def hash_texts(
    offsets: NDArray[np.int64], data: NDArray[np.uint8]
) -> NDArray[np.uint64]:  # pragma: no cover - compiled
    """(n,) of the texts data[offsets[i] : offsets[i + 1]]: FNV-1a (Fowler, Noll and Vo), then mixed."""
    found = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(found)):
        hash_ = np.uint64(0xCBF29CE484222325)
        for at in range(offsets[i], offsets[i + 1]):
            hash_ = (hash_ ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
        found[i] = _mixed(hash_)
    return found
