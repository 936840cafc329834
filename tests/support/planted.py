"""A data set with a defect of every kind, and the same without: what `streamd screen` must find, and must leave alone.

`quality_screening.py` prints precision and recall over it; tests/screening/test_planted.py holds them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from streamd.screening.model import Screening, Severity

ROWS = 20_000
START = np.datetime64("2026-01-01T00:00:00", "us")
STEP_SECONDS = 600  # 20,000 rows are 139 days


@dataclass(frozen=True)
class Planted:
    """A table, what is wrong with it as (kind, columns), and which columns are clean.

    Attributes:
        wanted: column (or, of whole rows, "") -> the kinds of which one must be found about it.
    """

    table: pa.Table
    wanted: dict[str, tuple[str, ...]]
    clean: tuple[str, ...]
    label: str = "label"
    time: str = "at"


def clean_columns(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Columns with which nothing is wrong, of many shapes."""
    return {
        "normal": rng.normal(100, 15, rows),
        "small_normal": rng.normal(0, 1e-6, rows),
        "uniform": rng.uniform(-1, 1, rows),
        "lognormal": rng.lognormal(3, 1, rows),
        "exponential": rng.exponential(2.0, rows),
        "gamma": rng.gamma(2.0, 3.0, rows),
        "beta": rng.beta(2, 5, rows),
        "laplace": rng.laplace(size=rows),
        "student5": rng.standard_t(5, rows),
        "poisson": rng.poisson(4, rows),
        "rare_poisson": rng.poisson(0.3, rows),
        "binomial": rng.binomial(20, 0.3, rows),
        "geometric": rng.geometric(0.2, rows),
        "whole": rng.integers(0, 100_000, rows),
        "flag": rng.random(rows) < 0.2,
        "country": np.array(["DE", "FR", "IT", "ES", "PL"])[rng.choice(5, rows, p=[0.4, 0.3, 0.15, 0.1, 0.05])],
        "browser": np.array(["firefox", "chrome", "safari", "edge"])[rng.integers(0, 4, rows)],
        "postcode": np.array([f"{10_000 + i}" for i in range(500)])[rng.integers(0, 500, rows)],
        "autoregressive": _autoregressive(rng, rows, 0.9),
    }


def _autoregressive(rng: np.random.Generator, rows: int, rho: float) -> np.ndarray:
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -rho], rng.normal(size=rows))


def planted(seed: int = 0, rows: int = ROWS) -> Planted:
    """All defects at once, beside clean columns."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = dict(clean_columns(rng, rows))
    clean = tuple(columns)
    wanted: dict[str, tuple[str, ...]] = {}

    def put(name: str, values: object, *kinds: str) -> None:
        columns[name] = values
        wanted[name] = kinds

    some = lambda count: rng.choice(rows, count, replace=False)  # noqa: E731
    _put_numbers(put, rng, rows, some)
    _put_categories(put, rng, rows, some)
    label = np.where(rng.random(rows) < 0.004, "fraud", "fine")
    put("label", label, "imbalance")
    put("leak", np.where(label == "fraud", 1.0, 0.0) * 5 + rng.normal(0, 0.1, rows), "leakage")
    put("copy_of_normal", np.asarray(columns["normal"]).copy(), "same_columns")
    put("twin_of_gamma", np.asarray(columns["gamma"]) * 2 + rng.normal(0, 0.01, rows), "correlated")
    clean = tuple(name for name in clean if name not in ("normal", "gamma"))  # their copies name them, too
    seconds = np.arange(rows) * STEP_SECONDS
    seconds[rows // 2 :] += 3 * 86_400  # a gap
    swapped = some(40)
    seconds[swapped] -= 7200 + 60  # disorder
    at = START + seconds.astype("timedelta64[s]")
    at[5001:5031] = at[5000]  # repeated
    wanted["at"] = ("gaps",)
    wanted["at "] = ("disorder",)
    wanted["at  "] = ("repeated_times",)
    table = pa.table({"at": pa.array(at), **{n: pa.array(v) for n, v in columns.items()}})
    copies = table.take(pa.array(np.arange(100, 250)))  # 150 rows once more
    wanted[""] = ("duplicate_rows",)
    return Planted(pa.concat_tables([table, copies]), wanted, clean)


def _put_numbers(put, rng, rows, some) -> None:  # type: ignore[no-untyped-def]
    """Defects of columns of numbers."""

    def normal(mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
        return rng.normal(mean, deviation, rows)

    values = normal(50, 5)
    values[some(12)] = 50 + 5 * rng.choice([-1, 1], 12) * rng.uniform(25, 60, 12)
    put("outliers", values, "outliers")
    values = rng.lognormal(0, 0.5, rows)
    values[some(5)] = 5000.0 + rng.uniform(0, 1000, 5)
    put("outliers_of_lognormal", values, "outliers")
    values = normal()
    values[some(300)] = rng.normal(40, 0.5, 300)
    put("clump", values, "clump", "outliers")
    values = normal(45, 12).clip(18, 95).round()
    values[some(rows // 40)] = 130
    put("lone_value", values, "outliers")
    put("long_tail", rng.pareto(1.5, rows), "long_tail")
    put("two_peaks", np.where(rng.random(rows) < 0.5, normal(-4), normal(4)), "peaks")
    put("many_zeros", np.where(rng.random(rows) < 0.7, 0.0, rng.gamma(2.0, 3.0, rows)), "zeros")
    put("constant", np.full(rows, 3.5), "constant")
    values = np.full(rows, 1.0)
    values[some(40)] = 2.0
    put("nearly_constant", values, "nearly_constant")
    values = normal()
    values[: rows // 4] = 0.4149
    put("stuck_until", values, "stuck")
    values = normal()
    values[some(30)] = np.inf
    put("infinite", values, "nonfinite")
    put("missing_third", pa.array(normal(), mask=rng.random(rows) < 0.33), "missing")
    put("all_missing", pa.nulls(rows, pa.float64()), "all_missing")
    values = rng.uniform(10, 35, rows)
    values[some(200)] = -999.0
    put("sentinel", values, "sentinel")
    stamps = START - (rng.uniform(0, 3e7, rows)).astype("timedelta64[s]")
    stamps[some(100)] = np.datetime64("1970-01-01", "us")
    put("sentinel_time", stamps, "sentinel")
    values = rng.normal(20, 2, rows)
    values[int(0.6 * rows) : int(0.7 * rows)] += 10
    put("odd_stretch", values, "odd_stretch", "change_point")
    values = rng.normal(20, 2, rows)
    values[int(0.7 * rows) :] += 8
    put("level_change", values, "change_point", "odd_stretch")
    values = rng.normal(5, 1, rows)
    values[12_000:12_012] += 30  # two hours
    put("unusual_hours", values, "unusual_times")
    age = np.abs(rng.normal(40, 12, rows))
    age[some(4)] = 140.0
    put("age", age, "rule")


def _put_categories(put, rng, rows, some) -> None:  # type: ignore[no-untyped-def]
    """Defects of columns of categories."""

    def drawn(*names: str) -> np.ndarray:
        return np.array(names, dtype=object)[rng.integers(0, len(names), rows)]

    values = drawn("red", "green", "blue", "white", "black")
    burst = slice(15_000, 15_000 + 144)  # a day
    values[burst] = [f"tmp-{i % 200}" for i in range(144)]
    put("burst", values, "cardinality_burst")
    values = drawn("Germany", "France", "Poland")
    values[some(20)] = "germany "
    values[some(10)] = "Frnace"
    put("spellings", values, "spellings")
    values = drawn("card", "cash")
    values[int(0.6 * rows) :][rng.random(rows - int(0.6 * rows)) < 0.3] = "phone"
    put("late", values, "late_category", "change_point")
    values = drawn("north", "south", "east", "west")
    values[some(2)] = "centre"
    put("rare", values, "rare_categories")
    put("id", np.array([f"u{i:06d}" for i in rng.permutation(rows)]), "identifier")
    values = np.array([f"{v:.1f}" for v in rng.uniform(0, 50, rows)], dtype=object)
    values[some(60)] = "n.m."
    put("numbers_with_text", values, "mixed_types")
    values = drawn("low", "middle", "high")
    values[some(900)] = "N/A"
    put("words_for_missing", values, "sentinel")


RULES = {"columns": {"age": {"min": 0, "max": 120}}}


def missed(screening: Screening, data: Planted) -> list[str]:
    """What was planted and not found, as `column: kind`."""
    found = {(name.strip(), f.kind) for f in screening.findings for name in (f.columns or ("",))}
    return [
        f"{name.strip() or 'rows'}: {' or '.join(kinds)}"
        for name, kinds in data.wanted.items()
        if not any((name.strip(), kind) in found for kind in kinds)
    ]


def accused(screening: Screening, clean: tuple[str, ...]) -> list[str]:
    """Clean columns that a finding of warning or worse names, as `column: kind`."""
    loud = [finding for finding in screening.findings if finding.severity >= Severity.WARNING]
    return [f"{name}: {finding.kind}" for finding in loud for name in finding.columns if name in clean]
