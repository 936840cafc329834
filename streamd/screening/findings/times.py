"""The time column: gaps, duplicates, disorder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.wording import duration, moment, percent, rows_of, whole

GAP = 10.0  # times the 99 % quantile of the steps, and of the median
REGULAR = 1.01  # the 90 % quantile is at most so many times the median: then each missing step is a gap
REPEATED_SHARE = 0.5  # of the rows with a time that another has: then the time is not meant to tell rows apart


def find(facts: Facts) -> Iterator[Finding]:
    """Findings about the column of --time."""
    times, name = facts.time, facts.options.time
    if times is None or name is None:
        return
    if times.backwards:
        share = times.backwards / times.rows
        yield Finding(
            "disorder", Severity.WARNING if share > 0.001 else Severity.INFO, (name,),
            {"count": times.backwards, "share": share, "first_row": times.first_backwards},
            f"{name} goes backwards {whole(times.backwards)} time{'s' if times.backwards > 1 else ''}, "
            f"first in row {whole(times.first_backwards)}: the rows are not in the order of their time.",
            f"Sort by {name} before you split or make features of what came before.", weight=share,
        )  # fmt: skip
    present = times.rows - times.missing
    copies = present - times.distinct.estimate
    if copies > 0 and times.distinct.exact and copies / present < REPEATED_SHARE:
        yield Finding(
            "repeated_times", Severity.WARNING if copies / present > 0.001 else Severity.INFO, (name,),
            {"count": copies, "share": copies / present},
            f"{name} has a time that an earlier row has in {rows_of(copies, times.rows)}.",
            "Find out whether these rows were recorded twice, or whether a key is missing.", weight=copies / present,
        )  # fmt: skip
    yield from _gaps(facts, name)


def _gaps(facts: Facts, name: str) -> Iterator[Finding]:
    times = facts.time
    assert times is not None
    if times.steps.count < 100:
        return
    median, p90, p99 = times.steps.at(np.array([0.5, 0.9, 0.99])).tolist()
    regular = p90 <= REGULAR * median
    limit = 1.5 * median if regular else GAP * max(median, p99)
    gaps = times.gaps[times.gaps[:, 0] > limit]
    if not len(gaps):
        return
    lost = float(gaps[:, 0].sum())
    share = lost / max(times.high - times.low, 1e-9)
    seconds, began, row = gaps[0].tolist()
    most = len(gaps) == len(times.gaps)
    grave = seconds > GAP * median and (share > 0.01 or not regular)
    yield Finding(
        "gaps", Severity.WARNING if grave else Severity.INFO, (name,),
        {
            "count": len(gaps),
            "limit_seconds": limit,
            "share": share,
            "longest": [{"seconds": s, "from": moment(b), "row": int(r)} for s, b, r in gaps[:20].tolist()],
        },
        f"{name} has {'at least ' if most else ''}{whole(len(gaps))} gap{'s' if len(gaps) > 1 else ''} longer than "
        f"{duration(limit)}, {percent(min(share, 1.0))} of the time: the longest {duration(seconds)} "
        f"from {moment(began)}, before row {whole(row)}; the usual step is {duration(median)}.",
        "Do not let windows or lags reach across it.", weight=min(share, 1.0),
    )  # fmt: skip
