"""Between columns: the same twice, nearly the same, columns that give the label away, classes that are rare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.dependence import centred_ranks
from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.numbers import NumericSummary
from streamd.screening.texts import TextSummary
from streamd.screening.wording import listed, number, percent, quoted, whole
from streamd.table import FloatArray

Codes = NDArray[np.int64]

CORRELATED = 0.98  # Spearman's ρ
PIECE = 128  # values that are multiplied at a time
COLUMNS_MAX = 500  # numeric columns that are compared pair by pair
CLASSES_MAX = 50  # a numeric label of more different values is a quantity, not a class
BINS = 64  # of a column that is asked for the label
LEAKS = (0.95, 0.99)  # of what can be known better than by guessing: warning, critical
LABEL_ROWS_MIN = 200
CLASS_ROWS_MIN = 20  # a class of fewer in the half that judges is left out
IMBALANCE = (0.1, 0.01)  # the rarest class's share times the number of classes: info, warning


def find(facts: Facts) -> Iterator[Finding]:
    """Findings about pairs of columns, and about the label."""
    copies = _same_columns(facts)
    for names in copies:
        yield Finding(
            "same_columns", Severity.WARNING, names, {},
            f"{listed(names, 6)} are the same in every row.",
            "Keep one: copies share their weight between them, and importance is told wrongly.", weight=0.1,
        )  # fmt: skip
    yield from _correlated(facts, copies)
    if facts.options.label is not None:
        yield from _leakage(facts, facts.options.label)
        yield from _imbalance(facts, facts.options.label)


def _same_columns(facts: Facts) -> list[tuple[str, ...]]:
    """Columns that are equal in all drawn rows and in their figures; constant ones are told of elsewhere."""
    alike: dict[object, list[str]] = defaultdict(list)
    for name, summary in facts.summary.columns.items():
        if isinstance(summary, NumericSummary) and summary.different > 1:
            alike[summary.missing, summary.moments.mean, summary.moments.m2, summary.moments.m3].append(name)
        elif isinstance(summary, TextSummary) and summary.estimate > 1:
            distinct = summary.distinct
            figures = (distinct.hashes.tobytes(), distinct.counts.tobytes(), distinct.firsts.tobytes())
            alike[summary.missing, *figures].append(name)
    found = []
    for names in alike.values():
        groups: dict[bytes, list[str]] = defaultdict(list)
        for name in names if len(names) > 1 else ():
            groups[_drawn(facts, name)].append(name)
        found += [tuple(group) for group in groups.values() if len(group) > 1]
    return found


def _drawn(facts: Facts, name: str) -> bytes:
    """The drawn rows; categories, which are known to be the same, by the order in which they occur."""
    if name in facts.sample.numeric:
        return (facts.sample.numeric[name] + 0.0).tobytes()
    codes = facts.sample.categorical[name].codes
    _, firsts, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[inverse].tobytes()


def _correlated(facts: Facts, copies: list[tuple[str, ...]]) -> Iterator[Finding]:
    copied = {name for names in copies for name in names[1:]}
    names = [n for n, s in facts.numeric() if n not in copied and s.different > 2][:COLUMNS_MAX]
    names = [name for name in names if name != facts.options.label]
    if len(names) < 2 or facts.sample.rows < 50:
        return
    rows = np.arange(0, facts.sample.rows, max(1, facts.sample.rows // 10_000))
    ranks = np.stack([_ranks(facts.sample.numeric[name][rows]) for name in names])
    products = _products(ranks)
    kept = np.flatnonzero(np.diagonal(products) > 0)
    lengths = np.sqrt(np.diagonal(products)[kept])
    rho = products[np.ix_(kept, kept)] / np.outer(lengths, lengths)
    first, second = np.nonzero(np.triu(np.abs(rho) >= CORRELATED, 1))
    pairs = [(names[kept[a]], names[kept[b]], float(rho[a, b])) for a, b in zip(first, second, strict=True)]
    for members in _together(pairs):
        told = [pair for pair in pairs if pair[0] in members]
        strongest = max(told, key=lambda pair: abs(pair[2]))
        yield Finding(
            "correlated", Severity.INFO, members,
            {"pairs": [{"columns": [a, b], "spearman": r} for a, b, r in told[:50]]},
            f"{listed(members, 4)} say nearly the same (rank correlation up to {strongest[2]:.3f}).",
            "Keep one of them for a linear model, or combine them.", weight=abs(strongest[2]) * 0.01 * len(members),
        )  # fmt: skip


def _ranks(values: FloatArray) -> FloatArray:
    """Average ranks about their middle, which missing values have: it says nothing."""
    return centred_ranks(np.where(np.isfinite(values), values, np.nan)).astype(np.float64)


def _products(rows: FloatArray) -> FloatArray:
    """(n, n) of (n, values): in pieces so small that BLAS does not wake threads that wait longer than they work."""
    found = np.zeros((len(rows), len(rows)))
    for at in range(0, rows.shape[1], PIECE):
        piece = np.ascontiguousarray(rows[:, at : at + PIECE])
        found += piece @ piece.T
    return found


def _together(pairs: list[tuple[str, str, float]]) -> list[tuple[str, ...]]:
    """Columns joined by pairs, in the order of their names' first mention."""
    groups: list[list[str]] = []
    for one, other, _ in pairs:
        touched = [group for group in groups if one in group or other in group]
        joined = list(dict.fromkeys([*(name for group in touched for name in group), one, other]))
        groups = [group for group in groups if group not in touched] + [joined]
    return [tuple(group) for group in groups]


# --- The label ------------------------------------------------------------------------------------


def _leakage(facts: Facts, label: str) -> Iterator[Finding]:
    """Columns that tell the label alone: learned on every other drawn row, judged on the rest."""
    target = _target(facts, label)
    if target is None:
        return
    present, values, classes = target
    for field in facts.fields:
        if field.name == label or field.type not in ("numeric", "categorical"):
            continue
        codes = _codes(facts, field.name)[present]
        known = _class_power(codes, values.astype(np.int64)) if classes else _value_power(codes, values)
        if known is None or known < LEAKS[0]:
            continue
        sure = known >= LEAKS[1]
        yield Finding(
            "leakage", Severity.CRITICAL if sure else Severity.WARNING, (field.name, label),
            {"power": known, "label": label},
            f"{field.name} alone tells {label} {'without an error' if known == 1 else f'{percent(known)} of the way'}: "
            f"from guessing to knowing, on rows that were held out.",
            f"Ask when {field.name} is known: if after {label}, or made from it, leave it out.", weight=known,
        )  # fmt: skip


def _target(facts: Facts, label: str) -> tuple[NDArray[np.bool_], FloatArray, bool] | None:
    """Which drawn rows have a label; these labels; whether they are classes."""
    if label in facts.sample.categorical:
        codes = facts.sample.categorical[label].codes
        present = codes >= 0
        values, classes = codes[present].astype(np.float64), True
    elif label in facts.sample.numeric:
        column = facts.sample.numeric[label]
        present = np.isfinite(column)
        different, inverse = np.unique(column[present], return_inverse=True)
        classes = len(different) <= CLASSES_MAX
        values = inverse.astype(np.float64) if classes else _ranks(column[present])  # a few large ones would rule
    else:
        return None
    enough = len(values) >= LABEL_ROWS_MIN and values.min() < values.max()
    if classes and len(np.unique(values)) > 0.1 * len(values):
        return None
    return (present, values, classes) if enough else None


def _codes(facts: Facts, name: str) -> Codes:
    """(drawn rows,) 0 is missing; numbers by 64 quantiles, or each by itself where they are few."""
    if name in facts.sample.categorical:
        return facts.sample.categorical[name].codes.astype(np.int64) + 1
    values = facts.sample.numeric[name]
    finite = np.isfinite(values)
    different = np.unique(values[finite])
    if len(different) > BINS:
        different = np.unique(np.quantile(values[finite], np.linspace(0, 1, BINS + 1)[1:-1]))
    codes = np.searchsorted(different, np.where(finite, values, 0.0), side="right") + 1
    return np.where(finite, codes, 0)


def _class_power(codes: Codes, classes: Codes) -> float | None:
    """(balanced accuracy − chance) / (1 − chance) of the commonest class of each code: 0 is guessing, 1 is knowing."""
    learned, judged = slice(0, None, 2), slice(1, None, 2)
    count = int(classes.max()) + 1
    table = np.zeros((int(codes.max()) + 1, count))
    np.add.at(table, (codes[learned], classes[learned]), 1)
    shares = table / np.maximum(table.sum(axis=0), 1)  # of each class, so that a rare one counts as much
    guessed = np.argmax(shares, axis=1)
    unseen = table.sum(axis=1) == 0
    right = (guessed[codes[judged]] == classes[judged]) & ~unseen[codes[judged]]
    rows = np.bincount(classes[judged], minlength=count)
    kept = rows >= CLASS_ROWS_MIN
    if kept.sum() < 2:
        return None
    recalls = np.bincount(classes[judged], right, minlength=count)[kept] / rows[kept]
    chance = 1.0 / kept.sum()
    return float((recalls.mean() - chance) / (1 - chance))


def _value_power(codes: Codes, values: FloatArray) -> float:
    """R² of the mean rank of each code."""
    learned, judged = slice(0, None, 2), slice(1, None, 2)
    size = int(codes.max()) + 1
    rows = np.bincount(codes[learned], minlength=size)
    overall = values[learned].mean()
    sums = np.bincount(codes[learned], values[learned], minlength=size)
    means = np.where(rows > 0, sums / np.maximum(rows, 1), overall)
    left = float(((values[judged] - means[codes[judged]]) ** 2).sum())
    return 1.0 - left / float(((values[judged] - overall) ** 2).sum())


def _imbalance(facts: Facts, label: str) -> Iterator[Finding]:
    shares = _shares(facts, label)
    if not 2 <= len(shares) <= CLASSES_MAX:
        return
    rarest, commonest = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if shares[rarest] * len(shares) >= IMBALANCE[0]:
        return
    rows = round(shares[rarest] * facts.rows)
    yield Finding(
        "imbalance", Severity.WARNING if shares[rarest] * len(shares) < IMBALANCE[1] else Severity.INFO, (label,),
        {"shares": dict(list(shares.items())[:CLASSES_MAX])},
        f"{label} is {rarest} in {percent(shares[rarest])} of the rows ({whole(rows)}), and {commonest} in "
        f"{percent(shares[commonest])}.",
        "Split by class, weigh the rare one, and judge by precision and recall, not by accuracy.",
        weight=1 - shares[rarest],
    )  # fmt: skip


def _shares(facts: Facts, label: str) -> dict[str, float]:
    summary = facts.summary.columns[label]
    if isinstance(summary, TextSummary) and summary.exact:
        present = max(1, summary.rows - summary.missing)
        return {quoted([c.name])[0]: c.rows / present for c in summary.categories()}
    if isinstance(summary, NumericSummary) and summary.quantiles.exact and summary.different <= CLASSES_MAX:
        values, times = summary.quantiles.values.tolist(), summary.quantiles.times.tolist()
        return {number(v): t / summary.quantiles.count for v, t in zip(values, times, strict=True)}
    return {}
