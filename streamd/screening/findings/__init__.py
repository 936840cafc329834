"""One small module for each family of findings: pure functions from what the passes gave to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamd.screening.facts import Facts
from streamd.screening.findings import broken, categories, content, numeric, peaks, relations, rows, series, times
from streamd.screening.model import Finding

ALL: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    content.find,
    numeric.find,
    peaks.find,
    categories.find,
    relations.find,
    rows.find,
    times.find,
    series.find,
    broken.find,
)
"""Every family, in the order in which equal findings are told. `sets` wants another data set beside."""
