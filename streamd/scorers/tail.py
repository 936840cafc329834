"""The tail of normal scores: what lies over a high level follows a generalised Pareto distribution.

Pickands, Balkema and de Haan: whatever the scores' distribution, excesses over a high enough level are nearly
generalised Pareto. So a threshold can be set by the false alarms that one will bear, further out than rows were seen:
Siffer, Fouque, Termier and Largouët 2017, Anomaly Detection in Streams with Extreme Value Theory (KDD).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamd.table import FloatArray

RATE_MAX = 0.02
"""More false alarms a row than this are no tail: take a quantile."""

PEAKS_MIN = 20  # fewer and the shape of the tail is a guess
PEAKS_WANTED = 50
PEAKS_KEPT = 1000  # of the calibration, the last ones: 8 KB a stream
CUT_RATES = 2.0


@dataclass(frozen=True)
class Tail:
    """A fitted tail, as the bundle carries it.

    Attributes:
        rate: the false alarms a row that were asked for, q.
        level: where the tail begins.
        cut: an excess over the level that twice `rate` of the rows exceed. What goes on learning learns below it.
        threshold: `rate` of the rows exceed it.
        shape: over 0 heavy, 0 exponential, under 0 bounded.
        scale: in the scores' unit.
        rows: that it was fitted on.
        peaks: those of them over the level.
        depth_rows: scores are taken less the mean of so many before them; 0: as they are.
    """

    rate: float
    level: float
    cut: float
    threshold: float
    shape: float
    scale: float
    rows: int
    peaks: int
    depth_rows: int = 0

    def survival(self, score: float) -> float:
        """How often a normal row has a higher score, for one over the level."""
        from streamd.scorers import kernels_tail

        over: float = kernels_tail.tail_survival(score - self.level, self.shape, self.scale)
        return over * self.peaks / self.rows


def fit_tail(scores: FloatArray, rate: float, depth_rows: int = 0) -> tuple[Tail, FloatArray, FloatArray]:
    """The tail of (rows,) normal scores in their order.

    The level leaves 2 % of the rows over it, or ten times `rate`, or what gives 50 peaks, whichever is the most.

    Returns:
        The tail; the excesses over the level, in their order; the last `depth_rows` scores.

    Raises:
        ValueError: too few rows to fit a tail to; the text says how many there are and are needed.

    >>> tail, excesses, _ = fit_tail(np.random.default_rng(0).exponential(size=10_000), rate=1e-3)
    >>> round(tail.threshold, 1), round(-float(np.log(1e-3)), 1)
    (6.8, 6.9)
    """
    from streamd.scorers import kernels_tail  # numba, which the command line need not wait for

    if not 0.0 < rate <= RATE_MAX:
        raise ValueError(f"a rate of {rate:g} false alarms a row is not in (0, {RATE_MAX}]: take a quantile instead")
    finite = scores[np.isfinite(scores)]
    values, past = _levelled(finite, depth_rows)
    share = max(0.02, 10 * rate, min(PEAKS_WANTED / max(len(values), 1), 0.2))
    level = float(np.quantile(values, 1 - share)) if len(values) else 0.0
    excesses = values[values > level] - level
    if len(np.unique(excesses)) < PEAKS_MIN:
        raise ValueError(
            f"a tail needs {PEAKS_MIN} different scores over its level, and {len(values)} rows have "
            f"{len(np.unique(excesses))} over {level:.4g}: calibrate on more rows, or take a quantile"
        )
    shape, scale = kernels_tail.fit_pareto(excesses, 0, 0.0)
    if not scale > 0.0:
        shape, scale = kernels_tail.moments(excesses)
    ratio = rate * len(values) / len(excesses)
    cut = kernels_tail.tail_quantile(0.0, shape, scale, CUT_RATES * ratio)
    threshold = kernels_tail.tail_quantile(level, shape, scale, ratio)
    tail = Tail(rate, level, cut, threshold, shape, scale, len(values), len(excesses), depth_rows)
    return tail, excesses, past


def _levelled(scores: FloatArray, depth_rows: int) -> tuple[FloatArray, FloatArray]:
    """Each score less the mean of the `depth_rows` before it; the first ones, which have none, are left out."""
    if depth_rows == 0:
        return scores, scores[:0]
    if len(scores) <= depth_rows:
        raise ValueError(f"{len(scores)} rows have no moving average over {depth_rows}: calibrate on more rows")
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    means = (sums[depth_rows:-1] - sums[: -depth_rows - 1]) / depth_rows
    return scores[depth_rows:] - means, scores[-depth_rows:]
