"""Columns over the axis: moving mean ± factor · deviation, stretches that differ from all the rest, changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.numbers import NumericSummary
from streamd.screening.texts import TextSummary
from streamd.screening.wording import bucket, duration, listed, number, percent, quoted, whole
from streamd.table import FloatArray

WINDOW_BUCKETS_MIN = 4  # a window of fewer buckets is widened to as many
WINDOW_VALUES_MIN = 10
UNUSUAL = 2.0  # times the factor: a bucket so far out is worth a word
UNUSUAL_SHARE = 0.1  # of the buckets may be outside of the bands before nothing is unusual any more
COARSE = 200  # buckets over which stretches are looked for
STRETCH_MIN, STRETCH_MAX = 2, 0.5  # buckets; share of the axis
STRETCH_NOISE = 6.0  # times the deviation of the bucket means outside of the stretch
STRETCH_EFFECT = 0.5  # deviations of the values themselves
STRETCH_WHOLE = 0.5  # each bucket of it is at least so much of the way from the others
TV_EFFECT, TV_NOISE = 0.3, 4.0  # total variation distance of categories; times the usual bucket's
CATEGORIES_MAX = 100
FEW_ROWS = 20  # a bucket of fewer is left out


class Stretch(NamedTuple):
    """Buckets first to last, both within; how far they are from the others, in units of the others' noise."""

    first: int
    last: int
    apart: float
    noise: float


def moving(facts: Facts, summary: NumericSummary) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """(buckets,) mean − factor·deviation and + of the window before each bucket, and which buckets lie outside.

    The window is that of time; where there is none, or it has fewer than four buckets, the last 4 (of rows: 24).
    """
    axis, factor = facts.axis, facts.options.factor
    buckets = window_buckets(facts)
    n = np.concatenate([[0], np.cumsum(summary.bucket_rows)]).astype(np.float64)
    centre = summary.moments.mean if summary.moments.count else 0.0  # or the squares would swallow small deviations
    means = np.where(summary.bucket_rows > 0, summary.bucket_means - centre, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.concatenate([[0.0], np.cumsum(means * summary.bucket_rows)])
        squares = np.concatenate([[0.0], np.cumsum(summary.bucket_m2 + means**2 * summary.bucket_rows)])
        stop = np.arange(axis.buckets)
        start = np.maximum(stop - buckets, 0)
        count = n[stop] - n[start]
        known = count >= WINDOW_VALUES_MIN
        divisor = np.where(known, count, 1.0)
        mean = (sums[stop] - sums[start]) / divisor
        variance = np.maximum((squares[stop] - squares[start]) / divisor - mean**2, 0.0)
        reach = factor * np.sqrt(variance)
        low = np.where(known, mean - reach, np.nan) + centre
        high = np.where(known, mean + reach, np.nan) + centre
        there = summary.bucket_rows > 0
        tiny = 1e-9 * np.maximum(np.abs(low), np.abs(high))
        outside = there & ((summary.bucket_means < low - tiny) | (summary.bucket_means > high + tiny))
    return low, high, np.flatnonzero(outside)


def window_buckets(facts: Facts) -> int:
    """How many buckets the moving window has."""
    if facts.axis.kind == "rows":
        return 24
    return max(WINDOW_BUCKETS_MIN, round(facts.options.window_seconds / facts.axis.width))


def find(facts: Facts) -> Iterator[Finding]:
    """Stretches that differ, in the order of the rows or over time; with a time, what leaves its moving bands."""
    stretches: dict[tuple[int, int], list[tuple[str, str, float]]] = {}
    for name, summary in facts.numeric():
        if name == facts.options.label and facts.axis.kind == "time":
            continue
        found = _of_numbers(name, facts, summary)
        if found is not None:
            stretches.setdefault(found[0], []).append((name, found[1], found[2]))
        elif facts.axis.kind == "time":
            yield from _unusual(name, facts, summary)
    for name, text in facts.texts():
        found = _of_categories(name, facts, text)
        if found is not None:
            stretches.setdefault(found[0], []).append((name, found[1], found[2]))
    yield from _told(facts, stretches)


def _told(facts: Facts, stretches: dict[tuple[int, int], list[tuple[str, str, float]]]) -> Iterator[Finding]:
    """One finding for all columns that differ in about the same stretch."""
    groups: list[tuple[tuple[int, int], list[tuple[str, str, float]]]] = []
    for place, told in sorted(stretches.items(), key=lambda each: -len(each[1])):
        near = next((g for g in groups if _overlap(g[0], place) > 0.7), None)
        if near is None:
            groups.append((place, list(told)))
        else:
            near[1].extend(told)
    scale = _scale(facts.axis.buckets)
    for (first, last), told in groups:
        told.sort(key=lambda each: -each[2])
        where = bucket(facts.axis, first * scale, min((last + 1) * scale, facts.axis.buckets) - 1)
        names = tuple(name for name, _, _ in told)
        until_end = (last + 1) * scale >= facts.axis.buckets or first == 0
        share = (last + 1 - first) * scale / facts.axis.buckets
        shown = "; ".join(text for _, text, _ in told[:3])
        more = f"; and {len(told) - 3} more columns" if len(told) > 3 else ""
        yield Finding(
            "change_point" if until_end else "odd_stretch", Severity.WARNING, names,
            {
                "first": facts.axis.origin + first * scale * facts.axis.width,
                "last": facts.axis.origin + (last + 1) * scale * facts.axis.width,
                "axis": facts.axis.kind,
                "columns": [{"name": n, "change": t, "size": s} for n, t, s in told],
            },
            f"{where[0].upper()}{where[1:]} ({percent(share)} of the data) "
            f"{listed(names)} differ{'s' if len(names) == 1 else ''} from all other rows: {shown}{more}.",
            "Shuffle the rows before you split them, and find out what these are: another source, another population?"
            if facts.axis.kind == "rows"
            else "Find out what happened then; learn from the rows that are like those to come.",
            weight=share + 0.01 * len(names),
        )  # fmt: skip


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    common = min(one[1], other[1]) - max(one[0], other[0]) + 1
    return max(0, common) / (max(one[1], other[1]) - min(one[0], other[0]) + 1)


def _scale(buckets: int) -> int:
    return max(1, -(-buckets // COARSE))


def _summed(values: FloatArray, buckets: int) -> FloatArray:
    """(buckets, …) added up to COARSE buckets or fewer."""
    return np.add.reduceat(values, np.arange(0, buckets, _scale(buckets)), axis=0)


def _of_numbers(name: str, facts: Facts, summary: NumericSummary) -> tuple[tuple[int, int], str, float] | None:
    rows = _summed(summary.bucket_rows.astype(np.float64), facts.axis.buckets)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = _summed(summary.bucket_means * summary.bucket_rows, facts.axis.buckets)
    kept = np.flatnonzero(rows >= FEW_ROWS)
    deviation = summary.moments.deviation
    if len(kept) < 20 or not deviation > 0 or not np.isfinite(sums).all():
        return None
    means = sums[kept] / rows[kept]
    found = best_stretch(means)
    if found is None or found.apart < STRETCH_NOISE * found.noise or found.apart < STRETCH_EFFECT * deviation:
        return None
    within = slice(found.first, found.last + 1)
    inside = float(means[within].mean())
    outside = float(np.delete(means, np.arange(len(means))[within]).mean())
    if np.abs(means[within] - outside).min() < STRETCH_WHOLE * abs(inside - outside):
        return None  # a few wild values in it, no stretch
    place = int(kept[found.first]), int(kept[found.last])
    text = f"the mean of {name} is {number(inside)} there and {number(outside)} elsewhere"
    return place, text, abs(inside - outside) / deviation


def best_stretch(means: FloatArray) -> Stretch | None:
    """The stretch of (buckets,) whose mean differs most from that of the others, measured by the noise of the others.

    The noise is the deviation of the means within the stretch and outside, each from its own mean: what wanders or
    rises slowly has much of it. All stretches are tried.
    """
    n = len(means)
    upto = np.concatenate([[0.0], np.cumsum(means)])
    squares = np.concatenate([[0.0], np.cumsum((means - means.mean()) ** 2)])
    first, last = np.triu_indices(n)
    length = last - first + 1
    kept = (length >= STRETCH_MIN) & (length <= STRETCH_MAX * n)
    first, last, length = first[kept], last[kept], length[kept]
    total = upto[-1]
    inside = (upto[last + 1] - upto[first]) / length
    outside = (total - (upto[last + 1] - upto[first])) / (n - length)
    apart = np.abs(inside - outside)
    spread = squares[-1] - (inside - outside) ** 2 * length * (n - length) / n  # within both parts together
    noise = np.sqrt(np.maximum(spread, 0.0) / n)
    gain = apart**2 * length * (n - length)
    best = int(np.argmax(gain))
    if not gain[best] > 0:
        return None
    return Stretch(int(first[best]), int(last[best]), float(apart[best]), float(max(noise[best], 1e-12 * apart[best])))


def _of_categories(name: str, facts: Facts, summary: TextSummary) -> tuple[tuple[int, int], str, float] | None:
    if not summary.exact or not 2 <= summary.estimate <= CATEGORIES_MAX or summary.bucket_rows.size < 20:
        return None
    names, counts = summary.counts_over_time()
    scale = _scale(len(counts))
    counts = np.add.reduceat(counts, np.arange(0, len(counts), scale), axis=0)
    rows = counts.sum(axis=1)
    kept = np.flatnonzero(rows >= FEW_ROWS)
    if len(kept) < 20:
        return None
    shares = counts[kept] / rows[kept, None]
    usual = np.median(shares, axis=0)
    apart = 0.5 * np.abs(shares - usual / max(usual.sum(), 1e-12)).sum(axis=1)  # (buckets,) total variation
    found = best_stretch(apart)
    if found is None:
        return None
    within = np.arange(found.first, found.last + 1)
    inside, rest = shares[within].mean(axis=0), np.delete(shares, within, axis=0)
    outside = rest.mean(axis=0)
    distance = 0.5 * float(np.abs(inside - outside).sum())
    noise = 0.5 * float(np.abs(rest - outside).sum(axis=1).mean())
    if distance < TV_EFFECT or distance < TV_NOISE * noise:
        return None
    most = int(np.argmax(np.abs(inside - outside)))
    text = (
        f"{name} is {quoted([names[most]])[0]} in {percent(float(inside[most]))} there and in "
        f"{percent(float(outside[most]))} elsewhere"
    )
    fine = scale * summary.factor / _scale(facts.axis.buckets)  # text buckets may be coarser than those of numbers
    return (int(kept[within[0]] * fine), int((kept[within[-1]] + 1) * fine) - 1), text, distance


def _unusual(name: str, facts: Facts, summary: NumericSummary) -> Iterator[Finding]:
    """Times at which a column leaves the bands of its moving mean by far."""
    low, high, outside = moving(facts, summary)
    there = int(np.count_nonzero((summary.bucket_rows > 0) & ~np.isnan(low)))
    if not len(outside) or len(outside) > UNUSUAL_SHARE * max(there, 10) or summary.different < 10:
        return
    middle, reach = (low + high) / 2, (high - low) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.abs(summary.bucket_means - middle)[outside] / reach[outside]
    far = np.flatnonzero(times >= UNUSUAL)
    if not len(far):
        return
    worst = outside[far[np.argsort(-np.minimum(times[far], 1e9), kind="stable")]]
    at = int(worst[0])
    window = window_buckets(facts) * facts.axis.width
    yield Finding(
        "unusual_times", Severity.INFO, (name,),
        {
            "count": len(far),
            "outside_bands": len(outside),
            "buckets": there,
            "factor": facts.options.factor,
            "window_seconds": window,
            "at": [facts.axis.origin + int(b) * facts.axis.width for b in worst[:20]],
        },
        f"{name} leaves its moving mean ± {number(facts.options.factor)} deviations over {duration(window)} by far "
        f"{whole(len(far))} time{'s' if len(far) > 1 else ''}: farthest {bucket(facts.axis, at)}, when its mean is "
        f"{number(float(summary.bucket_means[at]))} and {number(float(middle[at]))} before.",
        "Find out what happened then, and whether the model shall learn it.", weight=len(far) / max(there, 1),
    )  # fmt: skip
