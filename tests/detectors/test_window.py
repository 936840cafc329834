"""The sliding window: against a list of every row that ever came."""

from __future__ import annotations

import numpy as np
import pytest

from streamd.detectors.window import SlidingWindow
from streamd.model import Window

SHAPES = [(10, None), (10, 1), (10, 3), (10, 10), (10, 25), (7, 5), (1, 1)]


def window_of(window_rows: int, stride_rows: int | None) -> SlidingWindow:
    return SlidingWindow(1, window_rows, stride_rows, np.dtype(np.uint16))


@pytest.mark.parametrize(("window_rows", "stride_rows"), SHAPES)
@pytest.mark.parametrize("most_rows", [1, 4, 60])
def test_a_judged_window_names_the_records_of_its_first_and_last_row(
    window_rows: int, stride_rows: int | None, most_rows: int
) -> None:
    rng = np.random.default_rng(window_rows)
    window = window_of(window_rows, stride_rows)
    records: list[int] = []  # of every row
    judged_at = []
    for offset in range(1000, 1150):
        for start, stop, due in window.cuts(int(rng.integers(0, most_rows + 1))):
            window.claim(start, stop, offset)
            records += [offset] * (stop - start)
            if due:
                judged_at.append(len(records))
                assert window.coordinates(offset) == Window(records[-window_rows], records[-1], window_rows)
    assert judged_at == list(range(window_rows, len(records) + 1, stride_rows or window_rows))


def test_a_window_that_does_not_overlap_the_next_remembers_one_offset() -> None:
    assert window_of(1000, None).first_offsets.nbytes == 8
    assert window_of(1000, 300).first_offsets.nbytes == 32
