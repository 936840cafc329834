"""Two data sets: the detectors that the daemon uses, by the same code, and how far apart in two measures more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from streamd.detectors.base import Reference
from streamd.detectors.chi2 import Chi2Config
from streamd.detectors.ks import KsConfig
from streamd.model import FeatureBatch, Verdict
from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.passes import Watch, table_of
from streamd.screening.sketches import Rows
from streamd.screening.source import Source
from streamd.screening.values import Field, values_of
from streamd.screening.wording import listed, number, percent, quoted
from streamd.table import Categorical, FloatArray, Table, concatenate

P_VALUE = 0.001
SEVERE = 2.5  # times the detector's threshold
PSI_BINS = 10
PSI_LEAST = 1e-4  # a share of 0 would make it infinite
MISSING_RISE = 0.1
WINDOW_MAX = 20_000  # rows of either set that are compared: tests of more find what does not matter


def drawn(source: Source, fields: Sequence[Field], rows: Rows, watch: Watch) -> Table:
    """These rows of a data set, in their order."""
    parts = []
    for chunk in source.chunks:
        for first_row, batch in source.read(chunk):
            low, high = np.searchsorted(rows, [first_row, first_row + batch.num_rows])
            if high > low:
                columns = {field.name: values_of(batch.column(field.name), field) for field in fields}
                parts.append(table_of(columns, batch.num_rows).take(rows[low:high] - first_row))
            watch(batch.num_rows)
    return concatenate(parts)


def find(facts: Facts, fields: Sequence[Field], reference: Table, reference_rows: int) -> Iterator[Finding]:
    """Columns that differ from the reference's."""
    yield from _columns(facts, fields)
    mine = {field.name: field.type for field in facts.fields}
    compared = [f.name for f in fields if mine.get(f.name) == f.type and f.name != facts.options.time]
    window, before = _cut(_only(facts.sample, compared)), _cut(_only(reference, compared))
    if window.rows < 50 or before.rows < 50:
        return
    prepared = Reference(before, before.sha256(), "batches")
    ks = KsConfig(window_rows=window.rows, reference_rows_max=before.rows)
    chi2 = Chi2Config(window_rows=window.rows)
    batch = FeatureBatch("screening", 0, 0, window)
    for verdict in ks.build("ks", ks.profile(prepared)).update(batch):
        yield from _drifted(verdict, ks.effect_threshold, before, window)
    for verdict in chi2.build("chi2", chi2.profile(prepared)).update(batch):
        yield from _drifted(verdict, chi2.effect_threshold, before, window)
    yield from _missing(compared, before, window)


def _columns(facts: Facts, fields: Sequence[Field]) -> Iterator[Finding]:
    mine, theirs = {f.name: f for f in facts.fields}, {f.name: f for f in fields}
    lost, new = [n for n in theirs if n not in mine], [n for n in mine if n not in theirs]
    if lost:
        yield Finding(
            "lost_columns", Severity.CRITICAL, tuple(lost), {},
            f"The reference has {listed(lost, 5)}, these rows do not.",
            "A model that was trained on the reference cannot be given these rows.", weight=1.0,
        )  # fmt: skip
    if new:
        yield Finding(
            "new_columns", Severity.INFO, tuple(new), {}, f"These rows have {listed(new, 5)}, the reference does not.",
            "Leave them out, or train again.", weight=0.1,
        )  # fmt: skip
    for name, field in mine.items():
        if name in theirs and theirs[name].type != field.type:
            yield Finding(
                "type_changed", Severity.CRITICAL, (name,), {"stored": field.stored, "reference": theirs[name].stored},
                f"{name} is {field.stored} here and {theirs[name].stored} in the reference.",
                "Bring both to one type.", weight=1.0,
            )  # fmt: skip


def _drifted(verdict: Verdict, threshold: float, before: Table, window: Table) -> Iterator[Finding]:
    assert verdict.adjusted is not None  # both tests have p-values
    for i, name in enumerate(verdict.columns):
        effect, p_value = float(verdict.effects[i]), float(verdict.adjusted[i])
        if not (effect > threshold and p_value <= P_VALUE):
            continue
        evidence = {
            "test": verdict.test,
            "statistic": float(verdict.statistics[i]),
            "p_value": p_value,
            "effect": effect,
            "effect_threshold": threshold,
            "psi": psi(before, window, name),
        }
        if name in before.numeric:
            distance = wasserstein(before.numeric[name], window.numeric[name])
            old, now = float(np.nanmedian(before.numeric[name])), float(np.nanmedian(window.numeric[name]))
            evidence["wasserstein"] = distance
            told = f"median {number(now)}, was {number(old)} (KS D={effect:.2f}, PSI {evidence['psi']:.2g}"
            told += f", {distance:.2g} deviations to carry)" if np.isfinite(distance) else ")"
        else:
            told = f"{_most_changed(before.categorical[name], window.categorical[name])} "
            told += f"(total variation {effect:.2f}, PSI {evidence['psi']:.2g})"
        yield Finding(
            "drift", Severity.CRITICAL if effect > SEVERE * threshold else Severity.WARNING, (name,), evidence,
            f"{name} is not distributed as in the reference: {told}.",
            "Find out what changed; a model of the one cannot be judged by the other.", weight=effect,
        )  # fmt: skip


def _missing(names: Sequence[str], before: Table, window: Table) -> Iterator[Finding]:
    for name in names:
        old, now = _missing_share(before, name), _missing_share(window, name)
        if abs(now - old) < MISSING_RISE:
            continue
        yield Finding(
            "missing_changed", Severity.WARNING, (name,), {"share": now, "reference_share": old},
            f"{name} is missing in {percent(now)} of the rows, and in {percent(old)} of the reference's.",
            "Find out what stopped or began to fill it.", weight=abs(now - old),
        )  # fmt: skip


def _missing_share(table: Table, name: str) -> float:
    if name in table.numeric:
        return float(np.isnan(table.numeric[name]).mean())
    return float((table.categorical[name].codes < 0).mean()) if name in table.categorical else 0.0


def psi(before: Table, window: Table, name: str) -> float:
    """The population stability index, Σ (now − then) · ln(now / then): over tenths of the reference, or categories."""
    if name in before.numeric:
        old, now = (t.numeric[name][np.isfinite(t.numeric[name])] for t in (before, window))
        edges = np.unique(np.quantile(old, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
        counts = [np.bincount(np.searchsorted(edges, v, side="left"), minlength=len(edges) + 1) for v in (old, now)]
    else:
        names = {c: i for i, c in enumerate(dict.fromkeys([*_names(before, name), *_names(window, name)]))}
        counts = [_counts(table.categorical[name], names) for table in (before, window)]
    then, new = (np.maximum(c / max(c.sum(), 1), PSI_LEAST) for c in counts)
    return float(((new - then) * np.log(new / then)).sum())


def _names(table: Table, name: str) -> tuple[str, ...]:
    return table.categorical[name].categories


def _counts(column: Categorical, names: dict[str, int]) -> Rows:
    own = np.array([names[c] for c in column.categories], np.int64)
    return np.bincount(own[column.codes[column.codes >= 0]], minlength=len(names))


def wasserstein(before: FloatArray, window: FloatArray) -> float:
    """The earth mover's distance in deviations of the reference."""
    from scipy.stats import wasserstein_distance

    old, now = before[np.isfinite(before)], window[np.isfinite(window)]
    deviation = float(old.std())
    return float(wasserstein_distance(old, now)) / deviation if deviation > 0 else np.inf


def _most_changed(before: Categorical, window: Categorical) -> str:
    names = {c: i for i, c in enumerate(dict.fromkeys([*before.categories, *window.categories]))}
    then, now = (_counts(each, names) for each in (before, window))
    shares = [c / max(c.sum(), 1) for c in (then, now)]
    most = int(np.argmax(np.abs(shares[1] - shares[0])))
    old, new = float(shares[0][most]), float(shares[1][most])
    return f"{quoted([list(names)[most]])[0]} in {percent(new)}, was in {percent(old)}"


def _only(table: Table, names: Sequence[str]) -> Table:
    numeric = {n: table.numeric[n] for n in names if n in table.numeric}
    return Table(table.rows, numeric, categorical={n: table.categorical[n] for n in names if n in table.categorical})


def _cut(table: Table) -> Table:
    step = -(-table.rows // WINDOW_MAX)
    return table.take(np.arange(0, table.rows, step)) if step > 1 else table
