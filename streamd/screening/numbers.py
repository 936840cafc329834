"""The mergeable summary of a column of numbers, or of times as epoch seconds."""

from __future__ import annotations

import numpy as np

from streamd.screening.model import Axis
from streamd.screening.quantiles import Quantiles
from streamd.screening.runs import Runs
from streamd.screening.sizes import STRIDE, Place, Sizes
from streamd.screening.sketches import Distinct, Extremes, Moments, Rows, hashed, starts_of
from streamd.screening.values import Numeric
from streamd.table import FloatArray


class NumericSummary:
    """Of a column of numbers, or of times as epoch seconds."""

    def __init__(self, axis: Axis, sizes: Sizes) -> None:
        self.rows = self.nulls = self.nans = self.infinities = 0
        self.zeros = self.negative = self.fractions = 0
        self.moments = Moments()
        self.quantiles = Quantiles(sizes.counted, STRIDE, sizes.digest)
        self._distinct = None if sizes.exact else Distinct(sizes.distinct)
        self.extremes = Extremes(sizes.extremes)
        self.runs = Runs()
        self.bucket_rows = np.zeros(axis.buckets, np.int64)
        self.bucket_means = np.zeros(axis.buckets)
        self.bucket_m2 = np.zeros(axis.buckets)

    @property
    def missing(self) -> int:
        """Nulls and NaN."""
        return self.nulls + self.nans

    @property
    def different(self) -> int:
        """How many different finite values there are; estimated where `different_exact` is False."""
        if self.quantiles.exact:
            return len(self.quantiles.values)
        assert self._distinct is not None  # of a summary that is exact, no quantiles are estimated
        return min(self._distinct.estimate, self.quantiles.count)

    @property
    def different_exact(self) -> bool:
        return self.quantiles.exact or (self._distinct is not None and self._distinct.exact)

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
        starts = starts_of(ordered)
        different = ordered if len(starts) == len(ordered) else ordered[starts]
        self.fractions += int(np.count_nonzero(np.floor(different) != different))
        self.quantiles.add_sorted(ordered, starts)
        if self._distinct is not None:
            hashes = hashed(different)
            self._distinct.add_different(hashes, np.full(len(hashes), place.first_row))
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
        if self._distinct is not None and other._distinct is not None:
            self._distinct.merge(other._distinct)
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
