"""The inner loops of `dependence`: autocorrelation times from sums of whole numbers, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from streamd.detectors.compiled import BINS, DOUBLE, INT, LONG, compiled, read, written
from streamd.table import FloatArray

WIDTHS = ((types.int16, INT), (INT, LONG))  # of ranks, and of the sums of their products


@compiled([LONG(read(r, 1), LONG, types.NumberClass(s)) for r, s in WIDTHS])
def _product(ranks: NDArray[Any], lag: int, number: Any) -> Any:  # pragma: no cover - compiled
    """The sum of the products of ranks that far apart; the machine adds as many at once as `number` lets it."""
    total, ahead = number(0), ranks[lag:]
    for row in range(np.uint64(len(ahead))):
        total = number(total + number(ranks[row]) * number(ahead[row]))
    return np.int64(total)


@compiled([(read(r, 2), LONG, written(DOUBLE, 1), types.NumberClass(s)) for r, s in WIDTHS])
def short_times(ranks: NDArray[Any], pairs_max: int, times: FloatArray, number: Any) -> None:  # pragma: no cover
    """Geyer's τ (see `dependence`) of columns whose sum ends within `pairs_max` pairs of lags; NaN for the others.

    Sums of products of whole numbers: exact, whatever the order in which the machine adds them. `number` is of what
    holds them all, and never less than the squares' own: np.int32 for ranks of 16 bits, else np.int64.
    """
    columns, rows = ranks.shape
    for column in range(columns):
        own = ranks[column]
        variance, total, pair_before = _product(own, 0, number), 0.0, np.int64(0)
        times[column] = np.nan
        if variance == 0:
            times[column] = 1.0
            continue
        for pair in range(min(pairs_max, rows // 2)):
            here = (variance if pair == 0 else _product(own, 2 * pair, number)) + _product(own, 2 * pair + 1, number)
            if here <= 0:
                times[column] = max(2.0 * total / variance - 1.0, 1.0)
                break
            pair_before = here if pair == 0 else min(pair_before, here)
            total += pair_before


@compiled([DOUBLE(read(t, 1), LONG, LONG) for t in BINS])
def category_time(codes: NDArray[np.uint16], categories: int, lags_max: int) -> float:  # pragma: no cover
    """Geyer's τ (see `dependence`) of a column of categories, by agreement.

    The autocovariance at a lag is the sum over the categories of that of their indicators: how many pairs of rows
    that far apart are equal, less what the shares of the categories alone would give. In whole numbers (times
    n²), so exact. A missing value adds nothing.

    Args:
        codes: (rows,) 0 to categories − 1; anything above is missing.
        lags_max: the sum ends here at the latest.
    """
    rows = len(codes)
    counts = np.zeros(categories, np.int64)
    n = np.int64(0)
    for row in range(rows):
        code = np.int64(codes[row])
        if code < categories:
            counts[code] += 1
            n += 1
    squares = np.int64(0)
    for category in range(categories):
        squares += counts[category] ** 2
    here = np.zeros(rows, np.int64)  # each row's own category, counted; 0: missing
    for row in range(rows):
        code = np.int64(codes[row])
        here[row] = counts[code] if code < categories else 0
    variance, total, before, even = np.int64(0), 0.0, np.int64(0), np.int64(0)
    for lag in range(min(lags_max, rows - rows % 2)):
        sum_ = np.int64(0)
        for row in range(rows - lag):
            ahead = row + lag
            if here[row] > 0 and here[ahead] > 0:
                equal = n * n if codes[row] == codes[ahead] else np.int64(0)
                sum_ += equal - n * (here[row] + here[ahead]) + squares
        if lag == 0:
            variance = sum_
            if variance <= 0:
                return 1.0
        if lag % 2 == 0:
            even = sum_
            continue
        pair = even + sum_
        if pair <= 0:
            break
        before = pair if lag == 1 else min(before, pair)
        total += before
    return max(2.0 * total / variance - 1.0, 1.0)
