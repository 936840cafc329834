"""Ranks and quantiles that add up: exact while there are few different values, then a t-digest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from streamd.screening.sketches import Rows, starts_of
from streamd.table import FloatArray


class Quantiles:
    """Ranks and quantiles: exact up to `most` different values, then a t-digest.

    Args:
        most: different values that are counted each.
        stride: into the digest goes every so many-th of a batch's sorted values: an error of half a stride in a batch,
            far below the digest's own, for a fraction of its time.
        k: the digest's size, and 17 bytes for each: the rank is off by up to 5/k in the middle, far less in the tails.
    """

    def __init__(self, most: int, stride: int, k: int) -> None:
        self.most, self.stride, self.k = most, stride, k
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self._values: FloatArray = np.empty(0)
        self._times: Rows = np.empty(0, np.int64)
        self._upto: Rows | None = None  # how many there are up to each value, once it is asked for
        self._waiting: list[tuple[FloatArray, Rows]] = []
        self._waiting_values = 0
        self._digest: Any = None
        self._skipped = 0

    @property
    def exact(self) -> bool:
        """Each value is counted."""
        self._settle()
        return self._digest is None

    @property
    def values(self) -> FloatArray:
        """All different values, rising. Only where `exact`."""
        assert self.exact
        return self._values

    @property
    def times(self) -> Rows:
        """How often each of `values` occurs."""
        assert self.exact
        return self._times

    def add_sorted(self, ordered: FloatArray, starts: Rows | None = None) -> None:
        """Finite values, rising; `starts` are the places where they differ from the one before."""
        if not len(ordered):
            return
        if starts is None:
            starts = starts_of(ordered)
        self.count += len(ordered)
        self.low, self.high = min(self.low, float(ordered[0])), max(self.high, float(ordered[-1]))
        if self._digest is not None:
            self._into_digest(ordered)
            return
        if len(starts) > self.most:
            self._spill()
            self._into_digest(ordered)
            return
        self._count(ordered[starts], np.diff(starts, append=len(ordered)))

    def merge(self, other: Quantiles) -> None:
        self.count += other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if self._digest is None and other.exact:
            self._count(other.values, other.times)
        elif other.exact:
            self._into_digest(np.repeat(other.values, other.times))
        else:
            self._spill()
            self._digest.merge(other._digest)

    def compress(self) -> None:
        """The digest, as pickling does."""
        if not self.exact:
            self._digest.compress()

    def at(self, shares: FloatArray) -> FloatArray:
        """The quantiles at these shares; linear between neighbours (numpy's default). NaN of nothing."""
        if not self.count:
            return np.full(len(shares), np.nan)
        if self.exact:
            places = shares * (self.count - 1)
            upto = self._places()
            below = self._values[np.searchsorted(upto, np.floor(places).astype(np.int64), side="right")]
            above = self._values[np.searchsorted(upto, np.ceil(places).astype(np.int64), side="right")]
            found: FloatArray = below + (above - below) * (places - np.floor(places))
            return found
        inside = [self.low if s <= 0 else self.high if s >= 1 else self._digest.get_quantile(float(s)) for s in shares]
        return np.array(inside)

    def share_up_to(self, value: float) -> float:
        """Of the values, how many are at most this; NaN of nothing."""
        if not self.count:
            return math.nan
        if self.exact:
            place = int(np.searchsorted(self._values, value, side="right"))
            return int(self._places()[place - 1]) / self.count if place else 0.0
        return 1.0 if value >= self.high else float(self._digest.get_rank(value))

    def without(self, place: int) -> Quantiles:
        """These without one of `values`, which must not be the only one."""
        rest = Quantiles(self.most, self.stride, self.k)
        values, times = np.delete(self.values, place), np.delete(self.times, place)
        rest.count, rest.low, rest.high = int(times.sum()), float(values[0]), float(values[-1])
        rest._values, rest._times = values, times
        return rest

    def _places(self) -> Rows:
        if self._upto is None:
            self._upto = np.cumsum(self._times)
        return self._upto

    def _count(self, values: FloatArray, times: Rows) -> None:
        self._waiting.append((values, times))
        self._waiting_values += len(values)
        if self._waiting_values > self.most:  # sorting is what costs: not for every batch
            self._settle()

    def _settle(self) -> None:
        """Count what waits; into a digest where there are too many values."""
        if not self._waiting:
            return
        parts = [(self._values, self._times), *self._waiting]
        self._waiting, self._waiting_values, self._upto = [], 0, None
        filled = [part for part in parts if len(part[0])]
        if len(filled) > 1:
            values, times = (np.concatenate(each) for each in zip(*filled, strict=True))
            order = np.argsort(values)
            values = values[order]
            starts = starts_of(values)
            filled = [(values[starts], np.add.reduceat(times[order], starts))]
        if filled:
            self._values, self._times = filled[0]
        if len(self._values) > self.most:
            self._spill()

    def _spill(self) -> None:
        """From counts to a digest."""
        self._settle()
        if self._digest is not None:
            return
        self._digest = self._new()
        self._into_digest(np.repeat(self._values, self._times))
        self._values, self._times, self._upto = np.empty(0), np.empty(0, np.int64), None

    def _into_digest(self, ordered: FloatArray) -> None:
        first = (self.stride // 2 - self._skipped) % self.stride  # over batches, exactly every stride-th row counts
        self._skipped = (self._skipped + len(ordered)) % self.stride
        if first < len(ordered):
            self._digest.update(np.ascontiguousarray(ordered[first :: self.stride]))

    def _new(self) -> Any:
        from datasketches import tdigest_double

        return tdigest_double(self.k)

    def __getstate__(self) -> dict[str, Any]:
        """The digest becomes bytes."""
        digest = None if self._digest is None else self._digest.serialize()
        return {**self.__dict__, "_digest": digest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._digest is not None:
            from datasketches import tdigest_double

            self._digest = tdigest_double.deserialize(self._digest)
