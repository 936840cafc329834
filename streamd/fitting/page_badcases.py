"""The worst rows as one page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamd.fitting.badcases import Case, Doubt
from streamd.pages import sheet, svg
from streamd.pages.svg import Axis, Bars, Mark, number
from streamd.table import FloatArray

BINS = 40
FEATURES_SHOWN = 12


@dataclass(frozen=True, eq=False)
class BadCases:
    """What the page shows.

    Attributes:
        scores: (rows,) of all rows.
        confidence: (rows,) the served model's; None where none was asked.
        floor: the lowest score among the worst rows.
        worst: how many of them there are.
        doubt: whether the model is less sure on them.
        cases: those that are shown, worst first.
        features: share of what drove these cases' scores, the largest first.
        negated: the score is −decision_function, and that is what people know.
    """

    scores: FloatArray
    confidence: FloatArray | None
    floor: float
    worst: int
    doubt: Doubt | None
    cases: Sequence[Case]
    features: Mapping[str, float]
    negated: bool = False


def badcases_page(found: BadCases, title: str, lead: str, notes: Sequence[str], footer: str = "") -> str:
    """The HTML document."""
    parts = [_tiles(found), sheet.notes([*([found.doubt.sentence] if found.doubt else []), *notes])]
    pictures = [_scores(found)]
    if found.confidence is not None and found.doubt is not None:
        pictures.append(_confidences(found.scores, found.confidence, found.floor))
    if found.features:
        pictures.append(_features(found))
    parts.append(sheet.figures(*pictures))
    parts.append(sheet.section("The worst rows", _table(found)))
    return sheet.page(title, lead, parts, footer)


def _tiles(found: BadCases) -> str:
    scored = int(np.count_nonzero(~np.isnan(found.scores)))
    tiles = [
        sheet.Tile("Worst rows", f"{found.worst:,}", f"of {scored:,}"),
        sheet.Tile(*_named(found, found.floor), "the least strange of them"),
    ]
    if found.doubt is not None:
        lower: sheet.Tone = "bad" if found.doubt.delta < 0 else ""
        tiles.append(sheet.Tile("Confidence on them", f"{found.doubt.worst_median:.3g}", "median", lower))
        tiles.append(sheet.Tile("On the others", f"{found.doubt.other_median:.3g}", "median"))
        tiles.append(sheet.Tile("Cliff's δ", f"{found.doubt.delta:+.2f}", f"p = {found.doubt.p_value:.2g}"))
    return sheet.tiles(tiles)


def _named(found: BadCases, score: float) -> tuple[str, str]:
    return ("Decision", number(-score)) if found.negated else ("Score", number(score))


def _scores(found: BadCases) -> str:
    finite = found.scores[np.isfinite(found.scores)]
    low, high = (float(end) for end in np.quantile(finite, [0.0, 0.999])) if len(finite) else (0.0, 1.0)
    high = max(high, found.floor if np.isfinite(found.floor) else high)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    log = low > 0 and high / low > 50
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    shares = np.histogram(np.clip(finite, low, high), edges)[0] / max(len(finite), 1)
    picture = svg.histogram(
        "Histogram of all scores",
        Axis("score", low, high, log=log),
        Axis("rows", 0.0, 1.15 * float(shares.max()) or 1.0, percent=True),
        edges.tolist(),
        [Bars("one", shares.tolist())],
        [Mark(found.floor, None, "the worst rows from here")],
    )
    return sheet.figure("Scores of all rows", picture, "On a logarithmic scale." if log else "")


def _confidences(scores: FloatArray, confidence: FloatArray, floor: float) -> str:
    edges = np.linspace(0.0, 1.0, 26)
    groups = [confidence[mask & ~np.isnan(confidence)] for mask in (scores < floor, scores >= floor)]
    shares = [np.histogram(group, edges)[0] / max(len(group), 1) for group in groups]
    picture = svg.histogram(
        "Histograms of the model's confidence on the worst rows and on the others",
        Axis("highest probability", 0.0, 1.0),
        Axis("share of its kind", 0.0, 1.1 * float(max(s.max() for s in shares)) or 1.0, percent=True),
        edges.tolist(),
        [Bars("one", shares[0].tolist()), Bars("two", shares[1].tolist())],
    )
    return sheet.figure("The model's confidence", picture, "", (("one", "other rows"), ("two", "worst rows")))


def _features(found: BadCases) -> str:
    items = [(name, share, f"{100 * share:.0f} %") for name, share in list(found.features.items())[:FEATURES_SHOWN]]
    picture = svg.bars("What drove the scores of the worst rows, by feature", items)
    return sheet.figure("What drove the worst rows", picture, f"Shapley values of {len(found.cases):,} rows, summed.")


def _table(found: BadCases) -> str:
    score = "decision" if found.negated else "score"
    heads = ["row", score, *([] if found.confidence is None else ["confidence"]), "what drove it"]
    rows = []
    for case in found.cases:
        sure = [] if found.confidence is None else ["none" if case.confidence is None else f"{case.confidence:.3f}"]
        rows.append([str(case.row), _named(found, case.score)[1], *sure, wording(case)])
    return sheet.table(heads, rows, "Rows count from 0.", numbers=range(len(heads) - 1))


def wording(case: Case) -> str:
    """`age = 120 (83 %), income = 3 (12 %)`."""
    return ", ".join(f"{r.wording()} ({100 * r.share:.0f} %)" for r in case.reasons) or "no feature by itself"
