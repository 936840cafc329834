"""The mergeable summary of each column: fed batch by batch in the order of the rows, merged with that of later rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamd.screening.model import Axis
from streamd.screening.sketches import Distinct, Extremes, Hashes, Moments, Quantiles, Rows, hashed
from streamd.screening.values import Numeric, Other, Text
from streamd.table import FloatArray

STRIDE_ROWS = 200_000  # data of more rows go into the digest by every 16th: see Quantiles
STRIDE = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a summary may remember: less where there are many columns.

    Attributes:
        counted: different numbers that are counted each.
        distinct: hashes in the sample of different numbers; categories of a text column that are remembered.
        pairs: (category, bucket) of a text column that are counted each.
        extremes: values at either end.
        digest: of the t-digest.
        stride: of what goes into it.
    """

    counted: int
    distinct: int
    pairs: int
    extremes: int
    digest: int
    stride: int

    @classmethod
    def of(cls, columns: int, rows: int) -> Sizes:
        share = min(1.0, 200 / max(columns, 1))
        return cls(
            counted=max(100, int(1000 * share)),
            distinct=max(256, int(8192 * share)),
            pairs=max(1000, int(400_000 * share)),
            extremes=max(10, int(100 * share)),
            digest=max(200, int(2000 * share)),
            stride=STRIDE if rows > STRIDE_ROWS else 1,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a batch lies.

    Attributes:
        first_row: the number of its first row.
        buckets: (rows,) of the axis; −1: none, its time is missing.
    """

    first_row: int
    buckets: NDArray[np.int64]


class Runs:
    """The longest run of rows of one value, one after the other. Missing values are a value."""

    def __init__(self) -> None:
        self.rows = 0
        self.first, self.first_length = 0, 0
        self.last, self.last_length = 0, 0
        self.longest, self.longest_start, self.longest_value = 0, 0, 0
        self.changes = 0

    def add(self, hashes: NDArray[np.int64], first_row: int) -> None:
        """`hashes` (rows,): what is equal has equal ones."""
        if not len(hashes):
            return
        starts = np.concatenate([[0], np.flatnonzero(hashes[1:] != hashes[:-1]) + 1])
        lengths = np.diff(np.append(starts, len(hashes)))
        best = int(np.argmax(lengths))
        part = Runs()
        part.rows, part.changes = len(hashes), len(starts) - 1
        part.first, part.first_length = int(hashes[0]), int(lengths[0])
        part.last, part.last_length = int(hashes[-1]), int(lengths[-1])
        part.longest, part.longest_start = int(lengths[best]), first_row + int(starts[best])
        part.longest_value = int(hashes[starts[best]])
        self.merge(part, first_row)

    def merge(self, other: Runs, first_row: int) -> None:
        """`other` begins at `first_row`."""
        if not other.rows:
            return
        if not self.rows:
            self.__dict__.update(other.__dict__)
            return
        joined = self.last == other.first
        self.changes += other.changes + (not joined)
        if other.longest > self.longest:
            self.longest, self.longest_start = other.longest, other.longest_start
            self.longest_value = other.longest_value
        if joined:
            length = self.last_length + other.first_length
            if length > self.longest:
                self.longest, self.longest_start = length, first_row - self.last_length
                self.longest_value = other.first
            if self.first_length == self.rows:
                self.first_length += other.first_length
            other_whole = other.last_length == other.rows
            self.last_length = length if other_whole else other.last_length
        else:
            self.last_length = other.last_length
        self.last = other.last
        self.rows += other.rows


class NumericSummary:
    """Of a column of numbers, or of times as epoch seconds."""

    def __init__(self, axis: Axis, sizes: Sizes) -> None:
        self.rows = self.nulls = self.nans = self.infinities = 0
        self.zeros = self.negative = self.fractions = 0
        self.moments = Moments()
        self.quantiles = Quantiles(sizes.counted, sizes.stride, sizes.digest)
        self.distinct = Distinct(sizes.distinct)
        self.extremes = Extremes(sizes.extremes)
        self.runs = Runs()
        self.bucket_rows = np.zeros(axis.buckets, np.int64)
        self.bucket_means = np.zeros(axis.buckets)
        self.bucket_m2 = np.zeros(axis.buckets)

    @property
    def missing(self) -> int:
        """Nulls and NaN."""
        return self.nulls + self.nans

    def add(self, column: Numeric, place: Place) -> None:
        values = column.values
        self.rows += len(values)
        self.nulls += column.nulls
        self.runs.add((values + 0.0).view(np.int64), place.first_row)
        if not self._fold(column, place.buckets):
            return
        rows = place.first_row + np.arange(len(values))
        if (finite := np.isfinite(values)).sum() < len(values):
            values, rows = values[finite], rows[finite]
        ordered = np.sort(values)
        zero, above = np.searchsorted(ordered, 0.0, "left"), np.searchsorted(ordered, 0.0, "right")
        self.zeros += int(above - zero)
        self.negative += int(zero)
        different = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
        self.fractions += int(np.count_nonzero(np.floor(different) != different))
        self.quantiles.add_sorted(ordered)
        self.distinct.add_different(hashed(different), place.first_row)
        self.extremes.add(values, rows, ordered)

    def _fold(self, column: Numeric, buckets: Rows) -> int:
        """Moments, of all and of each bucket; how many values are finite."""
        from streamd.screening import kernels  # numba costs more to import than most commands take

        low, high = (int(buckets.min()), int(buckets.max()) + 1) if len(buckets) else (0, 0)
        low = max(low, 0)
        size = max(high - low, 0)
        rows, means, m2 = np.zeros(size, np.int64), np.zeros(size), np.zeros(size)
        local = np.where(buckets < 0, -1, buckets - low) if low else buckets
        found = kernels.fold(np.ascontiguousarray(column.values), local, rows, means, m2)
        count, nans = int(found[kernels.COUNT]), int(found[kernels.NANS])
        self.nans += nans - column.nulls
        self.infinities += len(column.values) - count - nans
        self.moments.merge(Moments.of(count, *found[kernels.MEAN :].tolist()))
        if size:
            self._merge_buckets(rows, means, m2, slice(low, high))
        return count

    def merge(self, other: NumericSummary, first_row: int) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.nans += other.nans
        self.infinities += other.infinities
        self.zeros += other.zeros
        self.negative += other.negative
        self.fractions += other.fractions
        self.moments.merge(other.moments)
        self.quantiles.merge(other.quantiles)
        self.distinct.merge(other.distinct)
        self.extremes.merge(other.extremes)
        self.runs.merge(other.runs, first_row)
        self._merge_buckets(other.bucket_rows, other.bucket_means, other.bucket_m2)

    def _merge_buckets(self, rows: Rows, means: FloatArray, m2: FloatArray, at: slice = slice(None)) -> None:
        """Chan, Golub and LeVeque 1983, bucket by bucket."""
        total = np.maximum(self.bucket_rows[at] + rows, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = means - self.bucket_means[at]
            self.bucket_m2[at] += m2 + apart**2 * self.bucket_rows[at] * (rows / total)
            self.bucket_means[at] += apart * (rows / total)
        self.bucket_rows[at] += rows


@dataclass(slots=True)
class Category:
    """One value of a text column: how often, and its first and last row."""

    name: str
    rows: int
    first: int
    last: int
    buckets: dict[int, int]


class TextSummary:
    """Of a column of categories. All are remembered while they are few, then a sample by hash, as in `Distinct`.

    Attributes:
        factor: buckets of the axis that are one bucket here.
    """

    def __init__(self, axis: Axis, sizes: Sizes) -> None:
        self.rows = self.nulls = 0
        self.longest = 0
        self.level = 0
        self.categories: dict[int, Category] = {}
        self.factor = axis.text_factor
        self.bucket_rows = np.zeros(-(-axis.buckets // self.factor), np.int64)
        self.runs = Runs()
        self._most, self._pairs_most, self._pairs = sizes.distinct, sizes.pairs, 0

    @property
    def missing(self) -> int:
        return self.nulls

    @property
    def exact(self) -> bool:
        """Every category is remembered."""
        return self.level == 0

    @property
    def estimate(self) -> int:
        """How many different values there are."""
        return len(self.categories) << self.level

    def add(self, column: Text, place: Place) -> None:
        codes = column.codes
        self.rows += len(codes)
        self.runs.add(column.hashes().view(np.int64), place.first_row)
        present = np.flatnonzero(codes >= 0)
        self.nulls += len(codes) - len(present)
        if not len(present):
            return
        self.longest = max(self.longest, max(map(len, column.names)))
        codes, buckets = codes[present], place.buckets[present] // self.factor  # −1 stays −1
        self.bucket_rows += np.bincount(buckets[buckets >= 0], minlength=len(self.bucket_rows))
        if self.level:
            wanted = (column.name_hashes & np.uint64((1 << self.level) - 1)) == 0
            chosen = wanted[codes]
            codes, buckets, present = codes[chosen], buckets[chosen], present[chosen]
            if not len(codes):
                return
        pairs, counts = np.unique(codes.astype(np.int64) * 2**32 + (buckets + 1), return_counts=True)
        firsts = np.full(len(column.names), -1, np.int64)
        lasts = firsts.copy()
        firsts[codes[::-1]] = present[::-1]
        lasts[codes] = present
        hashes = column.name_hashes.tolist()
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            code, bucket = pair >> 32, (pair & (2**32 - 1)) - 1
            known = self.categories.get(hashes[code])
            first, last = place.first_row + int(firsts[code]), place.first_row + int(lasts[code])
            if known is None:
                self._put(hashes[code], Category(column.names[code], count, first, last, {bucket: count}))
            else:
                self._more(known, count, first, last, {bucket: count})
        self._thin()

    def merge(self, other: TextSummary, first_row: int) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.longest = max(self.longest, other.longest)
        self.bucket_rows += other.bucket_rows
        self.runs.merge(other.runs, first_row)
        self._to_level(max(self.level, other.level))
        for key, category in other.categories.items():
            if key & ((1 << self.level) - 1):
                continue
            known = self.categories.get(key)
            if known is None:
                self._put(key, category)
            else:
                self._more(known, category.rows, category.first, category.last, category.buckets)
        self._thin()

    def distinct_over_time(self) -> Rows:
        """(buckets / factor,) different values in each."""
        counts = np.zeros(len(self.bucket_rows), np.int64)
        for category in self.categories.values():
            counts[[bucket for bucket in category.buckets if bucket >= 0]] += 1
        return counts << self.level

    def _put(self, key: int, category: Category) -> None:
        self.categories[key] = category
        self._pairs += len(category.buckets)

    def _more(self, known: Category, rows: int, first: int, last: int, buckets: dict[int, int]) -> None:
        known.rows += rows
        known.first, known.last = min(known.first, first), max(known.last, last)
        before = len(known.buckets)
        for bucket, count in buckets.items():
            known.buckets[bucket] = known.buckets.get(bucket, 0) + count
        self._pairs += len(known.buckets) - before

    def _thin(self) -> None:
        while len(self.categories) > self._most or (self._pairs > self._pairs_most and len(self.categories) > 1):
            self._to_level(self.level + 1)

    def _to_level(self, level: int) -> None:
        if level == self.level:
            return
        self.level = level
        self.categories = {k: c for k, c in self.categories.items() if not k & ((1 << level) - 1)}
        self._pairs = sum(len(c.buckets) for c in self.categories.values())


class OtherSummary:
    """Of a column that is neither: lists, bytes, nothing at all."""

    def __init__(self) -> None:
        self.rows = self.nulls = 0

    @property
    def missing(self) -> int:
        return self.nulls

    def add(self, column: Other, rows: int) -> None:
        self.rows += rows
        self.nulls += column.nulls

    def merge(self, other: OtherSummary) -> None:
        self.rows += other.rows
        self.nulls += other.nulls


Summary = NumericSummary | TextSummary | OtherSummary


def hashes_of(values: Numeric | Text | Other) -> Hashes | None:
    """(rows,) what makes rows equal; None of a column that is counted alone."""
    return None if isinstance(values, Other) else values.hashes()
