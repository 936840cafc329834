"""What `streamd screen` says in a terminal: findings as sentences, worst first, in 80 columns."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

from streamd.cli.text import printable
from streamd.screening.model import Finding, Screening, Severity
from streamd.screening.words import size, verdict

WIDTH_MAX = 80
_INDENT = 10  # behind the word of the severity
_COLOURS = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def report(console: Console, screening: Screening, most: int) -> None:
    """Print it; `most` findings of all, the worst."""
    width = min(WIDTH_MAX, console.width)
    _wrapped(console, printable(screening.source), width, "bold")
    _wrapped(console, size(screening), width, "dim")
    worst = screening.severity
    _wrapped(console, verdict(screening), width, "green" if worst is None else _COLOURS[worst])
    for finding in screening.findings[:most]:
        console.print()
        _finding(console, finding, width)
    left = screening.findings[most:]
    if left:
        console.print()
        told = ", ".join(f"{n:,} {s.word}" for s in sorted(Severity, reverse=True) if (n := _of(left, s)))
        _wrapped(
            console,
            f"{len(left):,} more findings ({told}): --top {len(screening.findings)}, or --html FILE.",
            width,
            "dim",
        )


def _of(findings: tuple[Finding, ...], severity: Severity) -> int:
    return sum(finding.severity is severity for finding in findings)


def _finding(console: Console, finding: Finding, width: int) -> None:
    """`warning   What, where, how much.` and what to do under it."""
    first, *rest = _lines(finding.sentence, width - _INDENT)
    word = finding.severity.word
    console.print(Text.assemble((f"{word:<{_INDENT}}", _COLOURS[finding.severity]), first), soft_wrap=True)
    for line in rest:
        console.print(" " * _INDENT + line, soft_wrap=True)
    for i, line in enumerate(_lines(finding.remedy, width - _INDENT - 2)):
        console.print(Text(" " * _INDENT + ("→ " if i == 0 else "  ") + line, "dim"), soft_wrap=True)


def _wrapped(console: Console, text: str, width: int, style: str) -> None:
    for line in _lines(text, width):
        console.print(Text(line, style), soft_wrap=True)


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(printable(text), max(width, 20), break_on_hyphens=False) or [""]
