"""Summaries of numbers that add up: moments, distinct values, extremes. Same parts, same order, same bits.

Each has `merge(other)`, where `other` summarises the rows that come after. Exact while there is little; then `Distinct`
is an adaptive sample, and `quantiles.Quantiles` a t-digest (Dunning and Ertl 2019) of the library datasketches.
KLL sketches toss coins that cannot be seeded; HLL and CPC sketches take one value a call, 400 ns each.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

_HALF = np.uint64(33)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def mixed(bits: Hashes) -> Hashes:
    """The finaliser of MurmurHash3 (Appleby): any bit that differs changes half of all bits. Never in place."""
    out = bits ^ (bits >> _HALF)
    out *= _MIX_1
    out ^= out >> _HALF
    out *= _MIX_2
    out ^= out >> _HALF
    return out


def hashed(values: FloatArray) -> Hashes:
    """(n,) of doubles; 0.0 and −0.0 are one, and so are all NaN."""
    clean = values + 0.0
    clean[np.isnan(clean)] = np.nan
    return mixed(clean.view(np.uint64))


class Moments:
    """Count, mean and the sums of the second to fourth powers of the distances from it (Pébay 2008)."""

    def __init__(self) -> None:
        self.count, self.mean, self.m2, self.m3, self.m4 = 0, 0.0, 0.0, 0.0, 0.0

    @classmethod
    def of(cls, count: int, mean: float, m2: float, m3: float, m4: float) -> Moments:
        """As `kernels.fold` gives them."""
        made = cls()
        made.count, made.mean, made.m2, made.m3, made.m4 = count, mean, m2, m3, m4
        return made

    def merge(self, other: Moments) -> None:
        if not other.count:
            return
        a, b = float(self.count), float(other.count)
        n = a + b
        d = other.mean - self.mean
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.float64(d)
            m4 = e**4 * a * b * (a * a - a * b + b * b) / n**3 + 6 * e**2 * (a * a * other.m2 + b * b * self.m2) / n**2
            self.m4 += other.m4 + float(m4 + 4 * e * (a * other.m3 - b * self.m3) / n)
            m3 = e**3 * a * b * (a - b) / n**2 + 3 * e * (a * other.m2 - b * self.m2) / n
            self.m3 += other.m3 + float(m3)
            self.m2 += other.m2 + float(e**2 * a * b / n)
        self.mean += d * b / n
        self.count += other.count

    @property
    def deviation(self) -> float:
        """The square root of m2 / n (ddof 0, as scipy's zscore); NaN of nothing."""
        return math.sqrt(self.m2 / self.count) if self.count and self.m2 >= 0 else math.nan

    @property
    def skewness(self) -> float:
        """NaN where all values are one."""
        return math.sqrt(self.count) * self.m3 / self.m2**1.5 if 0 < self.m2 < 1e200 else math.nan

    @property
    def excess_kurtosis(self) -> float:
        """0 of a normal; NaN where all values are one."""
        return self.count * self.m4 / self.m2**2 - 3.0 if 0 < self.m2 < 1e150 else math.nan


class Distinct:
    """How many different values there are, and how often each: exact up to `most`, then of a sample by hash.

    When there are more, only hashes that end in one more zero bit are kept: each value stays or goes with all its rows
    (Wegman's adaptive sampling; Flajolet 1990). The error of the estimate is about 1.2 / √most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.level = 0
        self.hashes: Hashes = np.empty(0, np.uint64)
        self.counts: Rows = np.empty(0, np.int64)
        self.firsts: Rows = np.empty(0, np.int64)
        self._waiting: list[tuple[Hashes, Rows, Rows]] = []
        self._waiting_rows = 0

    @property
    def exact(self) -> bool:
        self.settle()
        return self.level == 0

    @property
    def estimate(self) -> int:
        self.settle()
        return len(self.hashes) << self.level

    def add_different(self, hashes: Hashes, firsts: Rows, counts: Rows | None = None) -> None:
        """As `add`, of hashes no two of which are equal: where they alone are too many, there is no need to sort."""
        level = self.level
        kept = np.flatnonzero(ends_in_zeros(hashes, level))
        while len(kept) > self.most:
            level += 1
            kept = kept[ends_in_zeros(hashes[kept], level)]
        if level > self.level:
            self.settle()
            self.to_level(max(level, self.level))
        self.add(hashes[kept], firsts[kept], None if counts is None else counts[kept])

    def add(self, hashes: Hashes, firsts: Rows, counts: Rows | None = None) -> None:
        """Some rows' hashes.

        Args:
            hashes: (n,) not necessarily different.
            firsts: (n,) the first row of each.
            counts: (n,) rows of each; None: one.
        """
        if self.level:
            kept = np.flatnonzero(ends_in_zeros(hashes, self.level))
            hashes, firsts = hashes[kept], firsts[kept]
            counts = None if counts is None else counts[kept]
        if not len(hashes):
            return
        self._waiting.append((hashes, firsts, np.ones(len(hashes), np.int64) if counts is None else counts))
        self._waiting_rows += len(hashes)
        if self._waiting_rows > self.most // 2:  # sorting is what costs: not for every batch
            self.settle()

    def settle(self) -> None:
        """Take in what waits. To be called before the attributes are read."""
        if not self._waiting:
            return
        parts = [(self.hashes, self.firsts, self.counts), *self._waiting]
        self._waiting, self._waiting_rows = [], 0
        every, rows, times = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.argsort(every)
        every = every[order]
        starts = starts_of(every)
        self.hashes, self.firsts = every[starts], np.minimum.reduceat(rows[order], starts)
        self.counts = np.add.reduceat(times[order], starts)
        self._thin()

    def merge(self, other: Distinct) -> None:
        self.settle()
        other.settle()
        if other.level > self.level:
            self.to_level(other.level)
        if not len(self.hashes) and other.level == self.level:  # nothing to sort
            self.hashes, self.firsts, self.counts = other.hashes, other.firsts, other.counts
            return
        self.add(other.hashes, other.firsts, other.counts)
        self.settle()

    def _thin(self) -> None:
        while len(self.hashes) > self.most:
            self.to_level(self.level + 1)

    def to_level(self, level: int) -> None:
        """Keep hashes that end in so many zeros."""
        self.level = level
        kept = ends_in_zeros(self.hashes, level)
        self.hashes, self.counts, self.firsts = self.hashes[kept], self.counts[kept], self.firsts[kept]


def starts_of(ordered: NDArray[Any]) -> Rows:
    """Of (n,), n > 0, in order: the places where it differs from the one before."""
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def ends_in_zeros(hashes: Hashes, bits: int) -> NDArray[np.bool_]:
    """(n,) which hashes end in so many zero bits."""
    kept: NDArray[np.bool_] = (hashes & np.uint64((1 << bits) - 1)) == 0
    return kept


class Extremes:
    """The `most` smallest and largest values with their rows; of equal values the first rows."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.low_values, self.low_rows = np.empty(0), np.empty(0, np.int64)
        self.high_values, self.high_rows = np.empty(0), np.empty(0, np.int64)

    def add(self, values: FloatArray, rows: Rows, ordered: FloatArray) -> None:
        """Values with their rows, rising; `ordered` are the same values, rising."""
        if not len(ordered):
            return
        most = self.most
        if len(self.low_values) < most or ordered[0] < self.low_values[-1]:
            chosen = np.flatnonzero(values <= ordered[min(most, len(ordered)) - 1])
            self._low(values[chosen], rows[chosen])
        if len(self.high_values) < most or ordered[-1] > self.high_values[-1]:
            chosen = np.flatnonzero(values >= ordered[-min(most, len(ordered))])
            self._high(values[chosen], rows[chosen])

    def merge(self, other: Extremes) -> None:
        self._low(other.low_values, other.low_rows)
        self._high(other.high_values, other.high_rows)

    def _low(self, values: FloatArray, rows: Rows) -> None:
        values, rows = np.concatenate([self.low_values, values]), np.concatenate([self.low_rows, rows])
        kept = np.lexsort((rows, values))[: self.most]
        self.low_values, self.low_rows = values[kept], rows[kept]

    def _high(self, values: FloatArray, rows: Rows) -> None:
        values, rows = np.concatenate([self.high_values, values]), np.concatenate([self.high_rows, rows])
        kept = np.lexsort((rows, -values))[: self.most]
        self.high_values, self.high_rows = values[kept], rows[kept]
