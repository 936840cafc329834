"""A screening as one page for people: findings first, then each column with its pictures. Works from disk."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from streamd import __version__
from streamd.pages import sheet
from streamd.screening.model import Screening, Severity
from streamd.screening.page_data import page_data
from streamd.screening.page_findings import findings_list
from streamd.screening.words import counts, size, verdict

_FRAME_PIXELS = 760
_HEADS = (  # what to sort by, what people read, class
    ("place", "#", "number place"),
    ("name", "Column", ""),
    ("found", "Findings", "found"),
    ("missing", "Missing", "number share"),
    ("distinct", "Distinct", "number count"),
    ("", "Typical", "number typical"),
    ("", "Distribution", "small"),
)


def page(screening: Screening) -> str:
    """The HTML document; it loads nothing, and its script is its own."""
    parts = [
        _verdict(screening),
        _tiles(screening),
        _bar(screening),
        _findings(screening),
        _columns(screening),
        _strange_rows(screening),
        f'<script type="application/json" id="data">{page_data(screening).decode()}</script>',
    ]
    title = Path(screening.source).name or screening.source
    where = "" if title == screening.source else f"{screening.source} · "
    footer = f"{where}Rows are counted from 0. · streamd {__version__}"
    return sheet.page(title, size(screening), parts, footer, style=_part("page.css"), script=_script())


def notebook(screening: Screening) -> str:
    """The page in a frame of its own, so that neither its style nor its script reaches the notebook's."""
    return (
        f'<iframe srcdoc="{escape(page(screening))}" sandbox="allow-scripts" title="{escape(verdict(screening))}" '
        f'style="width: 100%; height: {_FRAME_PIXELS}px; border: 0; border-radius: 10px"></iframe>'
    )


def _part(name: str) -> str:
    return (files("streamd.screening") / name).read_text(encoding="utf-8")


def _script() -> str:
    return _part("page.js") + _part("page_draw.js")


def _verdict(screening: Screening) -> str:
    worst = screening.severity
    kind = "calm" if worst is None or worst is Severity.INFO else worst.word
    return f'<p class="verdict {kind}"><i class="mark {kind}"></i><span>{escape(verdict(screening))}</span></p>'


def _tiles(screening: Screening) -> str:
    cells = screening.rows * len(screening.columns)
    missing = sum(column.missing for column in screening.columns)
    found = counts(screening)
    kinds = [column.type for column in screening.columns]
    told = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds))
    return sheet.tiles(
        [
            *(sheet.Tile(s.word.capitalize(), f"{n:,}", _MEANING[s], _tone(s, n)) for s, n in found.items()),
            sheet.Tile("Rows", f"{screening.rows:,}", f"{len(screening.suspicious):,} of them suspicious"),
            sheet.Tile("Columns", f"{len(screening.columns):,}", told),
            sheet.Tile("Missing", f"{100 * missing / cells:.2g} %" if cells else "none", "of all cells"),
        ]
    )


def _tone(severity: Severity, count: int) -> sheet.Tone:
    return "dim" if not count else "bad" if severity is Severity.CRITICAL else ""


_MEANING = {
    Severity.CRITICAL: "do not train on this",
    Severity.WARNING: "look before training",
    Severity.INFO: "worth knowing",
}


def _bar(screening: Screening) -> str:
    """What the script needs of a person: hidden where there is no script."""
    chips = "".join(
        f'<button type="button" class="chip {severity.word}" data-severity="{severity.word}" aria-pressed="true">'
        f'<i class="mark"></i>{count:,} {severity.word}</button>'
        for severity, count in counts(screening).items()
        if count
    )
    return (
        '<div class="bar" role="search" data-needs-script hidden>'
        '<label><span class="unseen">Search findings and columns</span><input id="search" type="search" '
        'placeholder="Search a column, a finding, a word     /" autocomplete="off" spellcheck="false"></label>'
        f"{chips}</div>"
    )


def _findings(screening: Screening) -> str:
    return (
        '<section><h2>Findings <small>worst first</small><small id="findings-told" aria-live="polite"></small></h2>'
        f"{findings_list(screening)}"
        '<p class="none" id="no-findings" hidden>No finding matches.</p>'
        '<button type="button" class="more" id="more-findings" hidden></button></section>'
    )


def _columns(screening: Screening) -> str:
    heads = [*_HEADS]
    if screening.axis is not None:
        heads.append(("", "Over time" if screening.axis.kind == "time" else "Over the rows", "small time"))
    cells = "".join(
        f'<th scope="col" class="{kind}" data-sort="{key}"><button type="button">{word}</button></th>'
        if key
        else f'<th scope="col" class="{kind}">{word}</th>'
        for key, word, kind in heads
    )
    return (
        '<section><h2>Columns <small id="columns-told" aria-live="polite"></small></h2>'
        "<noscript><p>The columns are drawn by a script in this page. The findings need none.</p></noscript>"
        '<div class="scroll" data-needs-script hidden><table class="columns">'
        '<caption class="unseen">Each column of the data; its name opens its pictures</caption>'
        f'<thead><tr>{cells}</tr></thead><tbody id="rows"></tbody></table>'
        '<p class="none" id="no-columns" hidden>No column matches.</p></div>'
        '<button type="button" class="more" id="more-columns" hidden></button></section>'
    )


def _strange_rows(screening: Screening) -> str:
    if not screening.strange_rows:
        return ""
    rows = [
        (
            f"{each.row:,}",
            f"{each.score:.3f}",
            ", ".join(f"{column} = {value} ({100 * share:.0f} %)" for column, value, share in each.reasons)
            or "no column by itself",
        )
        for each in screening.strange_rows
    ]
    told = "Rows that an isolation forest sets apart from the others, and what drove each."
    return sheet.section("The strangest rows", sheet.table(("row", "score", "why"), rows, told, numbers=(0, 1)))
