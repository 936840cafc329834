"""The rows that a scorer finds worst: whether the served model is less sure on them, and what drove each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.worst import value_of
from streamd.fitting.base import FitError
from streamd.fitting.intervals import memory
from streamd.pages.svg import number
from streamd.scorers.base import Scorer
from streamd.table import FloatArray, PredictionKind, Table

REASONS = 2  # features that are named a row: of more, none was it
GROUP_MIN = 5  # rows of a group under which no test says anything
_EFFECTS = ((0.474, "large"), (0.33, "medium"), (0.147, "small"))  # of Cliff's delta: Romano et al. 2006


@dataclass(frozen=True)
class Reason:
    """A feature that drove a score up, what the row has there, and its share of all that drove it up."""

    feature: str
    value: float | str | None
    share: float

    def wording(self) -> str:
        """`age = 120`."""
        value = number(self.value) if isinstance(self.value, float) else self.value
        return f"{self.feature} is missing" if value is None else f"{self.feature} = {value}"


@dataclass(frozen=True)
class Case:
    """One row: its place in the data from 0, its score, the model's confidence on it, and why it scored so high."""

    row: int
    score: float
    confidence: float | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Doubt:
    """The served model's confidence (its highest probability) on the worst rows against all others.

    Attributes:
        worst_rows, other_rows: with a confidence.
        worst_median, other_median: of the confidence.
        delta: Cliff's: the chance that it is higher on a worst row than on another, less the chance that it is
            lower; −1 to 1, negative where the model is less sure on the worst rows.
        p_value: of its being so low by chance: Mann–Whitney, one-sided, for n / τ rows where they resemble those
            before them.
        sentence: all of it for people.
    """

    worst_rows: int
    other_rows: int
    worst_median: float
    other_median: float
    delta: float
    p_value: float
    sentence: str


def worst_rows(scores: FloatArray, share: float) -> NDArray[np.intp]:
    """The places of the worst `share` of (rows,) scores, worst first; NaN is no score, and never among them.

    Raises:
        FitError: no row has a score.
    """
    scored = int(np.count_nonzero(~np.isnan(scores)))
    if not scored:
        raise FitError(f"none of {len(scores)} rows has a score: there are no worst ones")
    order = np.argsort(-scores, kind="stable")  # NaN goes last
    return order[: max(1, int(share * scored))]


def confidences(values: FloatArray, kind: PredictionKind | None = None) -> FloatArray:
    """The highest probability of each row of (rows, classes) predictions; NaN where one of them is NaN.

    Args:
        kind: what they are; None: probabilities if they look like it, between 0 and 1 with a sum of 1, else logits.
            One column of probabilities is that of the second of two classes.
    """
    values = values.reshape(len(values), -1)
    if kind is None:
        known = values[~np.isnan(values).any(axis=1)]
        within = bool(((known >= 0) & (known <= 1)).all())
        sums = bool(np.allclose(known.sum(axis=1), 1.0, atol=1e-3)) or values.shape[1] == 1
        kind = "probabilities" if within and sums else "logits"
    if kind == "logits":
        values = np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(1.0 / powers.sum(axis=1))
    if values.shape[1] == 1:
        values = np.hstack([1.0 - values, values])
    return np.asarray(values.max(axis=1) / values.sum(axis=1))


def doubt(confidence: FloatArray, worst: NDArray[np.intp], memory_rows: float | None = None) -> Doubt | None:
    """Whether (rows,) confidences are lower on the rows at `worst` than on all others; None where too few have one.

    z = (U − mn/2) / √(mn(N + 1 − ties)/12) (Mann and Whitney 1947), divided by √τ for rows that resemble the ones
    before them; δ = 2U/mn − 1 (Cliff 1993).

    Args:
        memory_rows: τ; None: the confidence's autocorrelation time, 1 is the textbook test.
    """
    from scipy.stats import norm, rankdata  # scipy costs more to import than most commands take

    chosen = np.zeros(len(confidence), bool)
    chosen[worst] = True
    known = ~np.isnan(confidence)
    low, rest = confidence[known & chosen], confidence[known & ~chosen]
    m, n = len(low), len(rest)
    if min(m, n) < GROUP_MIN:
        return None
    ranks = rankdata(np.concatenate([low, rest]))
    u = float(ranks[:m].sum()) - m * (m + 1) / 2
    _, counts = np.unique(ranks, return_counts=True)
    ties = float(((counts**3 - counts) / ((m + n) * (m + n - 1))).sum())
    deviation = np.sqrt(m * n * (m + n + 1 - ties) / 12)
    memory_rows = memory(confidence) if memory_rows is None else memory_rows
    p_value = float(norm.cdf((u - m * n / 2) / deviation / np.sqrt(memory_rows))) if deviation > 0 else 1.0
    delta, medians = 2 * u / (m * n) - 1, (float(np.median(low)), float(np.median(rest)))
    return Doubt(m, n, *medians, delta, p_value, _sentence(medians, delta, p_value))


def _sentence(medians: tuple[float, float], delta: float, p_value: float) -> str:
    size = next((word for least, word in _EFFECTS if abs(delta) >= least), "negligible")
    figures = f"median confidence {medians[0]:.3g} against {medians[1]:.3g} on the others"
    tested = f"Cliff's δ {delta:+.2f}, {size}; p = {p_value:.2g}"
    if p_value <= 0.001 and size != "negligible":
        return f"The model is less sure on the worst rows: {figures} ({tested})."
    if delta < 0 and p_value < 0.05:
        return f"The model is hardly less sure on the worst rows: {figures} ({tested})."
    return f"The model is as sure on the worst rows as elsewhere, or surer: {figures} ({tested})."


# --- What drove a score ---------------------------------------------------------------------------


def reasons(table: Table, names: Sequence[str], added: FloatArray) -> list[tuple[Reason, ...]]:
    """The features that drove each row's score up the most.

    Args:
        table: the rows.
        names: of the features.
        added: (features, rows) how much each adds to the score.
    """
    found = []
    for row in range(table.rows):
        up = np.maximum(np.nan_to_num(added[:, row]), 0.0)
        total = float(up.sum())
        order = np.argsort(-up, kind="stable")[:REASONS]
        named = [i for i in order if up[i] > 0.1 * total] if total > 0 else []
        found.append(tuple(Reason(names[i], value_of(table, names[i], row), float(up[i] / total)) for i in named))
    return found


def importance(names: Sequence[str], added: FloatArray) -> Mapping[str, float]:
    """Each feature's share of all that drove the scores of (features, rows) up, the largest first."""
    up = np.maximum(np.nan_to_num(added), 0.0).sum(axis=1)
    total = float(up.sum()) or 1.0
    return {names[i]: float(up[i] / total) for i in np.argsort(-up, kind="stable")}


def explained(scorer: Scorer, rows: Table, background: Table) -> tuple[tuple[str, ...], FloatArray]:
    """How much each feature adds to the rows' scores: Shapley values, else what the scorer itself says.

    Shapley values need single columns; of images and windows the scorer's own word is taken.

    Returns:
        Names of the features, and (features, rows).
    """
    names = tuple(name for name in scorer.features if name in rows.numeric or name in rows.categorical)
    if len(names) < len(scorer.features) and any(name in rows.arrays for name in scorer.features):
        return scorer.features, scorer.score(rows).explain(np.arange(rows.rows))
    from streamd.fitting.shapley import shapley_values

    return names, shapley_values(scorer, rows, background, names)
