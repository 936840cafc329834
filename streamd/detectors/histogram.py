"""A column's reference and its live window as bars, for people to look at. Nothing is judged by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray

BARS = 24  # of a numeric column, and one more at either end for what lies outside
CATEGORIES_MAX = 12  # bars of a categorical column: more cannot be read
OUTSIDE = 0.005  # share of the reference beyond either end: one wild value must not squeeze all others into a bar
_LABEL_CHARACTERS_MAX = 40


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Shares of the reference's and of the window's values.

    Attributes:
        labels: of the bars; empty where `edges` say where they are.
        edges: (bars − 1,) rising: the first bar is below all of them, the last above.
        reference, window: (bars,) shares; they sum to 1 where there are rows, else they are 0.
        reference_rows, window_rows: values that were counted.
    """

    column: str
    labels: tuple[str, ...]
    edges: FloatArray
    reference: FloatArray
    window: FloatArray
    reference_rows: int
    window_rows: int


@runtime_checkable
class Pictured(Protocol):
    """A detector that compares columns with a reference and can show both."""

    def histogram(self, column: str) -> Histogram | None:
        """The column as it is now; None where it is not compared. Changes nothing."""


def of_numbers(
    column: str, distinct: FloatArray, rises: NDArray[Any], bins: NDArray[Any], missing: int
) -> Histogram | None:
    """Of a numeric column: what `kernels.push` made of its window.

    A window keeps bins, not values, so a value between two neighbours of the reference is drawn half-way between
    them, and one beyond the reference's ends in the open bar.

    Args:
        distinct: (q,) the reference's values, rising.
        rises: (q,) how many of its rows have each.
        bins: (rows,) of the window, 0 to 2q.
        missing: the bin of a missing value.

    >>> shown = of_numbers("x", np.array([1.0, 2.0]), np.array([3, 1]), np.array([1, 3, 3, 4]), 99)
    >>> shown.labels, shown.reference.tolist(), shown.window.tolist()
    (('1', '2', 'other values'), [0.75, 0.25, 0.0], [0.25, 0.5, 0.25])
    """
    q = len(distinct)
    present = bins[bins != missing].astype(np.intp)
    if q == 0:
        return None
    if q <= BARS:  # few values: a bar for each says more than equal steps
        counted = np.bincount(present, minlength=2 * q + 1)
        labels = (*(f"{value:.6g}" for value in distinct.tolist()), "other values")
        return _shown(column, labels, _NO_EDGES, np.append(rises, 0), np.append(counted[1::2], counted[::2].sum()))
    edges = _edges(distinct, rises)
    if edges is None:
        return None
    places = np.empty(2 * q + 1)
    places[0], places[-1] = -np.inf, np.inf
    places[1::2] = distinct
    places[2:-1:2] = distinct[:-1] / 2 + distinct[1:] / 2  # halved first: the sum of two large ones is infinite
    bars = np.searchsorted(edges, places, side="right")
    bars[places == edges[-1]] = BARS  # the last edge belongs to the bar before it
    reference = np.bincount(bars[1::2], rises, BARS + 2)
    return _shown(column, (), edges, reference, np.bincount(bars[present], minlength=BARS + 2))


def of_categories(
    column: str, names: Sequence[str], reference: NDArray[np.int64], window: NDArray[np.int64]
) -> Histogram:
    """Of a categorical column: its largest categories, the rest together, and what the reference never had.

    Args:
        names: q categories.
        reference, window: (q + 1,) rows of each; the last is for what the reference lacks.
    """
    shares = reference[:-1] / max(reference.sum(), 1) + window[:-1] / max(window.sum(), 1)
    largest = np.argsort(-shares, kind="stable")
    shown, rest = largest[:CATEGORIES_MAX], largest[CATEGORIES_MAX:]
    labels = [names[i][:_LABEL_CHARACTERS_MAX] for i in shown.tolist()]
    counts = [[part[shown]] for part in (reference, window)]
    if len(rest):
        labels.append(f"{len(rest)} others")
        for count, part in zip(counts, (reference, window), strict=True):
            count.append(part[rest].sum(keepdims=True))
    labels.append("never seen before")
    for count, part in zip(counts, (reference, window), strict=True):
        count.append(part[-1:])
    return _shown(column, tuple(labels), _NO_EDGES, np.concatenate(counts[0]), np.concatenate(counts[1]))


_NO_EDGES: FloatArray = np.empty(0)


def _edges(distinct: FloatArray, rises: NDArray[Any]) -> FloatArray | None:
    """(BARS + 1,) equal steps over the middle of the reference; None where it has no extent."""
    finite = np.isfinite(distinct)
    values, risen = distinct[finite], np.cumsum(rises[finite], dtype=np.float64)
    if len(values) < 2:
        return None
    low, high = values[np.searchsorted(risen, [OUTSIDE * risen[-1], (1 - OUTSIDE) * risen[-1]])].tolist()
    if low == high:  # nearly all rows have one value
        low, high = float(values[0]), float(values[-1])
    steps = np.linspace(0.0, 1.0, BARS + 1)
    edges: FloatArray = (
        low * (1 - steps) + high * steps
    )  # not low + (high − low)·steps, whose difference may be infinite
    return edges


def _shown(
    column: str, labels: tuple[str, ...], edges: FloatArray, reference: NDArray[Any], window: NDArray[Any]
) -> Histogram:
    rows, window_rows = int(reference.sum()), int(window.sum())
    return Histogram(column, labels, edges, reference / max(rows, 1), window / max(window_rows, 1), rows, window_rows)
