"""The loops of extreme value theory, compiled by numba: the generalised Pareto fit, and SPOT row by row.

Signatures are declared, so that importing this module is all the compiling there is. None uses fastmath: equal
input gives equal output, bit for bit, however the rows were cut into batches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from streamd.compiling import compiled

GRID = 24  # points on each side of zero from which the likelihood's summit is found
CLIMBS = 36  # golden sections: 0.618³⁶ is 3e-8 of the bracket, and the likelihood is flat at its summit
HALVINGS = 50
REFIT_SHARE = 4  # a new fit when a quarter of the peaks are new
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

# Places in the arrays that the state of SPOT is.
ROWS, PEAKS, REFIT_AT, LIVED = 0, 1, 2, 3  # counts: rows and peaks learned on line, the peak of the next fit, all rows
LEVEL, CUT, THRESHOLD, SHAPE, SCALE, SUM = 0, 1, 2, 3, 4, 5  # tail: LEVEL and CUT never change
FIRST_ROWS, FIRST_PEAKS = 0, 1  # first: of the calibration

_READ = types.Array(types.float64, 1, "C", readonly=True)
_COUNTS = types.Array(types.int64, 1, "C", readonly=True)
_PAIR: Any = types.UniTuple(types.float64, 2)  # type: ignore[no-untyped-call]  # numba is typed in part


@compiled([types.float64(types.float64, types.float64, types.int64, types.int64)])
def _steepness(logs: float, log_cut: float, count: int, truncated: int) -> float:
    """The k = 1 / |shape| that is best for one θ: where count / k = logs + truncated·L / (exp(L·k) − 1), L = log_cut.

    The difference of the two sides falls all the way from +∞, as fewer rows are truncated than there are.
    """
    high = count / logs  # without truncation it is the answer, and truncation only makes k smaller
    if truncated == 0:
        return high
    low = 0.0
    for _ in range(HALVINGS):
        k = 0.5 * (low + high)
        if count / k > logs + truncated * log_cut / math.expm1(log_cut * k):
            low = k
        else:
            high = k
    return 0.5 * (low + high)


@compiled([_PAIR(_READ, types.int64, types.float64, types.float64)])
def _likelihood(excesses: Any, truncated: int, cut: float, theta: float) -> Any:
    """The log-likelihood at θ with the best shape for it, and that shape: Grimshaw's reduction to one unknown.

    −∞ where the shape is not above −1: there the likelihood has no bound and its maximum means nothing.
    """
    count = len(excesses)
    logs = 0.0
    for i in range(count):
        logs += math.log1p(theta * excesses[i])
    log_cut = abs(math.log1p(theta * cut)) if truncated > 0 else 0.0
    if logs == 0.0:
        return -math.inf, 0.0
    k = _steepness(abs(logs), log_cut, count, truncated)
    shape = math.copysign(1.0 / k, theta)
    if not shape > -1.0:
        return -math.inf, shape
    found = -count * math.log(shape / theta) - logs - abs(logs) * k
    if truncated > 0:
        found -= truncated * math.log(-math.expm1(-log_cut * k))
    return found, shape


@compiled([types.float64(types.int64, types.float64, types.float64)])
def _candidate(i: int, highest: float, middle: float) -> float:
    """The i-th θ of the grid: rising from −1 / highest through 0 (left out) to a shape of about 13."""
    if i < GRID:  # 1 + θ·highest from 1e-6 to nearly 1
        return -(1.0 - math.pow(10.0, -6.0 + 6.0 * i / GRID)) / highest
    return math.pow(10.0, -3.0 + 7.0 * (i - GRID) / (GRID - 1)) / middle


@compiled([types.float64(_READ, types.int64, types.float64, types.float64, types.float64)])
def _climbed(excesses: Any, truncated: int, cut: float, low: float, high: float) -> float:
    """The summit between `low` and `high`, by golden sections (Kiefer 1953)."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left = _likelihood(excesses, truncated, cut, left)[0]
    at_right = _likelihood(excesses, truncated, cut, right)[0]
    for _ in range(CLIMBS):
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = _likelihood(excesses, truncated, cut, left)[0]
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = _likelihood(excesses, truncated, cut, right)[0]
    return 0.5 * (low + high)


@compiled([_PAIR(_READ)])
def moments(excesses: Any) -> Any:
    """Shape and scale by the method of moments (Hosking and Wallis 1987), the support reaching the highest peak."""
    count = len(excesses)
    highest, mean, variance = 0.0, 0.0, 0.0
    for i in range(count):
        highest = max(highest, excesses[i])
        mean += excesses[i] / count
    for i in range(count):
        variance += (excesses[i] - mean) ** 2 / count
    if not variance > 1e-18 * mean * mean:
        return 0.0, mean
    ratio = mean * mean / variance
    shape, scale = 0.5 * (1.0 - ratio), 0.5 * mean * (ratio + 1.0)
    return max(shape, -scale / highest), scale


@compiled([_PAIR(_READ, types.int64, types.float64)])
def fit_pareto(excesses: Any, truncated: int, cut: float) -> Any:
    """Shape and scale of the generalised Pareto distribution of `excesses`, (peaks,) positive and finite.

    Maximum likelihood in one unknown, θ = shape / scale (Grimshaw 1993, Technometrics 35): a grid finds the summit
    and golden sections climb it. NaN where there is none inside shape > −1.

    Args:
        truncated: how many of them could not have been over `cut`: they count by their density below it.
    """
    highest = cut if truncated > 0 else 0.0
    for i in range(len(excesses)):
        highest = max(highest, excesses[i])
    middle = np.median(excesses)
    best, at = -math.inf, -1
    below = -math.inf
    here = _likelihood(excesses, truncated, cut, _candidate(0, highest, middle))[0]
    for i in range(2 * GRID - 1):
        above = _likelihood(excesses, truncated, cut, _candidate(i + 1, highest, middle))[0]
        if here > best and here >= below and here >= above and below > -math.inf:
            best, at = here, i
        below, here = here, above
    if at < 0:
        return math.nan, math.nan
    theta = _climbed(excesses, truncated, cut, _candidate(at - 1, highest, middle), _candidate(at + 1, highest, middle))
    shape = _likelihood(excesses, truncated, cut, theta)[1]
    return shape, shape / theta


@compiled([types.float64(types.float64, types.float64, types.float64, types.float64)])
def tail_quantile(level: float, shape: float, scale: float, ratio: float) -> float:
    """The value that a row exceeds with probability `ratio` times that of exceeding `level` (Siffer et al., eq. 1)."""
    if shape == 0.0:
        return level - scale * math.log(ratio)
    return level + scale * math.expm1(-shape * math.log(ratio)) / shape


@compiled([types.float64(types.float64, types.float64, types.float64)])
def tail_survival(excess: float, shape: float, scale: float) -> float:
    """The probability that a peak is over `excess`."""
    if shape == 0.0:
        return math.exp(-excess / scale)
    inside = 1.0 + shape * excess / scale
    return inside ** (-1.0 / shape) if inside > 0.0 else 0.0


@compiled([types.void(types.float64, _READ, _COUNTS, _COUNTS, types.float64[::1])])
def _refit(rate: float, peaks: Any, first: Any, counts: Any, tail: Any) -> None:
    """A new tail from the peaks of the calibration, and from those on line, which are below the cut."""
    shape, scale = fit_pareto(peaks, len(peaks) - first[FIRST_PEAKS], tail[CUT])
    if not scale > 0.0:
        return  # as it was: a fit that has no summit says nothing
    # Of the rows at or below the cut `share` are peaks; with the peaks over it, which are not counted, more.
    share, below = counts[PEAKS] / counts[ROWS], 1.0 - tail_survival(tail[CUT], shape, scale)
    peak_share = share / (share + (1.0 - share) * below)
    weighted = first[FIRST_PEAKS] + peak_share * counts[ROWS]
    ratio = rate * (first[FIRST_ROWS] + counts[ROWS]) / weighted
    tail[SHAPE], tail[SCALE] = shape, scale
    tail[THRESHOLD] = max(tail_quantile(tail[LEVEL], shape, scale, min(ratio, 1.0)), tail[LEVEL] + tail[CUT])


@compiled(
    [
        types.void(
            _READ,
            types.float64,
            _COUNTS,
            types.float64[::1],
            types.float64[::1],
            types.int64[::1],
            types.float64[::1],
            types.boolean[::1],
            types.float64[::1],
        )
    ]
)
def spot(
    scores: Any, rate: float, first: Any, peaks: Any, past: Any, counts: Any, tail: Any, alarms: Any, thresholds: Any
) -> None:
    """Judge each score, then learn from it unless it alarmed.

    Args:
        scores: (rows,) NaN is neither judged nor learned.
        rate: the false alarms a row that are wanted.
        first: rows and peaks of the calibration.
        peaks: the excesses of the calibration, then a ring of the last ones on line.
        past: ring of the last scores that did not alarm, whose mean is taken off; of length 0 nothing is.
        counts, tail: see the places above. Changed.
        alarms, thresholds: (rows,) written: whether the row alarmed, and what it would have had to exceed.
    """
    kept, depth = first[FIRST_PEAKS], len(past)
    capacity = len(peaks) - kept
    for i in range(len(scores)):
        score = scores[i]
        mean = tail[SUM] / depth if depth > 0 else 0.0
        thresholds[i] = tail[THRESHOLD] + mean
        alarms[i] = score > thresholds[i]
        if alarms[i] or not math.isfinite(score):
            continue
        if depth > 0:
            at = counts[LIVED] % depth
            tail[SUM] += score - past[at]
            past[at] = score
            if at == depth - 1:  # once a round the sum is made anew: what is added and taken off leaves dust
                tail[SUM] = 0.0
                for j in range(depth):
                    tail[SUM] += past[j]
        counts[LIVED] += 1
        excess = score - mean - tail[LEVEL]
        if excess > tail[CUT]:
            continue
        counts[ROWS] += 1
        if excess > 0.0:
            peaks[kept + counts[PEAKS] % capacity] = excess
            counts[PEAKS] += 1
            if counts[PEAKS] >= counts[REFIT_AT]:
                held = kept + min(counts[PEAKS], capacity)
                counts[REFIT_AT] = counts[PEAKS] + max(1, held // REFIT_SHARE)
                _refit(rate, peaks[:held], first, counts, tail)
