"""How sure a tail's threshold is: the profile likelihood of its quantile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamd.fitting.intervals import Interval
from streamd.scorers.tail import Tail
from streamd.table import FloatArray

LIKELIHOOD_DROP = 1.920729410347062  # half the 95 % quantile of χ² with one degree of freedom
_SHAPES = np.concatenate([np.linspace(-0.99, 1.5, 40), np.linspace(1.6, 5.0, 12)])
_DOUBLINGS = 40
_HALVINGS = 40


def tail_interval(tail: Tail, excesses: FloatArray, memory_rows: float) -> Interval:
    """The interval of the threshold that the tail gives: quantiles whose best likelihood is not much lower.

    Coles 2001, An Introduction to Statistical Modeling of Extreme Values, 4.3.3. The share of rows over the level is
    taken as known: it adds little. Rows that depend on their past count for n / τ.

    Args:
        excesses: (peaks,) over the tail's level.
        memory_rows: the scores' autocorrelation time.
    """
    ratio = tail.rate * tail.rows / tail.peaks
    best = tail.threshold - tail.level

    def lacks(excess: float) -> float:
        return float(_profile(excesses, best, ratio) - _profile(excesses, excess, ratio)) / memory_rows

    low = _end(lacks, best, 1 / 1.25)
    high = _end(lacks, best, 1.25)
    return (None if low is None else tail.level + low), (None if high is None else tail.level + high)


def _end(lacks: Callable[[float], float], best: float, step: float) -> float | None:
    """Where, going from `best` by growing factors, the likelihood has dropped far enough; None: nowhere."""
    inside, factor = best, step
    for _ in range(_DOUBLINGS):
        outside = inside * factor
        if lacks(outside) > LIKELIHOOD_DROP:
            break
        inside, factor = outside, factor * (step if step > 1 else 1)
    else:
        return None
    for _ in range(_HALVINGS):
        middle = 0.5 * (inside + outside)
        inside, outside = (inside, middle) if lacks(middle) > LIKELIHOOD_DROP else (middle, outside)
    return 0.5 * (inside + outside)


def _profile(excesses: FloatArray, quantile: float, ratio: float) -> float:
    """The log-likelihood of the best shape among those whose tail has this quantile."""
    shapes = _SHAPES
    for width in (0.1, 0.01):
        found = _likelihoods(excesses, shapes, quantile, ratio)
        shapes = shapes[np.argmax(found)] + np.linspace(-width, width, 21)
    return float(np.max(_likelihoods(excesses, shapes[shapes > -1.0], quantile, ratio)))


def _likelihoods(excesses: FloatArray, shapes: FloatArray, quantile: float, ratio: float) -> FloatArray:
    """(shapes,) log-likelihoods; −∞ where a peak lies beyond the end of the tail."""
    near = np.abs(shapes) < 1e-6
    safe = np.where(near, 1e-6, shapes)
    scales = quantile * safe / np.expm1(-safe * np.log(ratio))
    inside = 1.0 + (safe / scales)[:, None] * excesses  # (shapes, peaks)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(inside).sum(axis=1)
    found = -len(excesses) * np.log(scales) - (1.0 + 1.0 / safe) * logs
    return np.where((inside.min(axis=1) > 0.0) & ~np.isnan(found), found, -np.inf)
