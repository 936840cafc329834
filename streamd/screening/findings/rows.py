"""Whole rows: copies of others, and those that an isolation forest sets apart."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.numbers import NumericSummary
from streamd.screening.summaries import OtherSummary
from streamd.screening.texts import TextSummary
from streamd.screening.wording import listed, rows_of, whole

SURPRISING = 0.01  # of the copies that were found, at most so many are to be expected by chance
WARNING_SHARE = 0.001


def find(facts: Facts) -> Iterator[Finding]:
    """Copies of rows."""
    hashes = facts.summary.row_hashes
    copies = int((hashes.counts - 1).sum()) << hashes.level
    uncompared = any(isinstance(s, OtherSummary) and s.missing < s.rows for s in facts.summary.columns.values())
    if not copies or uncompared:
        return
    expected = _expected(facts)
    surprising = expected < SURPRISING * copies
    share = copies / facts.rows
    most = np.lexsort((hashes.firsts, -hashes.counts))[:3]
    rows = [int(row) for row, count in zip(hashes.firsts[most], hashes.counts[most], strict=True) if count > 1]
    about = "" if hashes.exact else "about "
    loud = surprising and (share >= WARNING_SHARE or copies >= 100)
    yield Finding(
        "duplicate_rows",
        Severity.WARNING if loud else Severity.INFO,
        (),
        {"count": copies, "share": share, "exact": hashes.exact, "expected": expected, "first_of": rows},
        f"{about.capitalize()}{rows_of(copies, facts.rows)} are copies of an earlier row"
        f"{'' if surprising else ', as columns of so few values make likely'}, such as of "
        f"row{'s' if len(rows) > 1 else ''} {listed([whole(row) for row in rows])}.",
        "Leave the copies out, or they land on both sides of a split and are learned twice." if surprising
        else "Look whether a key is missing; where equal rows are different cases, keep them.",
        weight=share,
    )  # fmt: skip


def _expected(facts: Facts) -> float:
    """How many copies there would be were the columns independent: n²/2 times the chance that two rows are equal."""
    logarithm = 2 * math.log(facts.rows) - math.log(2)
    for summary in facts.summary.columns.values():
        if isinstance(summary, TextSummary) and summary.exact:
            shares = summary.distinct.counts / summary.rows
        elif isinstance(summary, NumericSummary) and summary.quantiles.exact:
            shares = summary.quantiles.times / summary.rows
        elif isinstance(summary, NumericSummary | TextSummary):
            different = summary.estimate if isinstance(summary, TextSummary) else summary.different
            shares = np.array([1 / math.sqrt(max(different, 1))])
        else:
            continue
        missing = summary.missing / summary.rows
        equal = float((shares**2).sum()) + missing**2
        logarithm += (
            math.log(max(equal, 1e-300)) / 2
        )  # half: columns are rarely independent, which makes copies likelier
    return math.exp(min(logarithm, 700.0))
