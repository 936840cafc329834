"""From rows to a Screening: two passes, then the findings.

open ──▶ time column alone ──▶ pass 1 (summaries) ──▶ bounds, forest ──▶ pass 2 (counts) ──▶ findings
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streamd.dataset import DataFileError, choose
from streamd.scorers.base import Scorer
from streamd.screening.axis import TimeSummary, merged, row_axis, time_axis
from streamd.screening.columns import column_of
from streamd.screening.engine_local import Engine, LocalEngine
from streamd.screening.facts import Facts, Options
from streamd.screening.findings import ALL, sets
from streamd.screening.findings.numeric import bounds_of
from streamd.screening.forest import grown, strange_rows
from streamd.screening.model import Axis, Finding, Screening, Severity, worst_first
from streamd.screening.numbers import NumericSummary
from streamd.screening.passes import Counted, DataSummary, Plan, Second, Watch, count, drawn_rows, summarise
from streamd.screening.rules import Rules, read_rules
from streamd.screening.sizes import Sizes
from streamd.screening.source import Source, open_source
from streamd.screening.values import Field, Numeric, fields_of, values_of

Progress = Callable[[int, int], None]
"""Told how many rows are done, of how many: each row is read twice."""

EngineName = Literal["local", "ray"]


def _unwatched(done: int, most: int) -> None:
    """The Progress that nobody looks at."""


def screen(
    data: Any,
    *,
    reference: Any = None,
    label: str | None = None,
    time: str | None = None,
    rules: Rules | str | Path | None = None,
    engine: EngineName = "local",
    window_seconds: float = 86_400.0,
    factor: float = 2.5,
    forest: bool = True,
    progress: Progress = _unwatched,
) -> Screening:
    """What is wrong with a data set, and what it looks like.

    Args:
        data: a path (Parquet, CSV, Arrow, npz, a folder of them), a pandas or polars DataFrame, a pyarrow Table.
        reference: another data set to compare with, such as the one that was trained on.
        label: the column that a model is to predict.
        time: the column that orders the rows: timestamps, dates, epoch seconds or ISO text.
        rules: what must hold; see `screening.rules`.
        engine: `ray` spreads the work over a Ray cluster; the findings are the same.
        window_seconds, factor: of the moving mean ± factor · deviation.
        forest: name the strangest rows by an isolation forest.

    Raises:
        FileNotFoundError, NotReadableError: no such file, or it may not be read.
        DataFileError: the data cannot be used; the text says why, where and what to do.
        NoRayError: Ray is asked for and is not installed.
    """
    source = open_source(data)
    names = tuple(source.schema.names)
    choose(Path(source.name), names, [name for name in (label, time) if name is not None], (), ())
    checked = rules if isinstance(rules, Rules) else Rules() if rules is None else read_rules(Path(rules))
    checked.check_names(names)
    options = Options(label, time, window_seconds, factor)
    total = 2 * source.rows
    against = None if reference is None else open_source(reference)
    if against is not None:
        total += against.rows
    done = 0

    def watch(rows: int) -> None:
        nonlocal done
        done += rows
        progress(min(done, total), total)

    with np.errstate(all="ignore"):  # sums of values near the largest double overflow: they are told of as they come
        facts, strange = _facts(source, options, checked, _engine(engine), forest, watch)
        compared = [] if against is None else list(_compared(facts, against, watch))
        return _screening(source, facts, strange, compared)


def _engine(name: EngineName) -> Engine:
    if name == "local":
        return LocalEngine()
    from streamd.screening.engine_ray import RayEngine  # an extra

    return RayEngine()


def _plan(source: Source, options: Options, rules: Rules) -> tuple[Plan, TimeSummary | None]:
    fields = fields_of(source.schema, options.time)
    times: TimeSummary | None = None
    axis: Axis = row_axis(source.rows)
    if options.time is not None:
        field = next(field for field in fields if field.name == options.time)
        times = merged(_times(source, field))
        axis = time_axis(options.time, times, len(fields), options.window_seconds)
    sizes = Sizes.of(len(fields), source.rows)
    return Plan(fields, axis, options.time, sizes, drawn_rows(source.rows, len(fields)), rules), times


def _times(source: Source, field: Field) -> Iterator[tuple[int, Any]]:
    for chunk in source.chunks:
        for first_row, batch in source.read(chunk, [field.name]):
            values = values_of(batch.column(field.name), field)
            assert isinstance(values, Numeric)
            yield first_row, values.values


def _facts(
    source: Source, options: Options, rules: Rules, engine: Engine, forest: bool, watch: Watch
) -> tuple[Facts, Scorer | None]:
    plan, times = _plan(source, options, rules)
    summary = DataSummary(plan, 0)
    for part in engine.each(partial(_summarise, plan), source, source.chunks, watch):
        summary.merge(part)
    if summary.rows != source.rows:
        raise DataFileError(f"{source.name} changed while it was read: screen a file that nobody writes to")
    sample = summary.sample()
    bounds = {}
    for field in plan.fields:
        column = summary.columns[field.name]
        if isinstance(column, NumericSummary) and (found := bounds_of(column)) is not None:
            bounds[field.name] = found
    fitted = grown(sample, plan.fields, options) if forest else None
    second = Second(bounds, fitted)
    counted = Counted({})
    for more in engine.each(partial(_count, plan, second), source, source.chunks, watch):
        counted.merge(more)
    facts = Facts(source.rows, plan.fields, plan.axis, options, summary, bounds, counted, sample, times)
    return facts, fitted


def _summarise(plan: Plan, source: Source, chunk: Any, watch: Watch) -> DataSummary:
    return summarise(source, plan, chunk, watch)


def _count(plan: Plan, second: Second, source: Source, chunk: Any, watch: Watch) -> Counted:
    return count(source, plan, second, chunk, watch)


def _compared(facts: Facts, reference: Source, watch: Watch) -> Iterator[Finding]:
    """Against another data set, by a sample of either."""
    fields = fields_of(reference.schema, facts.options.time)
    drawn = drawn_rows(reference.rows, len(fields))
    yield from sets.find(facts, fields, sets.drawn(reference, fields, drawn, watch), reference.rows)


def _screening(source: Source, facts: Facts, forest: Scorer | None, compared: list[Finding]) -> Screening:
    findings = [finding for find in ALL for finding in find(facts)] + compared
    strange = () if forest is None else strange_rows(facts, forest)
    columns = tuple(column_of(facts, field) for field in facts.fields)
    return Screening(
        source=source.name,
        rows=source.rows,
        columns=columns,
        findings=worst_first(findings),
        axis=facts.axis,
        strange_rows=strange,
        sample=facts.sample,
        suspicious=_suspicious(facts, findings),
    )


def _suspicious(facts: Facts, findings: list[Finding]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows that findings of warning or worse name: outliers, broken rules, copies."""
    loud = [finding for finding in findings if finding.severity >= Severity.WARNING]
    columns = {finding.columns[0] for finding in loud if finding.kind in ("outliers", "clump")}
    rows = [facts.counted.columns[name].tail_rows for name in sorted(columns) if name in facts.counted.columns]
    rows += [np.array(finding.evidence["rows"], np.int64) for finding in loud if "rows" in finding.evidence]
    return np.unique(np.concatenate([np.empty(0, np.int64), *rows]))
