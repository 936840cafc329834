"""The mergeable summary of a column of categories: how often each is there, since when, and how many over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamd.screening.model import Axis
from streamd.screening.runs import Runs
from streamd.screening.sizes import Place, Sizes
from streamd.screening.sketches import Distinct, Hashes, Rows, ends_in_zeros
from streamd.screening.values import Text


@dataclass(frozen=True, slots=True)
class Category:
    """One value: in how many rows, from which on; its first bucket (−1: none), and in how many buckets it is."""

    name: str
    rows: int
    first: int
    first_bucket: int
    filled: int


class TextSummary:
    """Of a column of categories. All are remembered while they are few, then a sample by hash, as in `Distinct`.

    Attributes:
        factor: buckets of the axis that are one bucket here.
        bucket_rows: (buckets / factor,) values in each.
        distinct: hashes of the categories, with their rows.
    """

    def __init__(self, axis: Axis, sizes: Sizes) -> None:
        self.rows = self.nulls = 0
        self.factor = axis.text_factor
        self.bucket_rows = np.zeros(-(-axis.buckets // self.factor), np.int64)
        self.runs = Runs()
        self.distinct = Distinct(sizes.distinct)
        self._names: dict[int, str] = {}
        self._pairs = Pairs()
        self._pairs_most = sizes.pairs

    @property
    def missing(self) -> int:
        return self.nulls

    @property
    def exact(self) -> bool:
        """Every category is remembered."""
        return self.level == 0

    @property
    def level(self) -> int:
        """One category of 2^level is remembered."""
        self._thin()
        return self.distinct.level

    @property
    def estimate(self) -> int:
        """How many different values there are."""
        self._thin()
        return self.distinct.estimate

    def add(self, column: Text, place: Place) -> None:
        self.rows += len(column.codes)
        self.runs.add(column.hashes_of_rows().view(np.int64), place.first_row)
        present = np.flatnonzero(column.codes >= 0)
        self.nulls += len(column.codes) - len(present)
        if not len(present):
            return
        codes, buckets = column.codes[present], place.buckets[present] // self.factor  # −1 stays −1
        self.bucket_rows += np.bincount(buckets[buckets >= 0], minlength=len(self.bucket_rows))
        firsts = np.empty(len(column.hashes), np.int64)
        firsts[codes[::-1]] = present[::-1]
        counts = np.bincount(codes, minlength=len(firsts))
        there = np.flatnonzero(counts)
        self.distinct.add_different(column.hashes[there], place.first_row + firsts[there], counts[there])
        kept = ends_in_zeros(column.hashes, self.distinct.level)
        if not kept.all():
            chosen = kept[codes]
            codes, buckets, there = codes[chosen], buckets[chosen], there[kept[there]]
        self._name(column, there)
        pairs, times = np.unique(codes.astype(np.int64) << 32 | buckets + 1, return_counts=True)
        self._pairs.add(column.hashes[pairs >> 32], (pairs & 0xFFFFFFFF) - 1, times)
        if self._pairs.waiting > self._pairs_most // 2:
            self._thin()

    def merge(self, other: TextSummary, first_row: int) -> None:
        """`other` begins at `first_row`."""
        self.rows += other.rows
        self.nulls += other.nulls
        self.bucket_rows += other.bucket_rows
        self.runs.merge(other.runs, first_row)
        other._thin()
        self.distinct.merge(other.distinct)
        self._names |= other._names
        self._pairs.add(other._pairs.hashes, other._pairs.buckets, other._pairs.counts)
        self._thin()

    def categories(self) -> list[Category]:
        """What is remembered, by first row."""
        self._thin()
        hashes, pairs = self.distinct.hashes, self._pairs
        timed = pairs.buckets >= 0
        owners, buckets = np.searchsorted(hashes, pairs.hashes[timed]), pairs.buckets[timed]
        filled = np.bincount(owners, minlength=len(hashes))
        first_buckets = np.full(len(hashes), -1)
        first_buckets[owners[::-1]] = buckets[::-1]  # rising: the last that is written is the first
        order = np.argsort(self.distinct.firsts, kind="stable")
        figures = (self.distinct.counts, self.distinct.firsts, first_buckets, filled)
        rows = zip(hashes[order].tolist(), *(each[order].tolist() for each in figures), strict=True)
        return [Category(self._names[hash_], *numbers) for hash_, *numbers in rows]

    def known(self, hash_: int) -> tuple[str, int] | None:
        """The category with that hash and its rows; None: it is not remembered."""
        self._thin()
        at = int(np.searchsorted(self.distinct.hashes, np.uint64(hash_)))
        name = self._names.get(hash_)
        return None if name is None else (name, int(self.distinct.counts[at]))

    def distinct_over_time(self) -> Rows:
        """(buckets / factor,) different values in each."""
        self._thin()
        buckets = self._pairs.buckets
        return np.bincount(buckets[buckets >= 0], minlength=len(self.bucket_rows)) << self.level

    def counts_over_time(self) -> tuple[list[str], NDArray[np.int64]]:
        """Names in the alphabet's order, and (buckets / factor, names) rows of each."""
        self._thin()
        names = [self._names[hash_] for hash_ in self.distinct.hashes.tolist()]
        order = sorted(range(len(names)), key=names.__getitem__)
        timed = self._pairs.buckets >= 0
        counts = np.zeros((len(self.bucket_rows), len(names)), np.int64)
        owners = np.searchsorted(self.distinct.hashes, self._pairs.hashes[timed])
        counts[self._pairs.buckets[timed], owners] = self._pairs.counts[timed]
        return [names[i] for i in order], counts[:, order]

    def _name(self, column: Text, codes: Rows) -> None:
        hashes = column.hashes[codes].tolist()
        new = [i for i, hash_ in enumerate(hashes) if hash_ not in self._names]
        for i, name in zip(new, column.some_names(codes[new]), strict=True):
            self._names[hashes[i]] = name

    def _thin(self) -> None:
        """Settle, and forget categories until there are few enough. To be called before what is remembered is read."""
        self.distinct.settle()
        self._pairs.settle()
        self._pairs.keep(self.distinct.level)
        while len(self._pairs.hashes) > self._pairs_most and len(self.distinct.hashes) > 1:
            self.distinct.to_level(self.distinct.level + 1)
            self._pairs.keep(self.distinct.level)
        if len(self._names) > len(self.distinct.hashes):
            kept = set(self.distinct.hashes.tolist())
            self._names = {hash_: name for hash_, name in self._names.items() if hash_ in kept}


class Pairs:
    """How often each category is in each bucket: (pairs,) arrays, rising by hash, then by bucket."""

    def __init__(self) -> None:
        self.hashes: Hashes = np.empty(0, np.uint64)
        self.buckets: Rows = np.empty(0, np.int64)
        self.counts: Rows = np.empty(0, np.int64)
        self.waiting = 0
        self._parts: list[tuple[Hashes, Rows, Rows]] = []

    def add(self, hashes: Hashes, buckets: Rows, counts: Rows) -> None:
        self._parts.append((hashes, buckets, counts))
        self.waiting += len(hashes)

    def settle(self) -> None:
        """Take in what waits."""
        if not self.waiting:
            return
        parts = [(self.hashes, self.buckets, self.counts), *self._parts]
        self._parts, self.waiting = [], 0
        hashes, buckets, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.lexsort((buckets, hashes))
        hashes, buckets = hashes[order], buckets[order]
        new = (hashes[1:] != hashes[:-1]) | (buckets[1:] != buckets[:-1])
        starts = np.flatnonzero(np.concatenate([[True], new]))
        self.hashes, self.buckets = hashes[starts], buckets[starts]
        self.counts = np.add.reduceat(counts[order], starts)

    def keep(self, level: int) -> None:
        """Forget categories whose hashes do not end in so many zeros."""
        kept = ends_in_zeros(self.hashes, level)
        if not kept.all():
            self.hashes, self.buckets, self.counts = self.hashes[kept], self.buckets[kept], self.counts[kept]
