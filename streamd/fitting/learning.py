"""From rows that are mostly normal to a fitted scorer with its threshold: split, learn, hold out, choose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamd.fitting.base import FitError, Progress, ScorerSettings, unwatched
from streamd.fitting.split import Split, split
from streamd.fitting.thresholds import AnyThreshold, QuantileThreshold, Threshold, choose
from streamd.scorers import registry
from streamd.scorers.base import Scorer, Scores
from streamd.scorers.fitted import Fitted, Spotted
from streamd.table import FloatArray, Table

ROWS_MIN = 20  # of fewer nothing can be held out that says anything
USUAL_ROWS = 500  # that are explained to know what is usual: some scorers take milliseconds for each


@dataclass(frozen=True)
class FitOptions:
    """How a scorer is fitted, whichever it is.

    Attributes:
        threshold: how the row threshold is chosen from the scores of the rows held out.
        trim: share of the learned rows, those of the highest scores, that a second fit leaves out: data that is
            called normal is never quite clean.
    """

    threshold: AnyThreshold = field(default_factory=QuantileThreshold)
    trim: float = 0.0


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted scorer, and what is known of it."""

    fitted: Fitted
    threshold: Threshold
    scorer: Scorer
    split: Split
    trimmed: int


def fit(
    settings: ScorerSettings,
    table: Table,
    labels: NDArray[np.bool_] | None = None,
    options: FitOptions | None = None,
    progress: Progress = unwatched,
) -> Fit:
    """Learn what normal rows look like, and from which score on one is not.

    Args:
        table: rows in their order, mostly normal.
        labels: (rows,) True for what is known to be abnormal. Such rows are never learned from; they help to choose
            the threshold.

    Raises:
        FitError: nothing can be learned from these rows.
    """
    options = options or FitOptions()
    if table.rows < ROWS_MIN:
        raise FitError(f"{table.rows} rows are too few to fit: at least {ROWS_MIN}, some hundreds to be of use")
    parts = split(table)
    if labels is not None:
        parts = Split(
            parts.learned[~labels[parts.learned]], parts.validating[~labels[parts.validating]], parts.held_out
        )
    if not len(parts.learned) or not len(parts.validating):
        raise FitError("all rows are labelled abnormal: there is nothing normal to learn")
    learned, validating = table.take(parts.learned), table.take(parts.validating)
    trimmed = 0
    first = _loaded(settings, learned, validating, progress)
    if options.trim:
        kept, trimmed = _without_worst(first.scorer, learned, options.trim)
        first = _loaded(settings, kept, validating, progress)
    scores = first.scorer.score(table.take(parts.held_out))
    known = scored_rows(scores)
    held_labels = None if labels is None else labels[parts.held_out][known]
    normal = known if held_labels is None else known[~held_labels]
    threshold = choose(options.threshold, scores.values[known], held_labels)
    tail = threshold.tail
    fitted = replace(
        first.fitted,
        calibration=scores.values[normal],
        row_threshold=threshold.value,
        note=f"{first.fitted.note}; {len(normal)} rows held out",
        spot=None if tail is None else Spotted(tail.rate, tail.depth_rows),
        usual=usual_shares(scores, normal),
    )
    return Fit(fitted, threshold, first.scorer, parts, trimmed)


def scored_rows(scores: Scores) -> NDArray[np.intp]:
    """The places of the rows that were held out and have a score. Raises FitError where none has."""
    known = np.flatnonzero(~np.isnan(scores.values))
    if not len(known):
        raise FitError("no row that was held out has a score: their columns are all missing")
    return known


def usual_shares(scores: Scores, rows: NDArray[np.intp]) -> FloatArray:
    """(features,) what share of the scores of these rows each feature adds, on average."""
    from streamd.scorers import kernels  # numba, which the command line need not wait for

    parts = np.ascontiguousarray(scores.explain(rows[:: 1 + len(rows) // USUAL_ROWS]))
    shares: FloatArray = np.zeros(len(parts))
    shares /= max(1, kernels.add_shares(parts, parts.shape[1], shares))
    return shares


@dataclass(frozen=True, eq=False)
class _First:
    fitted: Fitted
    scorer: Scorer


def _loaded(settings: ScorerSettings, learned: Table, validating: Table, progress: Progress) -> _First:
    """What was learned, read again from what will be written: no other thing is ever judged with."""
    result = settings.learn(learned, validating, progress)
    fitted = Fitted(settings.kind, result.described, result.tensors, np.empty(0), np.inf, result.note)
    return _First(fitted, registry.load(fitted, "cpu"))


def _without_worst(scorer: Scorer, table: Table, share: float) -> tuple[Table, int]:
    scores: FloatArray = scorer.score(table).values
    count = int(share * table.rows)
    worst = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:count]
    return table.take(np.setdiff1d(np.arange(table.rows), worst)), count
