"""What a screening comes to, in a sentence; for the terminal and the page."""

from __future__ import annotations

from streamd.screening.model import Screening, Severity


def counts(screening: Screening) -> dict[Severity, int]:
    """How many findings there are of each severity, the gravest first."""
    return {
        severity: sum(finding.severity is severity for finding in screening.findings)
        for severity in sorted(Severity, reverse=True)
    }


def verdict(screening: Screening) -> str:
    """Whether to train on it."""
    found = counts(screening)
    if critical := found[Severity.CRITICAL]:
        return f"Do not train on this: {_counted(critical, 'finding')} {'is' if critical == 1 else 'are'} critical."
    if warnings := found[Severity.WARNING]:
        return f"Look at {_counted(warnings, 'warning')} before you train."
    if things := found[Severity.INFO]:
        told = f"{_counted(things, 'thing')} {'is' if things == 1 else 'are'}"
        return f"Nothing speaks against training; {told} worth knowing."
    return "Nothing odd was found."


def size(screening: Screening) -> str:
    """`10,000,000 rows × 50 columns, screened in 41 s`."""
    told = f"{_counted(screening.rows, 'row')} × {_counted(len(screening.columns), 'column')}"
    return f"{told}, screened in {_duration(screening.seconds)}" if screening.seconds else told


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
