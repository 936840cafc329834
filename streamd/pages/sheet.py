"""What every page is made of: the style sheet, light and dark, and the few pieces that stand on it.

Every piece takes text as it is and escapes it: names of columns and values come from strangers. The page's own policy
lets nothing be loaded, and no script run but the one that the page was made with.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

Tone = Literal["", "good", "bad", "dim"]

STYLE = """
:root { color-scheme: light dark;
  --back: #f6f6f4; --panel: #fff; --line: #e4e4e0; --text: #1d2024; --dim: #62676e; --soft: #f0f0ec;
  --one: #1f6cb0; --two: #c3272b; --three: #a85b00; --four: #2b7a4b; --good: #2b7a4b; --bad: #c3272b; }
@media (prefers-color-scheme: dark) { :root {
  --back: #0f1113; --panel: #16191c; --line: #272b30; --text: #e3e5e8; --dim: #9aa0a8; --soft: #1c2024;
  --one: #6cb2f2; --two: #ff7a73; --three: #e5a94f; --four: #64ba89; --good: #64ba89; --bad: #ff7a73; } }
@media print { :root { --back: #fff; } section, figure { break-inside: avoid; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1.5rem 3rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header { padding: 1.6rem 0 .4rem; }
h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -.015em; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.08rem; font-weight: 650; letter-spacing: -.01em; margin: 2.2rem 0 .7rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 0; }
p, figure, ul { margin: 0; padding: 0; }
p { max-width: 68ch; }
.lead { color: var(--dim); margin-top: .3rem; }
.dim, figcaption, caption { color: var(--dim); }
.good { color: var(--good); } .bad { color: var(--bad); }
.notes { list-style: none; margin: .9rem 0 0; display: grid; gap: .4rem; }
.notes li { border-left: 3px solid var(--three); padding: .15rem .8rem; max-width: 80ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin-top: 1.1rem; }
.tile, figure, .scroll { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: .75rem .95rem; }
.tile span { color: var(--dim); font-size: .85rem; }
.tile b { display: block; font-size: 1.55rem; font-weight: 600; letter-spacing: -.02em; line-height: 1.25;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile small { color: var(--dim); font-size: .8rem; }
.figures { margin-top: .9rem; display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { padding: .9rem 1rem .8rem; min-width: 0; }
figcaption { font-size: .85rem; margin-top: .35rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; color: var(--dim);
  margin: .15rem 0 .3rem; }
.legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: 3px; margin-right: .4rem;
  vertical-align: -.08rem; }
.legend .one { background: var(--one); } .legend .two { background: var(--two); }
.legend .three { background: var(--three); } .legend .four { background: var(--four); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: .85rem; padding: .6rem .9rem 0; }
th { font-weight: 500; color: var(--dim); font-size: .85rem; text-align: left; white-space: nowrap; }
th, td { padding: .42rem .9rem; border-top: 1px solid var(--line); vertical-align: baseline; }
thead th { border-top: 0; }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
.matrix table { margin-top: .6rem; }
.matrix td { text-align: center; width: 38%; padding: .9rem .4rem; border: 3px solid var(--panel); }
.matrix th { border: 0; padding: .3rem .6rem .3rem 0; white-space: normal; vertical-align: middle; }
.matrix thead th { text-align: center; }
.matrix td b { display: block; font-size: 1.25rem; font-weight: 600; }
.matrix .right { background: color-mix(in srgb, var(--good) 13%, transparent); }
.matrix .wrong { background: color-mix(in srgb, var(--bad) 13%, transparent); }
footer { color: var(--dim); font-size: .85rem; margin-top: 2.5rem; padding-top: .8rem;
  border-top: 1px solid var(--line);  overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--dim); font-variant-numeric: tabular-nums; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .name { fill: var(--text); }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--dim); stroke-width: 1; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .area { stroke: none; opacity: .22; }
svg .limit { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .chance { fill: none; stroke: var(--dim); stroke-dasharray: 2 4; }
svg .curve.one { stroke: var(--one); } svg .curve.two { stroke: var(--two); }
svg .curve.three { stroke: var(--three); } svg .curve.four { stroke: var(--four); }
svg .area.one, svg .dot.one { fill: var(--one); } svg .area.two, svg .dot.two { fill: var(--two); }
svg .area.three, svg .dot.three { fill: var(--three); } svg .area.four, svg .dot.four { fill: var(--four); }
svg .dot { stroke: var(--panel); stroke-width: 2; }
svg .box { fill: var(--soft); stroke: var(--one); stroke-width: 1.5; }
"""


class Tile(NamedTuple):
    """One figure that people look at first."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = ""


def page(title: str, lead: str, parts: Iterable[str], footer: str = "", *, style: str = "", script: str = "") -> str:
    """The whole document.

    Args:
        title, lead, footer: text.
        parts: markup, made by the functions below and by `pages.svg`.
        style: rules of this page alone, after those of every page.
        script: that runs at the end of the document.
    """
    body = "\n".join(parts)
    rules = STYLE + style
    runs = f"script-src {_hash(script)}; " if script else ""
    policy = f"default-src 'none'; style-src {_hash(rules)}; {runs}img-src data:; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<title>{escape(title)}</title>
<style>{rules}</style>
<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>
<main>
{body}
</main>
<footer>{escape(footer)}</footer>
{f"<script>{script}</script>" if script else ""}</html>
"""


def _hash(text: str) -> str:
    """How a policy names the one style sheet or script that may be there."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def notes(sentences: Sequence[str]) -> str:
    """What a reader must know before believing the figures; nothing where there is nothing."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{items}</ul>' if items else ""


def tiles(each: Iterable[Tile]) -> str:
    inner = "".join(
        f'<div class="tile"><span>{escape(t.label)}</span><b class="{t.tone}">{escape(t.value)}</b>'
        f"<small>{escape(t.detail)}</small></div>"
        for t in each
    )
    return f'<div class="tiles">{inner}</div>'


def figures(*each: str) -> str:
    """Figures beside each other where there is room."""
    return f'<div class="figures">{"".join(each)}</div>'


def figure(title: str, picture: str, caption: str = "", legend: Sequence[tuple[str, str]] = ()) -> str:
    """A picture with its title; `legend` of (colour, what it stands for), the colours `one` to `four`."""
    keys = "".join(f'<span><i class="{colour}"></i>{escape(what)}</span>' for colour, what in legend)
    shown = f'<div class="legend">{keys}</div>' if keys else ""
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{shown}{picture}{told}</figure>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", numbers: Sequence[int] = ()) -> str:
    """Rows of text; the columns at `numbers` stand to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = [' class="number"' if i in numbers else "" for i in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead><tr>{cells('th', heads)}</tr></thead>"
    return f'<div class="scroll"><table>{told}{head}<tbody>{body}</tbody></table></div>'
