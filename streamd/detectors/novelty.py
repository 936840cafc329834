"""Categories that the reference lacks: which they are, and whether they are new or were only rare."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil, exp, lgamma
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.base import Remembers
from streamd.detectors.wording import NAMED_MAX, short

KEPT_MAX = 32  # of a column, the latest; those that come again and again are among them
NAME_CHARACTERS_MAX = 40  # in a sentence


class Novelty(Remembers):
    """Of each column the latest categories that the reference lacks, and where they began to be there.

        rows     . . . n n . | . n . . m m | . . . . . .      `|` every `block`: n was there twice, m once
                       └ begins  └ begins

    A visit is counted where the category *begins* to be there, and once in a block of rows: a block is as long as the
    column's memory, so that visits in two of them say twice as much as in one. A value that stays is one visit.

    Args:
        columns: how many.
    """

    remembered: ClassVar[tuple[str, ...]] = ("latest", "since")

    def __init__(self, columns: int) -> None:
        self.latest: list[list[list[Any]]] = [[] for _ in range(columns)]
        """Of each column [category, last row that had it, rows since `since` where it began]."""
        self.since = 0

    def note(self, column: int, places: NDArray[np.intp], codes: NDArray[Any], names: Sequence[str], row: int) -> None:
        """Take in a part of a batch: `places` in it, rising, and there the codes of categories that the reference
        lacks. `row`: the stream's number of the part's first row."""
        edges = np.flatnonzero((np.diff(places) != 1) | (np.diff(codes) != 0)) + 1
        latest = {category: (last, begins) for category, last, begins in self.latest[column]}
        for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(places)], strict=True):
            category = short(names[codes[start]])
            last, begins = latest.pop(category, (-2, []))
            begin = row + int(places[start])
            if last != begin - 1:
                begins.append(begin)
            latest[category] = row + int(places[end - 1]), begins
        kept = [[category, last, begins] for category, (last, begins) in latest.items()]
        self.latest[column] = kept[-KEPT_MAX:]

    def visits(self, column: int, block: int) -> int:
        """Blocks in which one category began to be there, of the one that has most."""
        each = [len({(begin - self.since) // block for begin in begins}) for _, _, begins in self.latest[column]]
        return max(each, default=0)

    def candidates(self, column: int, visits: int, rows: int) -> int:
        """How many categories that the reference lacks may have come so often in so many rows, at most."""
        known = len(self.latest[column])
        return known if known < KEPT_MAX else max(rows // max(visits, 1), known)

    def begin_anew(self, row: int) -> None:
        """Count from this row on."""
        self.since = row
        self.latest = [[[category, last, []] for category, last, _ in each] for each in self.latest]

    def take_over(self, before: Novelty, places: Mapping[int, int]) -> None:
        """Those columns of another: place here → place there."""
        self.since = before.since
        self.latest = [before.latest[places[i]] if i in places else [] for i in range(len(self.latest))]

    def words(self, names: Collection[str], oldest_row: int) -> str:
        """Those that came at `oldest_row` or later, as the end of a sentence."""
        found = [
            f'{name} "{category[:NAME_CHARACTERS_MAX]}"'
            for name, latest in zip(names, self.latest, strict=True)
            for category, row, _ in latest[-NAMED_MAX:]
            if row >= oldest_row
        ]
        if not found:
            return ""
        more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
        return f"; never seen before: {', '.join(found[:NAMED_MAX])}{more}"


def p_value(visits: int, rows: int, reference_rows: int, memory_rows: float, categories: int) -> float:
    """The chance that any category comes in so many blocks of a window and in none of the reference.

    Where blocks are alike, one that has been in `visits` of all blocks is as likely in any of them, so that all
    of them are the window's with probability C(w, visits) / C(w + r, visits); whatever its frequency. There are no
    more `categories` for which that could happen (Bonferroni). Nothing of the distribution is assumed.

    Args:
        visits: blocks of the window in which it began to be there; 0 gives 1.
        rows: of the window; and of the reference.
        memory_rows: of a block, the autocorrelation time.

    >>> round(p_value(1, 1000, 2000, 1.0, categories=1), 3), round(p_value(2, 2, 3, 1.0, categories=1), 3)
    (0.333, 0.1)
    """
    if visits == 0:
        return 1.0
    block = ceil(memory_rows)
    window = ceil(rows / block)
    both = window + int(reference_rows // block)
    assert visits <= window, (visits, window)
    log = lgamma(window + 1) - lgamma(window - visits + 1) + lgamma(both - visits + 1) - lgamma(both + 1)
    return min(categories * exp(log), 1.0)
