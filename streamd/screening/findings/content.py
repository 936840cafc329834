"""What is in a column, or is not: missing, non-finite, constant, stuck, stand-ins for missing, text among numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.numbers import NumericSummary
from streamd.screening.quantiles import Quantiles
from streamd.screening.runs import Runs
from streamd.screening.summaries import OtherSummary, Summary
from streamd.screening.texts import Category, TextSummary
from streamd.screening.wording import listed, moment, number, percent, quoted, rows_of, whole

MISSING_SHARES = (0.2, 0.8)  # from the first a warning: imputing invents that much; from the second little is left
NEARLY_CONSTANT = 0.99
STUCK_SHARE = 0.05  # of all rows, in one run
STUCK_ELSEWHERE = 0.1  # of the rows outside of the run may have its value, else it is simply common
SENTINELS = (-1.0, 0.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, -999999.0)
SENTINEL_ROWS = 3
SENTINEL_TIMES = {
    0.0: "1970-01-01",
    -2208988800.0: "1900-01-01",
    253402214400.0: "9999-12-31",
    -62135596800.0: "0001-01-01",
}
MISSING_WORDS = frozenset(
    ("", "-", "--", ".", "?", "??", "n/a", "na", "n.a.", "nan", "null", "none", "nil", "missing", "unknown",
     "undefined",      "#n/a", "#ref!", "#value!", "tbd", "not available", "(null)", "<null>", "(blank)")
)  # fmt: skip
NUMBERS_SHARE = 0.8  # of a text column's values that are numbers: then the others are the odd ones


def find(facts: Facts) -> Iterator[Finding]:
    """Findings about what columns hold, one after the other."""
    for name, summary in facts.summary.columns.items():
        yield from _missing(name, summary)
        if isinstance(summary, OtherSummary):
            continue
        if isinstance(summary, NumericSummary):
            yield from _nonfinite(name, summary)
            yield from _sentinels(name, facts, summary)
        else:
            categories = summary.categories()
            yield from _missing_words(name, summary, categories)
            yield from _numbers_among(name, summary, categories)
        yield from _constant(name, facts, summary)


def _missing(name: str, summary: Summary) -> Iterator[Finding]:
    share = summary.missing / summary.rows
    if not summary.missing:
        return
    if summary.missing == summary.rows:
        yield Finding(
            "all_missing", Severity.WARNING, (name,), {"count": summary.rows, "share": 1.0},
            f"{name} has no value in any of the {whole(summary.rows)} rows.",
            "Leave the column out, or find out what no longer fills it.", weight=1.0,
        )  # fmt: skip
        return
    many = share >= MISSING_SHARES[0]
    most = share >= MISSING_SHARES[1]
    yield Finding(
        "missing",
        Severity.WARNING if many else Severity.INFO,
        (name,),
        {"count": summary.missing, "share": share},
        f"{name} is missing in {rows_of(summary.missing, summary.rows)}.",
        "Little is left to learn from: leave the column out, or ask for the data again." if most
        else "Find out why before you fill it in: that a value is missing may say more than the value." if many
        else "Decide how the model is to read a missing value.",
        weight=share,
    )  # fmt: skip


def _nonfinite(name: str, summary: NumericSummary) -> Iterator[Finding]:
    if not summary.infinities:
        return
    yield Finding(
        "nonfinite", Severity.CRITICAL, (name,),
        {"count": summary.infinities, "share": summary.infinities / summary.rows},
        f"{name} is infinite in {rows_of(summary.infinities, summary.rows)}: one such value makes a gradient NaN.",
        "Find the division by zero or the overflow that makes it; leave the rows out until then.",
        weight=summary.infinities / summary.rows,
    )  # fmt: skip


def _sentinels(name: str, facts: Facts, summary: NumericSummary) -> Iterator[Finding]:
    times = {field.name for field in facts.fields if field.type == "time"}
    for value, count, atoms in _atoms(facts, name, summary):
        if name in times:
            if value not in SENTINEL_TIMES or not _stands_apart(value, summary.quantiles, atoms):
                continue
            shown = SENTINEL_TIMES[value]
        elif value in SENTINELS[2:] or (value == -1.0 and summary.negative == count):
            if not _stands_apart(value, summary.quantiles, atoms):
                continue
            shown = number(value)
        else:
            continue
        yield Finding(
            "sentinel", Severity.WARNING, (name,), {"value": value, "count": count, "share": count / summary.rows},
            f"{name} is {shown} in {rows_of(count, summary.rows)}, far from its other values: "
            f"it seems to stand for missing.",
            f"Read {shown} as missing when you load the data.", weight=count / summary.rows,
        )  # fmt: skip


def _atoms(facts: Facts, name: str, summary: NumericSummary) -> Iterator[tuple[float, int, int]]:
    """(value, rows, different values) of what occurs more than once; exact where values are few, else drawn."""
    if summary.quantiles.exact:
        values, counts = summary.quantiles.values, summary.quantiles.times
        for i in np.flatnonzero(counts >= SENTINEL_ROWS).tolist():
            yield float(values[i]), int(counts[i]), len(values)
        return
    column = facts.sample.numeric[name]
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    times = facts.rows / facts.sample.rows
    for i in np.flatnonzero(counts >= SENTINEL_ROWS).tolist():
        yield float(values[i]), round(int(counts[i]) * times), len(values)


def _stands_apart(value: float, quantiles: Quantiles, different: int) -> bool:
    """At an end of the values, with a gap to the others that none of them has; of −1 a few whole numbers may follow."""
    if different < 5:
        return False
    low, high = quantiles.at(np.array([0.0, 1.0])).tolist()
    if value not in (low, high):
        return False
    if value == -1.0:
        return True
    inner = quantiles.at(np.array([0.1, 0.25, 0.5, 0.75, 0.9]))
    inner = inner[inner != value]
    if len(inner) < 2:
        return False
    return bool(abs(value - inner[0 if value == low else -1]) > 2 * (inner[-1] - inner[0]) > 0)


def _missing_words(name: str, summary: TextSummary, categories: list[Category]) -> Iterator[Finding]:
    found = [c for c in categories if c.name.strip().casefold() in MISSING_WORDS]
    if not found or not summary.exact or len(found) == len(categories):
        return
    count = sum(category.rows for category in found)
    words = quoted(category.name for category in sorted(found, key=lambda each: -each.rows))
    yield Finding(
        "sentinel", Severity.WARNING if count / summary.rows >= 0.01 else Severity.INFO, (name,),
        {"values": [category.name for category in found], "count": count, "share": count / summary.rows},
        f"{name} is {listed(words)} in {rows_of(count, summary.rows)}: words for missing.",
        "Read them as missing when you load the data.", weight=count / summary.rows,
    )  # fmt: skip


def _numbers_among(name: str, summary: TextSummary, categories: list[Category]) -> Iterator[Finding]:
    if not categories:
        return
    odd = [c for c in categories if not _is_number(c.name)]
    odd_rows, rows = sum(c.rows for c in odd), sum(c.rows for c in categories)
    if not odd or len(categories) - len(odd) < 5 or 1 - odd_rows / rows < NUMBERS_SHARE:
        return
    count = odd_rows << summary.level
    words = quoted(c.name for c in sorted(odd, key=lambda each: -each.rows))
    first = min(c.first for c in odd)
    yield Finding(
        "mixed_types", Severity.WARNING, (name,),
        {"count": count, "share": count / summary.rows, "values": [c.name for c in odd[:20]], "first_row": first},
        f"{name} holds numbers, and text in {rows_of(count, summary.rows)}: {listed(words)}, "
        f"first in row {whole(first)}.",
        "Mend these cells or read them as missing, so that the column is numbers.", weight=count / summary.rows,
    )  # fmt: skip


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _constant(name: str, facts: Facts, summary: NumericSummary | TextSummary) -> Iterator[Finding]:
    present = summary.rows - summary.missing
    if not present:
        return
    value, count = _commonest(facts, name, summary)
    if count >= present and (isinstance(summary, TextSummary) or not summary.infinities):
        note = "" if not summary.missing else " wherever it is not missing"
        yield Finding(
            "constant", Severity.WARNING, (name,), {"value": value, "count": count},
            f"{name} is {value} in every row{note}: nothing can be learned from it.",
            "Leave it out, or find out why it no longer changes.", weight=1.0,
        )  # fmt: skip
        return
    if name != facts.options.label and present >= 1000 and count / present >= NEARLY_CONSTANT:
        yield Finding(
            "nearly_constant", Severity.INFO, (name,), {"value": value, "count": count, "share": count / present},
            f"{name} is {value} in {percent(count / present)} of the rows, and something else in "
            f"{whole(present - count)}.",
            "Look whether the few others mean anything; a split may leave all on one side.", weight=count / present,
        )  # fmt: skip
    if name != facts.options.time:
        yield from _stuck(name, summary.runs, summary.rows, facts, count)


def _commonest(facts: Facts, name: str, summary: NumericSummary | TextSummary) -> tuple[str, int]:
    """In words, and in how many rows."""
    if isinstance(summary, TextSummary):
        best = max(summary.categories(), key=lambda each: each.rows, default=None)
        return ("", 0) if best is None else (quoted([best.name])[0], best.rows)
    if not summary.quantiles.exact or not summary.quantiles.count:
        return "", 0
    values, times = summary.quantiles.values, summary.quantiles.times
    value = float(values[int(np.argmax(times))])
    is_time = any(field.name == name and field.type == "time" for field in facts.fields)
    return moment(value) if is_time else number(value), int(times.max())


def _stuck(name: str, runs: Runs, rows: int, facts: Facts, commonest: int) -> Iterator[Finding]:
    """One value for a long stretch that it hardly has elsewhere: a sensor that hung, say."""
    if rows < 200 or runs.longest < STUCK_SHARE * rows:
        return
    elsewhere = rows - runs.longest
    hashed_rows = _rows_of_value(facts, name, runs)
    if elsewhere and (hashed_rows - runs.longest) / elsewhere > STUCK_ELSEWHERE:
        return
    if (runs.changes + 1) < max(20, 0.01 * elsewhere):
        return  # sorted, or a slow counter: all its values come in long runs
    start, stop = runs.longest_start, runs.longest_start + runs.longest
    where = (
        f"until row {whole(stop)}" if start == 0
        else f"from row {whole(start)} to the end" if stop == rows else f"in rows {whole(start)} to {whole(stop - 1)}"
    )  # fmt: skip
    value = _value_at(facts, name, runs)
    yield Finding(
        "stuck", Severity.WARNING, (name,),
        {"first_row": start, "last_row": stop - 1, "count": runs.longest, "share": runs.longest / rows},
        f"{name} is {value} without a change {where}, {percent(runs.longest / rows)} of all rows, "
        f"and changes elsewhere.",
        "Learn from the other rows alone, or without the column: there it says when, not what.",
        weight=runs.longest / rows,
    )  # fmt: skip


def _value_at(facts: Facts, name: str, runs: Runs) -> str:
    value = float(np.array([runs.longest_value], np.int64).view(np.float64)[0])
    summary = facts.summary.columns[name]
    if isinstance(summary, TextSummary):
        known = summary.known(runs.longest_value & (2**64 - 1))
        return "missing" if known is None else quoted([known[0]])[0]
    return "missing" if math.isnan(value) else number(value) if math.isfinite(value) else str(value)


def _rows_of_value(facts: Facts, name: str, runs: Runs) -> float:
    """In how many rows the value of the longest run is, all in all."""
    summary = facts.summary.columns[name]
    if isinstance(summary, TextSummary):
        known = summary.known(runs.longest_value & (2**64 - 1))
        return summary.missing if known is None else known[1]
    if isinstance(summary, OtherSummary):
        return 0
    value = float(np.array([runs.longest_value], np.int64).view(np.float64)[0])
    if math.isnan(value):
        return summary.missing
    column = facts.sample.numeric[name]
    return float((column == value).mean()) * summary.rows
