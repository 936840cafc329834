"""What each column looks like, for the pictures: figures, histogram, categories, series."""

from __future__ import annotations

import math

import numpy as np

from streamd.screening.facts import Facts
from streamd.screening.findings.numeric import tail_index, worst
from streamd.screening.model import Column, Histogram, Numbers, Series
from streamd.screening.numbers import NumericSummary
from streamd.screening.summaries import OtherSummary
from streamd.screening.texts import TextSummary
from streamd.screening.values import Field

CATEGORIES_SHOWN = 30
WORST_SHOWN = 20
_NOTHING = np.empty(0)


def column_of(facts: Facts, field: Field) -> Column:
    """One column's figures."""
    summary = facts.summary.columns[field.name]
    if isinstance(summary, OtherSummary):
        return Column(field.name, "other", field.stored, summary.rows, summary.missing, 0, False)
    if isinstance(summary, TextSummary):
        return Column(
            field.name, "categorical", field.stored, summary.rows, summary.missing, summary.estimate, summary.exact,
            categories=commonest(facts, field.name, summary), series=_text_series(facts, summary),
        )  # fmt: skip
    return Column(
        field.name, field.type, field.stored, summary.rows, summary.missing, summary.different,
        summary.different_exact,
        numbers=_numbers(facts, field.name, summary), series=_number_series(facts, summary),
    )  # fmt: skip


def _numbers(facts: Facts, name: str, summary: NumericSummary) -> Numbers:
    minimum, first, median, third, maximum = summary.quantiles.at(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).tolist()
    counts, bounds = facts.counted.columns.get(name), facts.bounds.get(name)
    fences = (math.nan, math.nan) if bounds is None else bounds.fences
    edges, bars = (np.empty(0), np.empty(0, np.int64)) if bounds is None else (bounds.edges, np.empty(0, np.int64))
    if counts is not None:
        bars = counts.bars
    return Numbers(
        minimum=minimum,
        first_quartile=first,
        median=median,
        third_quartile=third,
        maximum=maximum,
        mean=summary.moments.mean if summary.moments.count else math.nan,
        deviation=summary.moments.deviation,
        skewness=summary.moments.skewness,
        excess_kurtosis=summary.moments.excess_kurtosis,
        tail_index=tail_index(summary),
        zeros=summary.zeros,
        negative=summary.negative,
        nonfinite=summary.infinities + summary.nans,
        fences=fences,
        beyond_fences=0 if counts is None else counts.fences,
        beyond_3_sigma=0 if counts is None else counts.sigma,
        worst=tuple(worst(summary.extremes, *fences)[:WORST_SHOWN]),
        histogram=Histogram(edges, bars),
    )


def _number_series(facts: Facts, summary: NumericSummary) -> Series | None:
    from streamd.screening.findings.series import moving

    if facts.axis.buckets < 2:
        return None
    means = np.where(summary.bucket_rows > 0, summary.bucket_means, np.nan)
    low, high, outside = moving(facts, summary)
    return Series(summary.bucket_rows, means, low, high, tuple(outside.tolist()), _NOTHING)


def _text_series(facts: Facts, summary: TextSummary) -> Series | None:
    if len(summary.bucket_rows) < 2:
        return None
    return Series(summary.bucket_rows, _NOTHING, _NOTHING, _NOTHING, (), summary.distinct_over_time().astype(float))


def commonest(facts: Facts, name: str, summary: TextSummary) -> tuple[tuple[str, int], ...]:
    """(value, rows), the commonest first; of a column whose values are not all remembered, as the sample has them."""
    if summary.exact:
        found = [(category.name, category.rows) for category in summary.categories()]
    else:
        column = facts.sample.categorical[name]
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.categories))
        times = facts.rows / max(facts.sample.rows, 1)
        found = [(column.categories[i], round(int(counts[i]) * times)) for i in np.flatnonzero(counts > 1).tolist()]
    return tuple(sorted(found, key=lambda each: (-each[1], each[0]))[:CATEGORIES_SHOWN])
