"""An evaluation as one page for people."""

from __future__ import annotations

from html import escape

from streamd.fitting.evaluation import At, Evaluation, Histogram, Measured
from streamd.pages import sheet, svg
from streamd.pages.svg import Axis, Bars, Curve, Mark, number

_SHARES = Axis("", 0.0, 1.0, percent=True)
_KINDS = (("one", "normal rows"), ("two", "abnormal rows"))


def evaluation_page(evaluation: Evaluation, title: str, lead: str, footer: str = "") -> str:
    """The HTML document; `lead` says in a sentence what was evaluated on what."""
    parts = [_tiles(evaluation), sheet.notes(evaluation.notes)]
    parts.append(sheet.section("At the threshold", sheet.figures(_confusion(evaluation.at), _scores(evaluation))))
    if evaluation.roc:
        curves = sheet.figures(_roc(evaluation), _precision_recall(evaluation))
        parts.append(sheet.section("Over all thresholds", curves))
    if evaluation.others:
        parts.append(sheet.section("At other thresholds", _others(evaluation)))
    return sheet.page(title, lead, parts, footer)


def share(value: float | None) -> str:
    """A share as people read it, `none` where it is not defined.

    >>> share(0.987), share(0.00042), share(None)
    ('98.7 %', '0.042 %', 'none')
    """
    return "none" if value is None else f"{100 * value:.3g} %"


def between(measured: Measured, percent: bool = True) -> str:
    """Its interval, `0.91 to 0.95`; empty where there is none."""
    if measured.low is None or measured.high is None:
        return ""
    if percent:
        return f"{100 * measured.low:.3g} to {100 * measured.high:.3g} %"
    return f"{measured.low:.3f} to {measured.high:.3f}"


def _tiles(evaluation: Evaluation) -> str:
    at = evaluation.at
    base = evaluation.abnormal / evaluation.rows
    return sheet.tiles(
        [
            sheet.Tile("Precision", share(at.precision.value), between(at.precision)),
            sheet.Tile("Recall", share(at.recall.value), between(at.recall)),
            sheet.Tile("F1", _plain(at.f1), "both together"),
            sheet.Tile("False alarms", share(at.false_alarm_rate.value), "of normal rows"),
            sheet.Tile("AUROC", _plain(evaluation.auroc.value), between(evaluation.auroc, percent=False)),
            sheet.Tile("Average precision", _plain(evaluation.average_precision.value), f"{base:.3g} by chance"),
        ]
    )


def _confusion(at: At) -> str:
    """The four counts; the shares are of the row."""

    def cell(count: int, rows: int, kind: str, what: str) -> str:
        of = f"{share(count / rows)} of them" if rows else ""
        return f'<td class="{kind}"><b>{count:,}</b>{escape(what)}<br><span class="dim">{escape(of)}</span></td>'

    abnormal, normal = at.caught + at.missed, at.false_alarms + at.quiet
    return (
        f'<figure class="matrix"><h3>Rows whose score is over {escape(number(at.threshold))} alarm</h3>'
        "<table><thead><tr><th></th><th>alarm</th><th>no alarm</th></tr></thead><tbody>"
        f"<tr><th>abnormal ({abnormal:,})</th>{cell(at.caught, abnormal, 'right', 'caught')}"
        f"{cell(at.missed, abnormal, 'wrong', 'missed')}</tr>"
        f"<tr><th>normal ({normal:,})</th>{cell(at.false_alarms, normal, 'wrong', 'false alarms')}"
        f"{cell(at.quiet, normal, 'right', 'quiet')}</tr></tbody></table></figure>"
    )


def _scores(evaluation: Evaluation) -> str:
    histogram = evaluation.histogram
    shares = [_of_all(counts) for counts in (histogram.normal, histogram.abnormal)]
    x = Axis("score", histogram.edges[0], histogram.edges[-1], log=histogram.log)
    y = Axis("share of its kind", 0.0, 1.15 * max(map(max, shares)) or 1.0, percent=True)  # room for a word
    bars = [Bars("one", shares[0]), Bars("two", shares[1])]
    mark = Mark(evaluation.at.threshold, None, f"threshold {number(evaluation.at.threshold)}")
    picture = svg.histogram("Histograms of the scores of normal and abnormal rows", x, y, histogram.edges, bars, [mark])
    return sheet.figure("Scores", picture, _beyond(histogram), _KINDS)


def _beyond(histogram: Histogram) -> str:
    scale = "on a logarithmic scale; " if histogram.log else ""
    return f"Each kind by itself, {scale}the outer bins hold what lies beyond them too."


def _of_all(counts: tuple[int, ...]) -> list[float]:
    rows = sum(counts) or 1
    return [count / rows for count in counts]


def _roc(evaluation: Evaluation) -> str:
    at = evaluation.at
    marks = [Mark(at.false_alarm_rate.value or 0.0, at.recall.value or 0.0, "the threshold")]
    picture = svg.curves(
        "ROC curve: recall against the share of normal rows that alarm",
        _SHARES._replace(label="normal rows that alarm"),
        _SHARES._replace(label="abnormal rows that alarm"),
        [Curve("one", evaluation.roc)],
        marks,
        chance=True,
    )
    return sheet.figure("ROC", picture, f"AUROC {_plain(evaluation.auroc.value)}; chance is the dotted line, 0.5.")


def _precision_recall(evaluation: Evaluation) -> str:
    at, base = evaluation.at, evaluation.abnormal / evaluation.rows
    marks = (
        [Mark(at.recall.value or 0.0, at.precision.value, "the threshold")] if at.precision.value is not None else []
    )
    points = [(0.0, evaluation.precision_recall[0][1]), *evaluation.precision_recall]
    picture = svg.curves(
        "Precision against recall",
        _SHARES._replace(label="recall"),
        _SHARES._replace(label="precision"),
        [Curve("one", points), Curve("three", [(0.0, base), (1.0, base)])],
        marks,
    )
    caption = f"Average precision {_plain(evaluation.average_precision.value)}; by chance {base:.3g}."
    return sheet.figure("Precision and recall", picture, caption, (("one", "this scorer"), ("three", "chance")))


def _others(evaluation: Evaluation) -> str:
    heads = ("at", "threshold", "precision", "recall", "F1", "false alarms", "alarms")
    rows = [
        (
            at.what,
            number(at.threshold),
            share(at.precision.value),
            share(at.recall.value),
            _plain(at.f1),
            share(at.false_alarm_rate.value),
            f"{at.caught + at.false_alarms:,}",
        )
        for at in (evaluation.at, *evaluation.others)
    ]
    told = "All but the first are chosen on these very rows: on others they do a little worse."
    return sheet.table(heads, rows, told, numbers=range(1, len(heads)))


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
