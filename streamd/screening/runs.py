"""The longest run of rows of one value: a sensor that hung, a column that is sorted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Runs:
    """The longest run of rows of one value, one after the other. Missing values are a value."""

    def __init__(self) -> None:
        self.rows = 0
        self.first, self.first_length = 0, 0
        self.last, self.last_length = 0, 0
        self.longest, self.longest_start, self.longest_value = 0, 0, 0
        self.changes = 0

    def add(self, bits: NDArray[np.int64], first_row: int) -> None:
        """`bits` (rows,): what is equal has equal ones."""
        from streamd.screening import kernels  # numba costs more to import than most commands take

        if not len(bits):
            return
        changes, first_length, last_length, longest, start = kernels.runs(bits).tolist()
        part = Runs()
        part.rows, part.changes = len(bits), changes
        part.first, part.first_length = int(bits[0]), first_length
        part.last, part.last_length = int(bits[-1]), last_length
        part.longest, part.longest_start, part.longest_value = longest, first_row + start, int(bits[start])
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
