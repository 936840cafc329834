"""A sliding window of rows, and the rows at which it is judged, whatever the batches that bring them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.base import Remembers
from streamd.model import Window


class SlidingWindow(Remembers):
    """The last `window_rows` rows, each as one small whole number a column.

        ring (columns, window)     d e f g a b c        seen = 7 + 4, window = 7
                                           ▲            the next row overwrites the oldest, at seen % window

    Judged when it is full for the first time, then every `stride_rows`. Batches are cut there, so that the
    verdicts depend on the rows alone.

    Args:
        columns: how many.
        window_rows: rows of the window.
        stride_rows: rows between two judgements; None: the window.
        dtype: of the ring.
    """

    remembered: ClassVar[tuple[str, ...]] = ("ring", "offsets", "seen")

    def __init__(self, columns: int, window_rows: int, stride_rows: int | None, dtype: np.dtype[Any]) -> None:
        self.window_rows = window_rows
        self.stride_rows = stride_rows or window_rows
        self.ring: NDArray[Any] = np.zeros((columns, window_rows), dtype)
        self.offsets = np.zeros(window_rows, np.int64)  # of each row's record, in step with the ring
        self.seen = 0  # rows so far

    @property
    def full(self) -> bool:
        return self.seen >= self.window_rows

    @property
    def filled(self) -> NDArray[Any]:
        """(columns, rows) what the ring holds so far, in no order."""
        return self.ring[:, : self.seen]

    @property
    def oldest(self) -> int:
        """Where in the ring the oldest row of a full window is."""
        return self.seen % self.window_rows

    def cuts(self, rows: int) -> list[tuple[int, int, bool]]:
        """Parts of a batch of `rows`: first row, row after the last, and whether a judgement is due then."""
        past = self.seen - self.window_rows
        due = -past if past < 0 else self.stride_rows - past % self.stride_rows
        edges = [0, *range(due, rows, self.stride_rows), rows]
        return [(start, stop, stop >= due and (stop - due) % self.stride_rows == 0) for start, stop in pairwise(edges)]

    def claim(self, start: int, stop: int, offset: int) -> tuple[int, int]:
        """Make room for the rows `start` to `stop` of the record at `offset`.

        Returns:
            the first row that still counts (a part longer than the window overwrites itself), and its place in
            the ring; the rows after it follow, around the ring's end.
        """
        self.seen += stop - start
        first = max(start, stop - self.window_rows)
        place = (self.seen - (stop - first)) % self.window_rows
        end = place + stop - first
        self.offsets[place:end] = offset
        self.offsets[: max(0, end - self.window_rows)] = offset
        return first, place

    def coordinates(self) -> Window:
        """The records that a full window rests on."""
        return Window(int(self.offsets[self.oldest]), int(self.offsets[self.oldest - 1]), self.window_rows)
