"""The findings of a screening as markup, which needs no script. Text from strangers is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from streamd.pages.svg import number
from streamd.screening.model import Finding, Screening

FINDINGS_MAX = 1000  # on the page: a person reads the first ten
_COLUMNS_NAMED = 6
_VALUES_LISTED = 8
_CHARACTERS_MAX = 300


def findings_list(screening: Screening) -> str:
    """All of them, worst first, or the worst thousand and how many more there are."""
    if not screening.findings:
        return '<p class="findings none">No column, row or pair of columns is odd.</p>'
    places: dict[str, int] = {}
    for place, column in enumerate(screening.columns):
        places.setdefault(column.name, place)
    shown = screening.findings[:FINDINGS_MAX]
    items = "".join(_item(i, finding, places) for i, finding in enumerate(shown))
    left = len(screening.findings) - len(shown)
    more = f'<p class="none">{left:,} more are in the JSON: --json FILE.</p>' if left else ""
    return f'<ol class="findings">{items}</ol>{more}'


def _item(place: int, finding: Finding, places: Mapping[str, int]) -> str:
    about = f"<span>{escape(_words(finding.kind))}</span>{_links(finding, places)}{_evidence(finding)}"
    known = [places[name] for name in finding.columns if name in places]
    word = finding.severity.word
    return (
        f'<li class="finding {word}" id="finding-{place}" data-severity="{word}" '
        f'data-columns="{" ".join(map(str, known))}">'
        f'<span class="severity"><i class="mark"></i>{word}</span><div>'
        f'<p class="sentence">{escape(finding.sentence)}</p><p class="remedy">{escape(finding.remedy)}</p>'
        f'<div class="about">{about}</div></div></li>'
    )


def _links(finding: Finding, places: Mapping[str, int]) -> str:
    links = [
        f'<a href="#column-{places[name]}">{escape(name)}</a>' if name in places else f"<span>{escape(name)}</span>"
        for name in finding.columns[:_COLUMNS_NAMED]
    ]
    left = len(finding.columns) - _COLUMNS_NAMED
    return "".join(links) + (f"<span>and {left:,} more</span>" if left > 0 else "")


def _evidence(finding: Finding) -> str:
    pairs = "".join(
        f"<dt>{escape(_words(name))}</dt><dd>{escape(_told(value))}</dd>" for name, value in finding.evidence.items()
    )
    return f"<details><summary>evidence</summary><dl>{pairs}</dl></details>" if pairs else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _told(value: Any) -> str:
    """A value of the evidence as people read it."""
    if isinstance(value, Mapping):
        told = ", ".join(f"{_words(str(key))} {_told(each)}" for key, each in list(value.items())[:_VALUES_LISTED])
        told += ", …" if len(value) > _VALUES_LISTED else ""
    elif isinstance(value, list | tuple):
        told = ", ".join(map(_told, value[:_VALUES_LISTED])) + (", …" if len(value) > _VALUES_LISTED else "") or "none"
    elif isinstance(value, bool) or value is None:
        told = {True: "yes", False: "no", None: "none"}[value]
    else:
        told = f"{value:,}" if isinstance(value, int) else number(value) if isinstance(value, float) else str(value)
    return told if len(told) <= _CHARACTERS_MAX else told[: _CHARACTERS_MAX - 1] + "…"
