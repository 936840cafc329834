"""Screenings made by hand, for what shows them: no part of it is found, so that what is shown can be told exactly."""

from __future__ import annotations

import numpy as np

from streamd.screening.model import (
    Axis,
    Column,
    Finding,
    Histogram,
    Numbers,
    Screening,
    Series,
    Severity,
    StrangeRow,
    worst_first,
)
from streamd.table import Categorical, Table

ROWS = 20_000
BUCKETS = 120
STRANGE = "<script>alert(1)</script> & \"'"


def numeric(name: str, seed: int, *, centre: float = 0.0, far: float | None = None, missing: int = 0) -> Column:
    """A column of normal values, one of them `far` away, with a series whose 70th bucket lies outside of its band."""
    generator = np.random.default_rng(seed)
    values = generator.normal(centre, 1.0 + seed % 3, ROWS)
    q1, q2, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    fences = (float(q1 - 1.5 * (q3 - q1)), float(q3 + 1.5 * (q3 - q1)))
    beyond = np.flatnonzero((values < fences[0]) | (values > fences[1]))
    worst = sorted(((int(row), float(values[row])) for row in beyond), key=lambda each: -abs(each[1] - q2))[:10]
    if far is not None:
        worst = [(17, far), *worst[:9]]
    counts, edges = np.histogram(values, 40)
    mean = centre + np.sin(np.arange(BUCKETS) / 9) * 0.2 + generator.normal(0, 0.05, BUCKETS)
    mean[70] += 1.5
    mean[30:34] = np.nan
    band = np.where(np.arange(BUCKETS) < 10, np.nan, 0.4)
    return Column(
        name, "numeric", "double", ROWS, missing, ROWS - missing, True,
        Numbers(
            minimum=float(values.min()), first_quartile=float(q1), median=float(q2), third_quartile=float(q3),
            maximum=far if far is not None else float(values.max()), mean=float(values.mean()),
            deviation=float(values.std()), skewness=0.02, excess_kurtosis=-0.01, tail_index=4.1, zeros=0,
            negative=int((values < 0).sum()), nonfinite=0, fences=fences, beyond_fences=len(beyond), beyond_3_sigma=54,
            worst=tuple(worst), histogram=Histogram(edges, counts),
        ),
        series=Series(
            np.full(BUCKETS, ROWS // BUCKETS), mean, centre + np.sin(np.arange(BUCKETS) / 9) * 0.2 - band,
            centre + np.sin(np.arange(BUCKETS) / 9) * 0.2 + band, (70,), np.empty(0),
        ),
    )  # fmt: skip


def categorical(name: str) -> Column:
    distinct = np.full(BUCKETS, 5.0)
    distinct[90] = 200.0
    empty = np.empty(0)
    values = (("DE", 9_000), ("FR", 5_000), ("IT", 3_000), ("ES", 1_500), ("", 500), ("Fr", 12))
    series = Series(np.full(BUCKETS, ROWS // BUCKETS), empty, empty, empty, (90,), distinct)
    return Column(name, "categorical", "string", ROWS, 0, 210, True, None, values, series)


def time(name: str) -> Column:
    first, last = 1_514_764_800.0, 1_514_764_800.0 + BUCKETS * 86_400
    quarter = (last - first) / 4
    figures = Numbers(
        first, first + quarter, first + 2 * quarter, first + 3 * quarter, last, first + 2 * quarter, 3e6, 0.0, -1.2,
        float("nan"), 0, 0, 0, (first - 6 * quarter, last + 6 * quarter), 0, 0, (),
        Histogram(np.linspace(first, last, 41), np.full(40, ROWS // 40)),
    )  # fmt: skip
    return Column(name, "time", "timestamp[us]", ROWS, 0, ROWS, False, figures)


def screening(more: int = 0, name: str = "amount") -> Screening:
    """Findings of every severity over a handful of columns and `more` like them."""
    columns = (
        time("at"), numeric(name, 1, centre=120.0, far=1e6), numeric("age", 2, missing=1_204), categorical("country"),
        Column("embedding", "other", "list<item: float>", ROWS, 0, 0, False),
        *(numeric(f"feature_{i:04}", i % 50) for i in range(more)),
    )  # fmt: skip
    found = [
        Finding(
            "leakage", Severity.CRITICAL, ("age", "label"), {"auroc": 0.9996, "rows": ROWS},
            "'age' alone predicts 'label': AUROC 0.9996 over 20,000 rows.",
            "Leave it out, or find out how it came to know the label.", 1.0,
        ),
        Finding(
            "cardinality_burst", Severity.WARNING, ("country",), {"usual": 5, "burst": 200, "day": "2018-04-01"},
            "'country' has 5 values a day, and 200 on 2018-04-01.",
            "Look at the rows of that day: is another field written into it?", 0.1,
        ),
        Finding(
            "outliers", Severity.WARNING, (name,), {"beyond_fences": 143, "share": 0.00715, "worst_rows": [17, 9, 4]},
            f"143 rows (0.7 %) of {name!r} lie outside of 110 to 130 (IQR); the farthest is 1,000,000 in row 17.",
            "Look at these rows: a wrong unit, or a sentinel?", 0.007,
        ),
        Finding(
            "missing", Severity.INFO, ("age",), {"missing": 1_204, "share": 0.0602},
            "'age' is missing in 1,204 rows (6 %).", "Decide how the model shall treat them.", 0.06,
        ),
        *(
            Finding("zeros", Severity.INFO, (f"feature_{i:04}",), {"share": 0.5}, f"'feature_{i:04}' is 0 in half of "
                    "its rows.", "Is 0 a value or the lack of one?", 0.5)
            for i in range(0, more, 3)
        ),
    ]  # fmt: skip
    generator = np.random.default_rng(0)
    sample = Table(
        1_000,
        {name: generator.normal(120.0, 2.0, 1_000), "age": generator.normal(size=1_000)},
        categorical={"country": Categorical(np.zeros(1_000, np.int32), ("DE",))},
    )
    strange = (StrangeRow(17, 0.81, ((name, "1,000,000", 0.83), ("age", "missing", 0.09))), StrangeRow(4, 0.7, ()))
    axis = Axis("time", 1_514_764_800.0, 86_400.0, BUCKETS)
    suspicious = np.array([4, 9, 17], np.int64)
    return Screening("orders.parquet", ROWS, columns, worst_first(found), axis, strange, sample, suspicious, 4.2)


def clean() -> Screening:
    """Nothing odd."""
    return Screening("orders.parquet", ROWS, (numeric("amount", 1),), ())
