"""What the page's script draws, as JSON: short, since a page of a thousand columns must stay small."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streamd.screening.model import Axis, Column, Numbers, Screening, Series
from streamd.table import FloatArray

POINTS_MAX = 140  # of a series: a picture is not wider
CATEGORIES_MAX = 12
OUTLIERS_MAX = 40  # dots of a box plot
NAME_CHARACTERS_MAX = 200
_VALUE_CHARACTERS_MAX = 60
BYTES_MAX = 7_000_000  # of all columns; beyond it those that come later have no series and no dots
NUMBERS = (  # as page.js reads them
    "minimum", "first_quartile", "median", "third_quartile", "maximum", "mean", "deviation", "skewness",
    "excess_kurtosis", "tail_index", "zeros", "negative", "nonfinite", "beyond_fences", "beyond_3_sigma",
    "low_fence", "high_fence",
)  # fmt: skip


def page_data(screening: Screening) -> bytes:
    """JSON that may stand in a script element: it holds no `<`."""
    order = _worst_first(screening)
    told: list[bytes] = [b""] * len(order)
    used = 0
    for place in order:
        column = screening.columns[place]
        whole = orjson.dumps(_column(column, screening.axis, _outliers(column, screening)))
        if used + len(whole) > BYTES_MAX:
            whole = orjson.dumps(_column(column, screening.axis, (), short=True))
        told[place] = whole
        used += len(whole)
    head = orjson.dumps({"rows": screening.rows, "axis": _axis(screening.axis)})
    return (head[:-1] + b',"columns":[' + b",".join(told) + b"]}").replace(b"<", b"\\u003c")


def _worst_first(screening: Screening) -> list[int]:
    """The columns' places, those of the gravest findings first: they are drawn whatever happens."""
    gravest: dict[str, int] = {}
    for finding in screening.findings:
        for name in finding.columns:
            gravest[name] = max(gravest.get(name, 0), int(finding.severity))
    return sorted(range(len(screening.columns)), key=lambda place: -gravest.get(screening.columns[place].name, 0))


def _column(column: Column, axis: Axis | None, outliers: tuple[float, ...], short: bool = False) -> Any:
    told: dict[str, Any] = {
        "name": column.name[:NAME_CHARACTERS_MAX],
        "type": column.type,
        "stored": _stored(column.stored)[:_VALUE_CHARACTERS_MAX],
        "missing": column.missing,
        "distinct": column.distinct,
        "exact": column.distinct_exact,
    }
    if column.categories:
        shown = column.categories[:CATEGORIES_MAX]
        told["categories"] = [[value[:_VALUE_CHARACTERS_MAX], rows] for value, rows in shown]
    digits = 12 if column.type == "time" else 6  # epoch seconds: a day of the year 2026 has six digits before it
    if column.numbers is not None:
        told |= _numbers(column.numbers, digits)
    if short:
        return told | {"shortened": column.series is not None and column.type != "time"}
    if column.numbers is not None:
        told["outliers"] = outliers
        told["worst"] = [[row, _rounded(value, digits)] for row, value in column.numbers.worst[:10]]
    if column.series is not None and axis is not None and axis.buckets > 1 and column.type != "time":
        told["series"] = _series(column.series, axis)
    return told


def _stored(arrow: str) -> str:
    """`dictionary<values=string, indices=int8, ordered=0>` is text for whoever looks at the column."""
    return arrow.removeprefix("dictionary<values=").partition(",")[0] if arrow.startswith("dictionary<") else arrow


def _numbers(numbers: Numbers, digits: int) -> dict[str, Any]:
    """`numbers` in the order of NUMBERS, without their names: they would be most of it."""
    figures = [*(getattr(numbers, name) for name in NUMBERS[:-2]), *numbers.fences]
    told: dict[str, Any] = {"numbers": [_rounded(figure, digits) for figure in figures]}
    edges = numbers.histogram.edges
    if len(edges) > 1 and np.isfinite(edges).all():
        low, high = (_rounded(float(edge), digits + 1) for edge in (edges[0], edges[-1]))
        told["histogram"] = {"low": low, "high": high, "counts": numbers.histogram.counts.tolist()}
    return told


def _outliers(column: Column, screening: Screening) -> tuple[float, ...]:
    """Values beyond the fences to mark: the most extreme, and some of those that the sample holds."""
    if column.numbers is None:
        return ()
    low, high = column.numbers.fences
    found = [value for _, value in column.numbers.worst]
    sampled = screening.sample.numeric.get(column.name)
    if sampled is not None:
        found += sampled[(sampled < low) | (sampled > high)][:OUTLIERS_MAX].tolist()
    beyond = dict.fromkeys(_rounded(v, 5) for v in found if math.isfinite(v) and not low <= v <= high)
    return tuple(list(beyond)[:OUTLIERS_MAX])  # type: ignore[arg-type]  # they are finite


# --- Series ---------------------------------------------------------------------------------------


def _axis(axis: Axis | None) -> dict[str, Any] | None:
    if axis is None or axis.buckets < 2:
        return None
    return {"kind": axis.kind, "origin": axis.origin, "width": axis.width, "buckets": axis.buckets}


def _series(series: Series, axis: Axis) -> dict[str, Any]:
    """At most POINTS_MAX points: `step` buckets of the axis are one."""
    if len(series.distinct):
        together = -(-len(series.distinct) // POINTS_MAX)
        distinct = np.fmax.reduceat(series.distinct, np.arange(0, len(series.distinct), together))
        outside = sorted({bucket // together for bucket in series.outside})
        return {"step": together * axis.text_factor, "outside": outside, "distinct": _listed(distinct)}
    together = -(-len(series.mean) // POINTS_MAX)
    places = np.arange(0, len(series.mean), together)
    mean = _mean(series.mean, series.rows, places)
    for bucket in reversed(series.outside):  # what lies outside must be seen there, not its group's mean
        mean[bucket // together] = series.mean[bucket]
    outside = sorted({bucket // together for bucket in series.outside})
    told: dict[str, Any] = {"step": together, "outside": outside, "mean": _listed(mean)}
    if len(series.low) and np.isfinite(series.low).any():
        low, high = np.fmin.reduceat(series.low, places), np.fmax.reduceat(series.high, places)
        gone = ~(np.isfinite(low) & np.isfinite(high))  # drawn where both are known
        low[gone] = high[gone] = np.nan
        told |= {"low": _listed(low), "high": _listed(high)}
    return told


def _mean(mean: FloatArray, rows: NDArray[np.int64], places: NDArray[np.intp]) -> FloatArray:
    known = np.isfinite(mean)
    weights = np.where(known, rows, 0).astype(np.float64)
    sums = np.add.reduceat(np.where(known, mean, 0.0) * weights, places)
    counts = np.add.reduceat(weights, places)
    means = np.full(len(places), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _listed(values: FloatArray) -> list[float | None]:
    return [_rounded(value, 5) for value in values.tolist()]


def _rounded(value: float, digits: int) -> float | int | None:
    """JSON has no word for what is not finite."""
    if isinstance(value, int):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
