"""How good a scorer is on labelled rows: at its threshold, and over all thresholds. Never accuracy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.fitting.base import FitError
from streamd.fitting.curves import Counts, count_over
from streamd.fitting.intervals import NORMAL_QUANTILE, Interval, share_interval
from streamd.table import FloatArray

CURVE_POINTS = 400  # more than a picture has pixels between
BINS = 40
FALSE_ALARM_RATES = (0.001, 0.01, 0.05)
RECALLS = (0.5, 0.9)


@dataclass(frozen=True)
class Measured:
    """A figure with its interval at 95 % confidence; None where these rows do not give it."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class At:
    """What one threshold does to these rows.

    Attributes:
        what: why this threshold: `the bundle's`, `the best F1`, ….
        caught, missed: abnormal rows with and without an alarm (true positives, false negatives).
        false_alarms, quiet: normal rows with and without one (false positives, true negatives).
    """

    what: str
    threshold: float
    caught: int
    missed: int
    false_alarms: int
    quiet: int
    precision: Measured
    recall: Measured
    f1: float | None
    false_alarm_rate: Measured


@dataclass(frozen=True)
class Histogram:
    """Rows per bin of the score, each kind by itself. The outer bins hold what lies beyond the edges too."""

    edges: tuple[float, ...]
    normal: tuple[int, ...]
    abnormal: tuple[int, ...]
    log: bool


@dataclass(frozen=True)
class Evaluation:
    """All of it.

    Attributes:
        rows: with a score and a label.
        abnormal: of those.
        unscored: rows without a score, which are in nothing else here.
        at: at the bundle's threshold.
        others: at other thresholds that one may prefer, none where the labels have one kind.
        auroc: the chance that an abnormal row has a higher score than a normal one.
        average_precision: the area under the precision–recall curve, by steps. By chance it is abnormal / rows.
        roc: points of false-alarm rate and recall; precision_recall: of recall and precision.
        notes: what a reader must know before believing the figures.
    """

    rows: int
    abnormal: int
    unscored: int
    at: At
    others: tuple[At, ...]
    auroc: Measured
    average_precision: Measured
    roc: tuple[tuple[float, float], ...]
    precision_recall: tuple[tuple[float, float], ...]
    histogram: Histogram
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        return asdict(self)


def evaluate(scores: FloatArray, labels: NDArray[np.bool_], threshold: float) -> Evaluation:
    """Judge (rows,) scores by (rows,) labels, True for abnormal. A row without a score (NaN) is left out, and told.

    Raises:
        FitError: no row has both.
    """
    known = ~np.isnan(scores)
    scores, labels = scores[known], labels[known]
    if not len(scores):
        raise FitError(f"none of {len(known)} labelled rows has a score: there is nothing to evaluate")
    counts = count_over(scores, labels)
    both = bool(counts.abnormal and counts.normal)
    caught = int(np.count_nonzero(labels & (scores > threshold)))
    false_alarms = int(np.count_nonzero(~labels & (scores > threshold)))
    return Evaluation(
        rows=len(scores),
        abnormal=counts.abnormal,
        unscored=int(np.count_nonzero(~known)),
        at=_at("the bundle's", threshold, caught, false_alarms, counts),
        others=_others(counts) if both else (),
        auroc=_auroc(scores, labels) if both else Measured(None),
        average_precision=_average_precision(counts) if both else Measured(None),
        roc=_thinned(counts.false_alarm_rate, counts.recall) if both else (),
        precision_recall=_thinned(counts.recall[1:], counts.precision[1:]) if both else (),
        histogram=_histogram(scores, labels, threshold),
        notes=_notes(counts, int(np.count_nonzero(~known))),
    )


def _notes(counts: Counts, unscored: int) -> tuple[str, ...]:
    found = []
    if not counts.abnormal:
        found.append("No row is labelled abnormal: recall, AUROC and average precision are not defined.")
    elif not counts.normal:
        found.append("No row is labelled normal: false alarms, AUROC and what follows from them are not defined.")
    elif counts.abnormal < 30:
        found.append(f"Only {counts.abnormal} abnormal rows: the intervals are wide, and that is what they mean.")
    if unscored:
        rows = "1 row has" if unscored == 1 else f"{unscored:,} rows have"
        found.append(f"{rows} no score, since no column that the scorer reads is there: they are left out.")
    return tuple(found)


# --- At one threshold -----------------------------------------------------------------------------


def _at(what: str, threshold: float, caught: int, false_alarms: int, counts: Counts) -> At:
    alarms, f1_of = caught + false_alarms, caught + false_alarms + counts.abnormal
    return At(
        what=what,
        threshold=threshold,
        caught=caught,
        missed=counts.abnormal - caught,
        false_alarms=false_alarms,
        quiet=counts.normal - false_alarms,
        precision=_share(caught, alarms),
        recall=_share(caught, counts.abnormal),
        f1=2 * caught / f1_of if counts.abnormal else None,
        false_alarm_rate=_share(false_alarms, counts.normal),
    )


def _share(hits: int, rows: int) -> Measured:
    return Measured(hits / rows if rows else None, *share_interval(hits, rows))


def _others(counts: Counts) -> tuple[At, ...]:
    """The best F1, and the points of the curves that people ask for."""
    places = {"the best F1": int(np.argmax(counts.f1))}
    for rate in FALSE_ALARM_RATES:
        place = int(np.flatnonzero(counts.false_alarm_rate <= rate)[-1])
        if place and counts.normal * rate >= 1:
            places[f"{100 * rate:g} % false alarms"] = place
    for recall in RECALLS:
        places[f"{100 * recall:g} % recall"] = int(np.argmax(counts.recall >= recall))
    return tuple(
        _at(what, float(counts.thresholds[i]), int(counts.caught[i]), int(counts.false[i]), counts)
        for what, i in places.items()
    )


# --- Over all thresholds --------------------------------------------------------------------------


def _auroc(scores: FloatArray, labels: NDArray[np.bool_]) -> Measured:
    """With the interval of DeLong, DeLong and Clarke-Pearson 1988, from ranks (Sun and Xu 2014)."""
    from scipy.stats import rankdata  # scipy costs more to import than most commands take

    abnormal, normal = scores[labels], scores[~labels]
    m, n = len(abnormal), len(normal)
    among_all = rankdata(np.concatenate([abnormal, normal]))
    over_normal = (among_all[:m] - rankdata(abnormal)) / n  # of each abnormal row: the normal ones under it
    under_abnormal = 1.0 - (among_all[m:] - rankdata(normal)) / m
    area = float(over_normal.mean())
    if min(m, n) < 2:
        return Measured(area)
    deviation = float(np.sqrt(over_normal.var(ddof=1) / m + under_abnormal.var(ddof=1) / n))
    low, high = area - NORMAL_QUANTILE * deviation, area + NORMAL_QUANTILE * deviation
    return Measured(area, max(low, 0.0), min(high, 1.0))


def _average_precision(counts: Counts) -> Measured:
    """With the logit interval of Boyd, Eng and Page 2013."""
    area = float(np.sum(np.diff(counts.recall) * counts.precision[1:]))
    low, high = _logit_interval(area, counts.abnormal)
    return Measured(area, low, high)


def _logit_interval(share: float, rows: int) -> Interval:
    if not 0.0 < share < 1.0:
        return None, None
    middle, half = np.log(share / (1 - share)), NORMAL_QUANTILE / np.sqrt(rows * share * (1 - share))
    return float(1 / (1 + np.exp(half - middle))), float(1 / (1 + np.exp(-half - middle)))


def _thinned(x: FloatArray, y: FloatArray) -> tuple[tuple[float, float], ...]:
    """The curve's points, of many as many as a picture can show, its ends among them."""
    if len(x) > CURVE_POINTS:
        along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], CURVE_POINTS)).clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return tuple(zip(x.round(5).tolist(), y.round(5).tolist(), strict=True))


def _histogram(scores: FloatArray, labels: NDArray[np.bool_], threshold: float) -> Histogram:
    """Bins over the middle of the scores; logarithmic where they are positive and reach over many decades."""
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return Histogram((0.0, 1.0), (0,), (0,), False)
    kinds = [kind for kind in (scores[labels], scores[~labels]) if np.isfinite(kind).any()]
    ends = np.array([np.quantile(kind[np.isfinite(kind)], [0.005, 0.995]) for kind in kinds])
    low, high = float(ends.min()), float(ends.max())
    low, high = (min(low, threshold), max(high, threshold)) if np.isfinite(threshold) else (low, high)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    log = low > 0 and high / low > 50
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    inside = np.clip(scores, low, high)
    normal, abnormal = (np.histogram(inside[kind], edges)[0].tolist() for kind in (~labels, labels))
    return Histogram(tuple(edges.tolist()), tuple(normal), tuple(abnormal), log)
