"""Summaries of numbers that add up: moments, distinct values, quantiles, extremes. Same parts, same order, same bits.

Each has `merge(other)`, where `other` summarises the rows that come after. Exact while there is little; then
`Quantiles` is a t-digest (Dunning and Ertl 2019) of the library datasketches, and `Distinct` an adaptive sample.
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

    def add_different(self, hashes: Hashes, row: int) -> None:
        """Hashes of which no two are equal, from `row` on: where they alone are too many, there is no need to sort."""
        level = self.level
        while len(hashes) > self.most:
            level += 1
            hashes = hashes[_ends_in_zeros(hashes, level)]
        if level > self.level:
            self.settle()
            self._to_level(level)
        self.add(hashes, np.full(len(hashes), row))

    def add(self, hashes: Hashes, firsts: Rows, counts: Rows | None = None) -> None:
        """Some rows' hashes.

        Args:
            hashes: (n,) not necessarily different.
            firsts: (n,) the first row of each.
            counts: (n,) rows of each; None: one.
        """
        if self.level:
            kept = np.flatnonzero(_ends_in_zeros(hashes, self.level))
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
        order = np.argsort(every, kind="stable")  # of equal hashes the first row stays first
        every = every[order]
        starts = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
        self.hashes, self.firsts = every[starts], rows[order][starts]
        self.counts = np.add.reduceat(times[order], starts)
        self._thin()

    def merge(self, other: Distinct) -> None:
        self.settle()
        other.settle()
        if other.level > self.level:
            self._to_level(other.level)
        self.add(other.hashes, other.firsts, other.counts)
        self.settle()

    def _thin(self) -> None:
        while len(self.hashes) > self.most:
            self._to_level(self.level + 1)

    def _to_level(self, level: int) -> None:
        self.level = level
        kept = _ends_in_zeros(self.hashes, level)
        self.hashes, self.counts, self.firsts = self.hashes[kept], self.counts[kept], self.firsts[kept]


def _ends_in_zeros(hashes: Hashes, bits: int) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = (hashes & np.uint64((1 << bits) - 1)) == 0
    return kept


class Quantiles:
    """Ranks and quantiles: exact up to `most` different values, then a t-digest.

    Args:
        most: different values that are counted each.
        stride: into the digest goes every so many-th of a batch's sorted values: an error of half a stride in a batch,
            far below the digest's own, for a fraction of its time. 1 where there are few rows.
        k: the digest's size, and 17 bytes for each: the rank is off by up to 5/k in the middle, far less in the tails.
    """

    def __init__(self, most: int, stride: int, k: int) -> None:
        self.most, self.stride, self.k = most, stride, k
        self.count = 0
        self.values: FloatArray | None = np.empty(0)
        self.times: Rows = np.empty(0, np.int64)
        self._digest: Any = None
        self._skipped = 0
        self.low, self.high = math.inf, -math.inf

    def add_sorted(self, ordered: FloatArray) -> None:
        """Finite values, rising."""
        if not len(ordered):
            return
        self.count += len(ordered)
        self.low, self.high = min(self.low, float(ordered[0])), max(self.high, float(ordered[-1]))
        if self.values is None:
            self._into_digest(ordered)
            return
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(starts) > self.most:
            self._spill()
            self._into_digest(ordered)
            return
        self._count(ordered[starts], np.diff(np.append(starts, len(ordered))))

    def merge(self, other: Quantiles) -> None:
        self.count += other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if self.values is not None and other.values is not None:
            self._count(other.values, other.times)
        elif other.values is not None:
            self._into_digest(np.repeat(other.values, other.times))
        else:
            self._spill()
            self._digest = self._digest or self._new()
            if other._digest is not None:
                other._digest.compress()  # as one that was pickled, or an engine that sends it would differ by a hair
                self._digest.merge(other._digest)

    def at(self, shares: FloatArray) -> FloatArray:
        """The quantiles at these shares; linear between neighbours (numpy's default). NaN of nothing."""
        if not self.count:
            return np.full(len(shares), np.nan)
        if self.values is not None:
            places = shares * (self.count - 1)
            upto = np.cumsum(self.times)
            below = self.values[np.searchsorted(upto, np.floor(places), side="right")]
            above = self.values[np.searchsorted(upto, np.ceil(places), side="right")]
            found: FloatArray = below + (above - below) * (places - np.floor(places))
            return found
        inside = [self.low if s <= 0 else self.high if s >= 1 else self._digest.get_quantile(float(s)) for s in shares]
        return np.array(inside)

    def share_up_to(self, value: float) -> float:
        """Of the values, how many are at most this; NaN of nothing."""
        if not self.count:
            return math.nan
        if self.values is not None:
            return float(self.times[self.values <= value].sum()) / self.count
        return 1.0 if value >= self.high else float(self._digest.get_rank(value))

    def _count(self, values: FloatArray, times: Rows) -> None:
        assert self.values is not None
        every, inverse = np.unique(np.concatenate([self.values, values]), return_inverse=True)
        self.times = np.bincount(inverse, np.concatenate([self.times, times])).astype(np.int64)
        self.values = every
        if len(every) > self.most:
            self._spill()

    def _spill(self) -> None:
        """From counts to a digest."""
        if self.values is None:
            return
        values, self.values = self.values, None
        self._into_digest(np.repeat(values, self.times))
        self.times = np.empty(0, np.int64)

    def _into_digest(self, ordered: FloatArray) -> None:
        if self._digest is None:
            self._digest = self._new()
        first = (self.stride // 2 - self._skipped) % self.stride  # over batches, exactly every stride-th row counts
        self._skipped = (self._skipped + len(ordered)) % self.stride
        self._digest.update(np.ascontiguousarray(ordered[first :: self.stride]))

    def _new(self) -> Any:
        from datasketches import tdigest_double

        return tdigest_double(self.k)

    def __getstate__(self) -> dict[str, Any]:
        digest = None if self._digest is None else self._digest.serialize()
        return {**self.__dict__, "_digest": digest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._digest is not None:
            from datasketches import tdigest_double

            self._digest = tdigest_double.deserialize(self._digest)


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
