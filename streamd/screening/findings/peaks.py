"""Two or more peaks, by Hartigan and Hartigan's dip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamd.screening.dip import dip, has_one_peak
from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.wording import number
from streamd.table import FloatArray

POINTS = 200  # at which the distribution function is known: its steps are a quarter of EFFECT
CRITICAL = 0.87  # √n · dip of a uniform column is over it once in 1,000 (simulated: tests/screening/test_dip.py)
EFFECT = 0.02  # a valley that much mass would have to fill: half a percent's noise is not two peaks
ATOM = 0.05  # a value in so many of the rows is told of as a value, and left out here
DISTINCT_MIN = 30
VALUES_MAX = 10_000  # of more, neighbours are taken together


def find(facts: Facts) -> Iterator[Finding]:
    """Columns that are two things mixed."""
    for name, summary in facts.numeric():
        if name == facts.options.label:
            continue
        if summary.quantiles.exact:
            values, counts = summary.quantiles.values, summary.quantiles.times
        else:
            column = facts.sample.numeric[name]
            values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
        kept = counts < ATOM * max(counts.sum(), 1)
        values, counts = values[kept], counts[kept]
        if len(values) < DISTINCT_MIN or counts.sum() < 200:
            continue
        rows = int(counts.sum())
        some = np.arange(0, len(values), -(-len(values) // VALUES_MAX))
        smooth = spread(values[some], np.add.reduceat(counts, some), POINTS)
        if has_one_peak(smooth, max(EFFECT, CRITICAL / np.sqrt(rows))):
            continue
        found = dip(smooth)
        peaks, valley = _peaks(smooth)
        if valley is None:
            continue
        yield Finding(
            "peaks", Severity.INFO, (name,), {"dip": found, "peaks": peaks, "valley": valley, "rows": rows},
            f"{name} has two peaks or more, near {number(peaks[0])} and {number(peaks[1])}, "
            f"with a valley at {number(valley)} (dip {found:.3f}).",
            "See whether two kinds of things are mixed; a column that says which may help.", weight=min(1.0, 4 * found),
        )  # fmt: skip


def spread(values: FloatArray, counts: FloatArray, rows: int) -> FloatArray:
    """(rows,) evenly spaced quantiles, each value spread half-way to its neighbours: whole numbers are smooth, too."""
    middle = (values[1:] + values[:-1]) / 2
    edges = np.concatenate([[values[0] - (middle[0] - values[0])], middle, [values[-1] + (values[-1] - middle[-1])]])
    upto = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    quantiles: FloatArray = np.interp((np.arange(rows) + 0.5) / rows, upto, edges)
    return quantiles


def _peaks(values: FloatArray) -> tuple[list[float], float | None]:
    """Where the two highest peaks are with the deepest valley between them; by a histogram of the middle 98 %."""
    low, high = np.quantile(values, [0.01, 0.99])
    counts, edges = np.histogram(values, 40, (low, high))
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], "same")
    best: tuple[float, int, int, int] | None = None
    for valley in range(1, 39):
        left, right = int(np.argmax(smooth[:valley])), valley + 1 + int(np.argmax(smooth[valley + 1 :]))
        depth = float(min(smooth[left], smooth[right]) - smooth[valley])
        if best is None or depth > best[0]:
            best = depth, left, valley, right
    assert best is not None
    middles = (edges[1:] + edges[:-1]) / 2
    depth, left, valley, right = best
    return [float(middles[left]), float(middles[right])], float(middles[valley]) if depth > 0 else None
