"""Categories: how many, since when, how written."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from streamd.screening.facts import Facts
from streamd.screening.model import Finding, Severity
from streamd.screening.texts import Category, TextSummary
from streamd.screening.wording import bucket, listed, quoted, rows_of, whole

IDENTIFIER_SHARE = 0.95  # different values of all rows
MANY = 1000
BURST_TIMES, BURST_MIN = 4.0, 20  # more values than in the usual bucket; new ones in all
LATE_SHARE = 0.3  # of the axis before it is first seen
LATE_ROWS_SHARE = 0.005
LATE_CHANCE = 1e-6  # that it is not seen before, were it always as common as it is since
SPELLING_MAX = 2000  # categories among which neighbours in spelling are looked for
SPELLING_LENGTH = 5  # of shorter words one letter makes another word
SPELLING_SHARE = 0.05  # of the rows of what it seems to be meant for
RARE_ROWS, RARE_SHARE = 5, 0.01


def find(facts: Facts) -> Iterator[Finding]:
    """Findings about the categorical columns, one after the other."""
    for name, summary in facts.texts():
        categories = summary.categories()
        if not categories:
            continue
        yield from _many(name, summary)
        burst = list(_burst(name, facts, summary, categories))
        yield from burst or _late(name, facts, summary, categories)
        if summary.exact:
            yield from _spellings(name, summary, categories)
            yield from _rare(name, facts, summary, categories)


def _many(name: str, summary: TextSummary) -> Iterator[Finding]:
    present = summary.rows - summary.missing
    if present < 100:
        return
    if summary.estimate >= IDENTIFIER_SHARE * present:
        yield Finding(
            "identifier", Severity.WARNING, (name,), {"distinct": summary.estimate},
            f"{name} has another value in nearly every row ({whole(summary.estimate)} in {whole(present)} rows): "
            f"it names rows.",
            "Leave it out: a model would learn the rows by heart.", weight=0.5,
        )  # fmt: skip
    elif summary.estimate > MANY:
        about = "" if summary.exact else "about "
        yield Finding(
            "many_categories", Severity.INFO, (name,), {"distinct": summary.estimate, "exact": summary.exact},
            f"{name} has {about}{whole(summary.estimate)} different values.",
            "Group the rare ones, or encode by hash or by target.", weight=min(1.0, summary.estimate / present),
        )  # fmt: skip


def _burst(name: str, facts: Facts, summary: TextSummary, categories: list[Category]) -> Iterator[Finding]:
    """Values multiply within a bucket."""
    counts, rows = summary.distinct_over_time(), summary.bucket_rows
    filled = np.flatnonzero(rows > 0)
    if len(filled) < 10:
        return
    usual = float(np.median(counts[filled]))
    enough = BURST_TIMES * max(usual, 1.0)
    # Many rows hold many values: a bucket with twice the rows may have twice as many.
    usual_rows = float(np.median(rows[filled]))
    due = counts / np.maximum(1.0, rows / max(usual_rows, 1.0))
    loud = np.flatnonzero((due > enough) & (counts - usual >= BURST_MIN))
    if not len(loud) or len(loud) > len(filled) / 3:
        return
    at = int(loud[0])
    most = int(loud[np.argmax(counts[loud])])
    first, last = at * summary.factor, min((at + 1) * summary.factor, facts.axis.buckets) - 1
    when = bucket(facts.axis, first, last)
    new = [category for category in categories if category.first_bucket >= at]
    yield Finding(
        "cardinality_burst", Severity.WARNING, (name,),
        {
            "usual": usual, "distinct": int(counts[at]), "most": int(counts[most]), "buckets": len(loud),
            "at": facts.axis.origin + first * facts.axis.width, "axis": facts.axis.kind,
            "new": [category.name for category in new[:20]],
        },
        f"{name} has {whole(int(counts[at]))} different values {when}, and usually {whole(usual)}"
        f"{'; such as ' + listed(quoted(c.name for c in new)) if new else ''}.",
        "Find out what writes these values since then: a free-text field, an identifier, a new source?",
        weight=min(1.0, len(loud) / len(filled) + 0.1),
    )  # fmt: skip


def _late(name: str, facts: Facts, summary: TextSummary, categories: list[Category]) -> Iterator[Finding]:
    """A category that is common, but only since some time."""
    if not summary.exact or len(summary.bucket_rows) < 20:
        return
    present = float(summary.bucket_rows.sum())
    late: list[tuple[Category, int]] = []
    for category in categories:
        first = category.first_bucket
        if first < 0:
            continue
        before, since = float(summary.bucket_rows[:first].sum()), float(summary.bucket_rows[first:].sum())
        if before < LATE_SHARE * present or category.rows < LATE_ROWS_SHARE * present:
            continue
        # By buckets, not by rows: rows that lie together are rarely independent.
        filled = category.filled / max(1, int(np.count_nonzero(summary.bucket_rows[first:])))
        if (1 - min(filled, 0.9)) ** first < LATE_CHANCE and category.rows / since < 0.95:
            late.append((category, first))
    if not late or len(late) > 20:
        return
    late.sort(key=lambda each: -each[0].rows)
    category, first = late[0]
    when = bucket(facts.axis, first * summary.factor, min((first + 1) * summary.factor, facts.axis.buckets) - 1)
    begins = f"from row {whole(category.first)} on" if facts.axis.kind == "rows" else f"{when} for the first time"
    yield Finding(
        "late_category", Severity.WARNING, (name,),
        {"values": [{"value": c.name, "rows": c.rows, "first_row": c.first} for c, _ in late]},
        f"{name} is {quoted([category.name])[0]} {begins}, in {rows_of(category.rows, summary.rows)} all in all"
        + (f"; {len(late) - 1} more values come as late." if len(late) > 1 else "."),
        "A split by time leaves it out of what is learned: learn from later rows, or as `other`.",
        weight=category.rows / summary.rows,
    )  # fmt: skip


def _rare(name: str, facts: Facts, summary: TextSummary, categories: list[Category]) -> Iterator[Finding]:
    rare = [c for c in categories if c.rows < RARE_ROWS]
    common = len(categories) - len(rare)
    rows = sum(c.rows for c in rare)
    if not rare or common < 2 or summary.rows < 1000 or rows > RARE_SHARE * summary.rows or len(rare) > 10 * common:
        return
    rare.sort(key=lambda each: (each.rows, each.first))
    is_label = name == facts.options.label
    yield Finding(
        "rare_categories", Severity.WARNING if is_label else Severity.INFO, (name,),
        {"count": len(rare), "rows_in_all": rows, "values": [{"value": c.name, "rows": c.rows} for c in rare[:20]]},
        f"{name}: {listed(quoted(c.name for c in rare))} occur{'s' if len(rare) == 1 else ''} in fewer than "
        f"{RARE_ROWS} of {whole(summary.rows)} rows{' each' if len(rare) > 1 else ''}.",
        "Mend what is misspelt, and group the rest as `other`.", weight=rows / summary.rows,
    )  # fmt: skip


def _spellings(name: str, summary: TextSummary, categories: list[Category]) -> Iterator[Finding]:
    """Values that seem to be one value written in several ways."""
    if not 2 <= len(categories) <= SPELLING_MAX or len(categories) > 0.5 * summary.rows:
        return
    pairs = {(a.name, b.name): b.rows for a, b in [*_same_when_folded(categories), *_a_letter_apart(categories)]}
    if not pairs:
        return
    rows = sum(pairs.values())
    shown = [f"{quoted([wrong])[0]} for {quoted([right])[0]}" for right, wrong in pairs]
    yield Finding(
        "spellings", Severity.WARNING, (name,),
        {"pairs": [{"as": r, "written": w, "rows": n} for (r, w), n in list(pairs.items())[:50]], "count": rows},
        f"{name} has values that seem to be spellings of others, in {rows_of(rows, summary.rows)}: {listed(shown)}.",
        "Write them as one value.", weight=rows / summary.rows,
    )  # fmt: skip


def _same_when_folded(categories: list[Category]) -> Iterator[tuple[Category, Category]]:
    """Alike but for case, spaces, accents and punctuation; the commonest of them first."""
    alike: dict[str, list[Category]] = defaultdict(list)
    for category in categories:
        alike[_folded(category.name)].append(category)
    for key, group in alike.items():
        best, *others = sorted(group, key=lambda each: (-each.rows, each.name))
        if key:
            yield from ((best, other) for other in others)


def _folded(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(c for c in parts if c.isalnum() or c in "+-.<>=")  # of numbers and bounds, these are the meaning
    return kept if any(c.isdigit() for c in kept) else "".join(c for c in kept if c.isalnum())


def _a_letter_apart(categories: list[Category]) -> Iterator[tuple[Category, Category]]:
    """A rare word that is one letter from a common one: both without one letter are alike (symmetric delete)."""
    words = [c for c in categories if len(c.name) >= SPELLING_LENGTH and not any(d.isdigit() for d in c.name)]
    near: dict[str, list[Category]] = defaultdict(list)
    for category in words:
        folded = category.name.casefold()
        for key in {folded, *(folded[:i] + folded[i + 1 :] for i in range(min(len(folded), 40)))}:
            near[key].append(category)
    told: set[tuple[str, str]] = set()
    for group in near.values():
        best = max(group, key=lambda each: (each.rows, each.name))
        for other in group:
            pair = (best.name, other.name)
            if other is best or pair in told or other.rows > SPELLING_SHARE * best.rows:
                continue
            if _folded(other.name) != _folded(best.name) and _one_edit(best.name.casefold(), other.name.casefold()):
                told.add(pair)
                yield best, other


def _one_edit(one: str, other: str) -> bool:
    """One letter more, less or another, or two neighbours exchanged."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[2:] == b[2:] and a[:2] == b[1::-1])
