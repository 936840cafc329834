"""A sliding window of rows, and the rows at which it is judged, whatever the batches that bring them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.base import Remembers, State
from streamd.model import Window
from streamd.table import FloatArray


class SlidingWindow(Remembers):
    """The last `window_rows` rows, each as one small whole number a column.

        ring (columns, window)     d e f g a b c        seen = 7 + 4, window = 7
                                           ▲            the next row overwrites the oldest, at seen % window

    Judged when it is full for the first time, then every `stride_rows`. Batches are cut there, so that the
    verdicts depend on the rows alone. Which windows will be judged is known when they begin, at the rows 0,
    stride, 2 · stride …: of those rows alone the records' offsets are kept.

    Args:
        columns: how many.
        window_rows: rows of the window.
        stride_rows: rows between two judgements; None: the window.
        dtype: of the ring.
        phased: keep of each row its phase of the season.
    """

    remembered: ClassVar[tuple[str, ...]] = ("ring", "first_offsets", "seen")

    def __init__(
        self, columns: int, window_rows: int, stride_rows: int | None, dtype: np.dtype[Any], *, phased: bool = False
    ) -> None:
        self.window_rows = window_rows
        self.stride_rows = stride_rows or window_rows
        self.ring: NDArray[Any] = np.zeros((columns, window_rows), dtype)
        # Of the records that windows begin in: of all that have begun and are not judged yet.
        self.first_offsets = np.zeros(-(-window_rows // self.stride_rows), np.int64)
        self.seen = 0  # rows so far
        self.phases = np.zeros(window_rows if phased else 0, np.uint8)  # as the ring; phase 0 is 1, and 0 is none

    def snapshot(self) -> State:
        return super().snapshot() | ({"phases": self.phases.copy()} if len(self.phases) else {})

    def restore(self, state: State) -> None:
        super().restore(state)
        if len(self.phases):
            self.phases = state["phases"].copy()

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.phases.nbytes

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

    def carry(self, before: SlidingWindow, places: Mapping[int, int]) -> None:
        """Take over columns from another window: place here → place there. The others have been missing so far.

        What is missing is the largest number of the ring's type.
        """
        missing, missing_before = (np.iinfo(window.ring.dtype).max for window in (self, before))
        self.ring[:] = missing
        for place, former in places.items():
            self.ring[place] = np.where(before.ring[former] == missing_before, missing, before.ring[former])
        self.first_offsets, self.seen = before.first_offsets.copy(), before.seen
        self.phases = before.phases.copy()

    def cuts(self, rows: int) -> list[tuple[int, int, bool]]:
        """Parts of a batch of `rows`: first row, row after the last, and whether a judgement is due then."""
        past = self.seen - self.window_rows
        due = -past if past < 0 else self.stride_rows - past % self.stride_rows
        edges = [0, *range(due, rows, self.stride_rows), rows]
        return [(start, stop, stop >= due and (stop - due) % self.stride_rows == 0) for start, stop in pairwise(edges)]

    def claim(self, start: int, stop: int, offset: int, phase: int | None = None) -> tuple[int, int]:
        """Make room for the rows `start` to `stop` of the record at `offset`, which is in that phase of the season.

        Returns:
            the first row that still counts (a part longer than the window overwrites itself), and its place in
            the ring; the rows after it follow, around the ring's end.
        """
        begun = -(-self.seen // self.stride_rows)
        self.seen += stop - start
        beginning = -(-self.seen // self.stride_rows) - begun
        if beginning:
            self.first_offsets[np.arange(begun, begun + beginning) % len(self.first_offsets)] = offset
        first = max(start, stop - self.window_rows)
        if len(self.phases):
            places = (self.seen - 1 - np.arange(stop - first)) % self.window_rows
            self.phases[places] = 0 if phase is None else phase + 1
        return first, (self.seen - (stop - first)) % self.window_rows

    def phase_shares(self, phases: int) -> FloatArray:
        """(phases,) of the window's rows that have one, how large a share is in each; zeros where none has."""
        counts = np.bincount(self.phases, minlength=phases + 1)[1:]
        return np.asarray(counts / max(counts.sum(), 1))

    def coordinates(self, offset: int) -> Window:
        """The records that a window rests on which is judged now, in the record at `offset`."""
        judged, left = divmod(self.seen - self.window_rows, self.stride_rows)
        assert left == 0, self.seen
        return Window(int(self.first_offsets[judged % len(self.first_offsets)]), offset, self.window_rows)


def kept_places(names: Sequence[str], before: Sequence[str], columns: Collection[str]) -> dict[int, int]:
    """Where the columns that both have, less `columns`, are among `names`, and where they are among `before`."""
    former = {name: place for place, name in enumerate(before)}
    return {i: former[name] for i, name in enumerate(names) if name in former and name not in columns}
