"""Numbers: outliers, clumps of them, long tails, zeros."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from streamd.screening.facts import Facts
from streamd.screening.findings.content import SENTINELS
from streamd.screening.model import Finding, Severity
from streamd.screening.numbers import NumericSummary
from streamd.screening.passes import Bounds
from streamd.screening.quantiles import Quantiles
from streamd.screening.sketches import Extremes
from streamd.screening.wording import listed, number, percent, rows_of, whole
from streamd.table import FloatArray

BINS = 60
VALUES_MIN = 100  # with fewer nothing is said about the shape
DISTINCT_MIN = 6
SIDE_SHARES = np.array([0.5, 0.8, 0.98, 0.998])  # of one side of the median; of a half-normal, at these deviations:
SIDE_DEVIATIONS = np.array([0.674490, 1.281552, 2.326348, 3.090232])
FINE_ROWS = 10_000  # of one side: the 0.998 quantile rests on 20 values or more
LIGHT = (3.8, 1.95)  # as d(0.98)/d(0.5) and d(0.98)/d(0.8) of a normal, 3.45 and 1.82, with what chance adds
MARGIN = 1.5  # times what the tail is expected to reach
LIGHT_MARGIN = 1.25
DOUBT = 5.0  # of few rows the outer quantiles are vague: of 100 half as much again
FENCES_SHARE = 0.1  # rows outside of them; of normal ones 0.7 %, of Laplace's and log-normal ones 6 to 8 %
SIGMA_SHARE = 0.03  # of rows with |z| > 3: of normal ones 0.27 %, of exponential ones 1.8 %
LONG_TAIL = (4.0, 20.0)  # |skewness|, excess kurtosis; of exponential ones 2 and 6
CLUMP_SHARES = (0.001, 0.2)
CLUMP_ROWS = 5
CLUMP_GAP = 3.0  # times the inter-quartile range with nothing in it
ZEROS_SHARE = 0.5
LONE_DISTINCT_MIN = 30
LONE_ROWS, LONE_SHARE_MAX = 3, 0.2  # of a value at an end
LONE_GAP = 3.0  # times the largest other gap on its side; and one inter-quartile range


def bounds_of(summary: NumericSummary) -> Bounds | None:
    """What the second pass counts; None of a column without any finite value."""
    quantiles = summary.quantiles
    if not quantiles.count:
        return None
    first, third = (float(q) for q in quantiles.at(np.array([0.25, 0.75])))
    reach = 1.5 * (third - first)
    mean, deviation = summary.moments.mean, summary.moments.deviation
    sigma = (mean - 3 * deviation, mean + 3 * deviation) if deviation > 0 else (-math.inf, math.inf)
    return Bounds((first - reach, third + reach), sigma, _limits(quantiles), _edges(quantiles))


def _edges(quantiles: Quantiles) -> FloatArray:
    """(BINS + 1,) of equal steps over the middle 99 %, then out to both ends: the outer bars hold what lies beyond."""
    low, high = (float(q) for q in quantiles.at(np.array([0.005, 0.995])))
    if low == high:
        low, high = quantiles.low, quantiles.high
    if low == high:
        low, high = low - 0.5, high + 0.5
    steps = np.linspace(0.0, 1.0, BINS + 1)
    edges: FloatArray = low * (1 - steps) + high * steps
    return edges


def _limits(quantiles: Quantiles) -> tuple[float, float]:
    """See `tail_limits`; but a value that comes again and again at an end, far from all others, is beyond them: an age
    of 120 in one row of fifty. Taken for a part of the tail, it would make that so long that nothing lies beyond it.
    """
    low, high = -math.inf, math.inf
    if _lone(quantiles, -1):
        high = float(quantiles.values[-2:].mean())
        quantiles = quantiles.without(-1)
    if _lone(quantiles, 0):
        low = float(quantiles.values[:2].mean())
        quantiles = quantiles.without(0)
    fitted = tail_limits(quantiles)
    return max(low, fitted[0]), min(high, fitted[1])


def _lone(quantiles: Quantiles, end: Literal[-1, 0]) -> bool:
    """Whether that end is one value, again and again, far from all others, and no usual word for missing."""
    if not quantiles.exact or len(quantiles.values) < LONE_DISTINCT_MIN or float(quantiles.values[end]) in SENTINELS:
        return False
    if not LONE_ROWS <= quantiles.times[end] <= LONE_SHARE_MAX * quantiles.count:
        return False
    first, third = quantiles.at(np.array([0.25, 0.75])).tolist()
    gaps = np.diff(quantiles.values)
    others = gaps[len(gaps) // 2 : -1] if end == -1 else gaps[1 : len(gaps) // 2]
    return bool(gaps[end] > max(third - first, LONE_GAP * float(others.max())))


def tail_limits(quantiles: Quantiles) -> tuple[float, float]:
    """Beyond these lies what the rest of the column does not explain; ±∞ where too little is known.

    Each side of the median is judged by itself. A light tail is taken to go on as a normal one, any other as a
    log-normal one: the logarithm of the distance from the median rises with the normal quantile by the slope that it
    has between two outer quantiles. The limit is where 1 in 100 such columns would have its most extreme value,
    times 1.5 (1.25 where the tail is light).
    """
    if quantiles.count < VALUES_MIN or (quantiles.exact and len(quantiles.values) < DISTINCT_MIN):
        return -math.inf, math.inf
    median = float(quantiles.at(np.array([0.5]))[0])
    upto = quantiles.share_up_to(median)
    below = quantiles.share_up_to(math.nextafter(median, -math.inf))
    up = quantiles.at(1 - (1 - upto) * (1 - SIDE_SHARES)) - median
    down = median - quantiles.at(below * (1 - SIDE_SHARES))
    return (
        median - _reach(down, below * quantiles.count),
        median + _reach(up, (1 - upto) * quantiles.count),
    )


def _reach(distances: FloatArray, rows: float) -> float:
    """How far a side of so many rows goes, given its distances from the median at SIDE_SHARES."""
    if rows < VALUES_MIN / 2 or distances[0] <= 0:
        return math.inf
    last = NormalDist().inv_cdf(1 - 0.005 / rows)
    unsure = 1 + DOUBT / math.sqrt(rows)
    d50, d80, d98 = distances[:3].tolist()
    if d98 / d50 <= LIGHT[0] and d98 / d80 <= LIGHT[1]:
        return float(unsure * LIGHT_MARGIN * d98 * last / SIDE_DEVIATIONS[2])
    pairs = [(1, 2)] if rows < FINE_ROWS else [(1, 2), (2, 3)]
    reaches = []
    for inner, outer in pairs:
        rise = math.log(float(distances[outer] / distances[inner])) / (SIDE_DEVIATIONS[outer] - SIDE_DEVIATIONS[inner])
        reaches.append(float(distances[outer]) * math.exp(min(rise * (last - SIDE_DEVIATIONS[outer]), 700.0)))
    return unsure * MARGIN * min(reaches)


def find(facts: Facts) -> Iterator[Finding]:
    """Findings about the numeric columns, one after the other."""
    for name, summary in facts.numeric():
        counts = facts.counted.columns.get(name)
        if counts is None or summary.quantiles.count < VALUES_MIN or name == facts.options.label:
            continue
        bounds = facts.bounds[name]
        evidence = {
            "values": summary.quantiles.count,
            "beyond_fences": counts.fences,
            "fences": list(bounds.fences),
            "beyond_3_sigma": counts.sigma,
        }
        clump = _clump(name, facts)
        if clump is not None:
            yield clump
        elif counts.tails:
            yield _outliers(name, facts, summary, evidence)
        elif (tail := _long_tail(name, summary, evidence)) is not None:
            yield tail
        elif summary.different >= 2 * DISTINCT_MIN:
            yield from _many_outside(name, evidence)
        yield from _zeros(name, facts, summary)


def worst(extremes: Extremes, low: float, high: float) -> list[tuple[int, float]]:
    """(row, value) outside of (low, high), the farthest from their middle first."""
    found = [*zip(extremes.low_rows.tolist(), extremes.low_values.tolist(), strict=True)]
    found += zip(extremes.high_rows.tolist(), extremes.high_values.tolist(), strict=True)
    middle = low / 2 + high / 2
    if not math.isfinite(middle):
        middle = high if math.isfinite(high) else low
    return sorted(dict(f for f in found if not low <= f[1] <= high).items(), key=lambda f: -abs(f[1] - middle))


def _outliers(name: str, facts: Facts, summary: NumericSummary, evidence: dict[str, Any]) -> Finding:
    counts, bounds = facts.counted.columns[name], facts.bounds[name]
    rows = worst(summary.extremes, *bounds.tails)
    low, high = bounds.tails
    farthest = [f"{number(value)} in row {whole(row)}" for row, value in rows[:2]]
    inside = [summary.quantiles.share_up_to(limit) for limit in (low, high)]
    usual = summary.quantiles.at(np.interp([0.01, 0.99], [0, 1], inside)).tolist()
    sides = [f"below {number(low)}"] * bool(rows and any(v < low for _, v in rows))
    sides += [f"above {number(high)}"] * any(v > high for _, v in rows)
    return Finding(
        "outliers",
        Severity.WARNING,
        (name,),
        {
            **evidence,
            "count": counts.tails,
            "share": counts.tails / facts.rows,
            "limits": [low, high],
            "worst": [{"row": r, "value": v} for r, v in rows[:20]],
        },
        f"{name}: {rows_of(counts.tails, facts.rows)} far {' or '.join(sides)}, such as {listed(farthest)}; "
        f"98 % of the others lie between {number(usual[0])} and {number(usual[1])}.",
        "Look at these rows (--split sets them apart): mend what is wrong, clip or leave out what cannot be.",
        weight=min(1.0, counts.tails / facts.rows + 0.01),
    )


def _many_outside(name: str, evidence: dict[str, Any]) -> Iterator[Finding]:
    fences, sigma = evidence["beyond_fences"] / evidence["values"], evidence["beyond_3_sigma"] / evidence["values"]
    if fences <= FENCES_SHARE and sigma <= SIGMA_SHARE:
        return
    low, high = evidence["fences"]
    yield Finding(
        "outside_fences",
        Severity.INFO,
        (name,),
        {**evidence, "share": fences},
        f"{name}: {percent(fences)} of the values lie outside {number(low)} to {number(high)} (1.5 times the "
        f"inter-quartile range), {percent(sigma)} have |z| > 3; of normal values 0.7 % and 0.3 % do.",
        "Scale by quantiles or by the median, not by mean and deviation.",
        weight=fences,
    )


def _long_tail(name: str, summary: NumericSummary, evidence: dict[str, Any]) -> Finding | None:
    skewness, kurtosis = summary.moments.skewness, summary.moments.excess_kurtosis
    if not (abs(skewness) > LONG_TAIL[0] or kurtosis > LONG_TAIL[1]) or summary.different < DISTINCT_MIN:
        return None
    index = tail_index(summary)
    one_sided = abs(skewness) > 1
    what = f"a long {'right' if skewness > 0 else 'left'} tail" if one_sided else "long tails on both sides"
    positive = summary.quantiles.low > 0
    return Finding(
        "long_tail",
        Severity.INFO,
        (name,),
        {**evidence, "skewness": skewness, "excess_kurtosis": kurtosis, "tail_index": _or_none(index)},
        f"{name} has {what}: skewness {skewness:.2g}, excess kurtosis {kurtosis:.2g}; "
        f"{percent(evidence['beyond_fences'] / evidence['values'])} of the values lie outside the IQR fences, "
        f"{percent(evidence['beyond_3_sigma'] / evidence['values'])} have |z| > 3.",
        f"Take {'its logarithm' if positive else 'its quantiles'} before a model that minds scale (linear, network).",
        weight=min(1.0, abs(skewness) / 100),
    )


def tail_index(summary: NumericSummary) -> float:
    """Hill's estimate (1975) of the heavier side's extremes, measured from the median; NaN: too few."""
    median = float(summary.quantiles.at(np.array([0.5]))[0])
    found = []
    for values in (summary.extremes.high_values - median, median - summary.extremes.low_values):
        values = values[: max(2, min(len(values), summary.quantiles.count // 20))]
        if len(values) >= 10 and values[-1] > 0:
            logs = np.log(values[:-1] / values[-1])
            found.append(1.0 / logs.mean() if logs.mean() > 0 else math.inf)
    return float(min(found, default=math.nan))


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _clump(name: str, facts: Facts) -> Finding | None:
    """A group of values with nothing between it and the rest."""
    values = facts.sample.numeric[name]
    ordered = np.sort(values[np.isfinite(values)])
    n = len(ordered)
    if n < VALUES_MIN or ordered[0] == ordered[-1]:
        return None
    spread = float(ordered[int(0.75 * (n - 1))] - ordered[int(0.25 * (n - 1))])
    gaps = np.diff(ordered)
    least = max(CLUMP_ROWS, int(CLUMP_SHARES[0] * n))
    most = int(CLUMP_SHARES[1] * n)
    places = np.arange(1, n)  # how many values lie below each gap
    side = np.minimum(places, n - places)
    if not spread > 0:
        return None
    for place in np.flatnonzero((gaps > CLUMP_GAP * spread) & (side >= least) & (side <= most)).tolist():
        below = place + 1 <= n // 2
        group = ordered[: place + 1] if below else ordered[place + 1 :]
        if len(np.unique(group)) < 3:
            continue  # one value alone is for `content` to say
        if group[-1] - group[0] > gaps[place] / 2:
            continue  # a tail that thins out
        share = len(group) / n
        return Finding(
            "clump",
            Severity.WARNING,
            (name,),
            {"share": share, "from": float(group[0]), "to": float(group[-1]), "gap": float(gaps[place])},
            f"{name}: about {percent(share)} of the values form a clump between {number(group[0])} and "
            f"{number(group[-1])}, {number(float(gaps[place]) / spread)} inter-quartile ranges "
            f"{'below' if below else 'above'} all others.",
            "Find out where these rows come from: another unit, another sensor, another kind of thing?",
            weight=share,
        )
    return None


def _zeros(name: str, facts: Facts, summary: NumericSummary) -> Iterator[Finding]:
    values = summary.quantiles.count
    share = summary.zeros / values
    if share < ZEROS_SHARE or summary.different < 10 or share > 0.99:
        return
    yield Finding(
        "zeros",
        Severity.INFO,
        (name,),
        {"count": summary.zeros, "share": share},
        f"{name} is 0 in {rows_of(summary.zeros, facts.rows)}, and has {whole(summary.different - 1)} other values.",
        "If 0 stands for nothing measured, make it missing; else give the model a column that says zero or not.",
        weight=share,
    )
