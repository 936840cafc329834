"""Which settings fit these rows best, by cross-validation over blocks of neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamd.fitting.base import FitError, ScorerSettings, unwatched
from streamd.scorers import registry
from streamd.scorers.fitted import Fitted
from streamd.table import Table

FOLDS = 3
VALIDATION_SHARE = 0.2  # of the rows that a fold learns from, the last ones decide when to stop


@dataclass(frozen=True)
class Tried:
    """One candidate and what it came to.

    Attributes:
        score: with labels the AUROC on rows not learned from; without, minus the mean reconstruction error of those
            rows: see `ScorerSettings.comparable`.
        spread: the standard error of `score` over the folds.
        precision: with labels the average precision; NaN without.
        size: how many numbers were learned: of equally good ones the smallest is taken.
    """

    settings: ScorerSettings
    score: float
    spread: float
    precision: float
    size: int


def search(settings: ScorerSettings, table: Table, labels: NDArray[np.bool_] | None = None) -> list[Tried]:
    """Try `settings.candidates()`; the one to take comes first, the others by their scores.

    Taken is the smallest of those within one standard error of the best (Breiman et al. 1984, section 3.4.3): a
    larger code always reconstructs better, rows that are abnormal, too.

    Raises:
        FitError: nothing can be learned from these rows.
    """
    if labels is None and settings.comparable() is None:
        kind = settings.model_dump()["type"]
        raise FitError(f"only labels tell which {kind} is better: name their column with --labels, or search another")
    tried = [_tried(candidate, table, labels) for candidate in settings.candidates()]
    tried.sort(key=lambda each: -each.score)
    best = tried[0]
    good = [each for each in tried if each.score >= best.score - best.spread]
    taken = min(good, key=lambda each: each.size)
    return [taken, *(each for each in tried if each is not taken)]


def _tried(settings: ScorerSettings, table: Table, labels: NDArray[np.bool_] | None) -> Tried:
    fold = np.arange(table.rows) * FOLDS * 2 // table.rows % FOLDS  # each fold is two blocks
    found = [_fold(settings, table, labels, fold == number) for number in range(FOLDS)]
    scores, precisions = np.array([each[0] for each in found]), np.array([each[1] for each in found])
    spread = float(scores.std(ddof=1) / np.sqrt(FOLDS))
    return Tried(settings, float(scores.mean()), spread, float(precisions.mean()), found[0][2])


def _fold(
    settings: ScorerSettings, table: Table, labels: NDArray[np.bool_] | None, held_out: NDArray[np.bool_]
) -> tuple[float, float, int]:
    """Score, average precision and size of a fit that never saw `held_out`."""
    there = ~held_out if labels is None else ~held_out & ~labels
    rows = np.flatnonzero(there)
    cut = int((1 - VALIDATION_SHARE) * len(rows))
    if not 0 < cut < len(rows):
        raise FitError("there are too few normal rows to try anything on")
    compared = settings if labels is not None else settings.comparable()
    assert compared is not None
    learned = compared.learn(table.take(rows[:cut]), table.take(rows[cut:]), unwatched)
    fitted = Fitted(compared.kind, learned.described, learned.tensors, np.empty(0), np.inf, "")
    judged = np.flatnonzero(held_out)
    scores = registry.load(fitted, "cpu").score(table.take(judged)).values
    size = sum(array.size for array in learned.tensors.values())
    known = ~np.isnan(scores)
    if labels is None:
        return -float(scores[known].mean()), float("nan"), size
    marked = labels[judged][known]
    if marked.all() or not marked.any():
        raise FitError("the labels are too few to compare by: every third of the rows needs both kinds")
    from sklearn.metrics import average_precision_score, roc_auc_score

    ranked = scores[known]
    return float(roc_auc_score(marked, ranked)), float(average_precision_score(marked, ranked)), size
