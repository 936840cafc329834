"""Rules of rules.yaml that do not hold."""

from __future__ import annotations

from collections.abc import Iterator

from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.wording import listed, rows_of, whole


def find(facts: Facts) -> Iterator[Finding]:
    """One finding for each rule that is broken."""
    for broken in facts.summary.broken:
        if not broken.count:
            continue
        rows = broken.rows.tolist()
        first = f"row{'s' if len(rows) > 1 else ''} {listed([whole(row) for row in rows[:2]])}"
        yield Finding(
            "rule", Severity.CRITICAL, broken.columns,
            {"rule": broken.rule, "count": broken.count, "share": broken.count / facts.rows, "rows": rows},
            f"The rule `{broken.rule}` is broken in {rows_of(broken.count, facts.rows)}, first in {first}.",
            "Mend these rows or leave them out; where they are right, the rule is wrong.",
            weight=broken.count / facts.rows,
        )  # fmt: skip
