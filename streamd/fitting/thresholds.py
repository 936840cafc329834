"""From which score on a row is called abnormal: a pure function of calibration scores, and of labels.

Every threshold comes with the interval that so many rows support, and with a sentence. A row alarms whose score is
over the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.fitting.base import FitError
from streamd.fitting.curves import Counts, count_over
from streamd.fitting.intervals import Interval, bootstrap_interval, memory, quantile_interval
from streamd.fitting.tail import tail_interval
from streamd.scorers.tail import RATE_MAX, Tail, fit_tail
from streamd.settings import Settings
from streamd.table import FloatArray

Labels = NDArray[np.bool_]

SCORES_MIN = 20  # of fewer a spread is a guess
CLASS_MIN = 10  # rows of a class under which drawing them again says nothing
MAD_TO_DEVIATION = 1.4826022185056018  # 1 / Φ⁻¹(3/4): the two agree on normal scores
EXTRAPOLATION_MAX = 100.0  # a threshold further out than one row in a hundred times those seen is invention


@dataclass(frozen=True)
class Threshold:
    """A threshold and what is known of it.

    Attributes:
        value: rows whose score is over it alarm.
        method: of the settings that chose it.
        low, high: its interval at 95 % confidence; None where the rows give no such end.
        rows: scores that it was chosen from.
        sentence: all of it for people.
        tail: of the method `evt`, with which SPOT goes on.
    """

    value: float
    method: str
    low: float | None
    high: float | None
    rows: int
    sentence: str
    tail: Tail | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Threshold:
        """The inverse of `to_json`. Raises TypeError where a part is missing."""
        tail = told.get("tail")
        return cls(**{**told, "tail": tail and Tail(**tail)})


# --- Of normal scores alone -----------------------------------------------------------------------


class QuantileThreshold(Settings):
    """A share of normal rows is over it."""

    method: Literal["quantile"] = "quantile"
    level: float = Field(default=0.95, gt=0, lt=1)
    """The share of normal rows that do not alarm. One row in twenty is what people can still look at."""

    def choose(self, scores: FloatArray) -> tuple[float, Interval, str]:
        needed = int(np.ceil(round(1 / (1 - self.level), 6)))
        if len(scores) < needed:
            raise FitError(
                f"the {self.level:.10g} quantile of {len(scores)} scores lies beyond them all: it takes {needed} or "
                "more; take a lower level, or method evt"
            )
        interval = quantile_interval(np.sort(scores), self.level, memory(scores))
        return float(np.quantile(scores, self.level)), interval, f"the {100 * self.level:.10g} % quantile"


class SigmaThreshold(Settings):
    """The mean and some standard deviations."""

    method: Literal["sigma"] = "sigma"
    deviations: float = Field(default=3.0, gt=0)
    """One normal score in 740 is over three, if scores are normally distributed, which they rarely are."""

    def choose(self, scores: FloatArray) -> tuple[float, Interval, str]:
        def statistic(values: FloatArray) -> float:
            return float(values.mean() + self.deviations * values.std(ddof=1))

        return statistic(scores), _redrawn(scores, statistic), f"mean + {self.deviations:g} standard deviations"


class MadThreshold(Settings):
    """The median and some deviations, estimated by the median absolute deviation: a few wild scores change nothing."""

    method: Literal["mad"] = "mad"
    deviations: float = Field(default=3.0, gt=0)
    """Of 1.4826 median absolute deviations each, which is the standard deviation of normal scores."""

    def choose(self, scores: FloatArray) -> tuple[float, Interval, str]:
        def statistic(values: FloatArray) -> float:
            middle = np.median(values)
            spread = MAD_TO_DEVIATION * np.median(np.abs(values - middle))
            return float(middle + self.deviations * spread)

        return statistic(scores), _redrawn(scores, statistic), f"median + {self.deviations:g} deviations by the MAD"


class EvtThreshold(Settings):
    """The false alarms a row that are wanted, by extreme value theory: further out than the rows themselves reach."""

    method: Literal["evt"] = "evt"
    rate: float = Field(default=1e-3, gt=0, le=RATE_MAX)
    """False alarms a row, q. At a thousand rows a batch one a batch."""
    depth_rows: int = Field(default=0, ge=0)
    """Scores less the mean of so many rows before them: for scores that drift. 0: as they are."""


# --- Of labelled scores ---------------------------------------------------------------------------


class BestF1Threshold(Settings):
    """Where F1, the harmonic mean of precision and recall, is highest."""

    method: Literal["best_f1"] = "best_f1"

    def place(self, counts: Counts) -> int:
        return int(np.argmax(counts.f1))

    def wording(self) -> str:
        return "the best F1"


class RecallThreshold(Settings):
    """The highest that still finds a chosen share of the abnormal rows."""

    method: Literal["recall"] = "recall"
    recall: float = Field(default=0.9, gt=0, le=1)

    def place(self, counts: Counts) -> int:
        return int(np.argmax(counts.recall >= self.recall - 1e-12))

    def wording(self) -> str:
        return f"a recall of {self.recall:g}"


class PrecisionThreshold(Settings):
    """The lowest at which a chosen share of the alarms is right."""

    method: Literal["precision"] = "precision"
    precision: float = Field(default=0.9, gt=0, le=1)

    def place(self, counts: Counts) -> int:
        reached = np.flatnonzero((counts.precision >= self.precision - 1e-12) & (counts.caught > 0))
        if not len(reached):
            best = float(counts.precision[1:].max(initial=0.0))
            raise FitError(f"no threshold has a precision of {self.precision:g}: the best is {best:.3g}")
        return int(reached[-1])

    def wording(self) -> str:
        return f"a precision of {self.precision:g}"


class CostThreshold(Settings):
    """Where false alarms and misses cost the least together."""

    method: Literal["cost"] = "cost"
    false_alarm_cost: float = Field(default=1.0, gt=0)
    miss_cost: float = Field(default=10.0, gt=0)
    """Of one abnormal row that is not found, in the unit of the other."""

    def place(self, counts: Counts) -> int:
        missed = counts.abnormal - counts.caught
        return int(np.argmin(self.false_alarm_cost * counts.false + self.miss_cost * missed))

    def wording(self) -> str:
        return f"the least cost, {self.false_alarm_cost:g} a false alarm and {self.miss_cost:g} a miss"


class YoudenThreshold(Settings):
    """Where recall less the false-alarm rate is highest: ROC's point furthest from chance (Youden 1950)."""

    method: Literal["youden"] = "youden"

    def place(self, counts: Counts) -> int:
        return int(np.argmax(counts.recall - counts.false_alarm_rate))

    def wording(self) -> str:
        return "Youden's point"


_Normal = QuantileThreshold | SigmaThreshold | MadThreshold
_Labelled = BestF1Threshold | RecallThreshold | PrecisionThreshold | CostThreshold | YoudenThreshold
AnyThreshold = Annotated[_Normal | _Labelled | EvtThreshold, Field(discriminator="method")]


def choose(settings: AnyThreshold, scores: FloatArray, labels: Labels | None = None) -> Threshold:
    """The threshold that the settings ask for.

    Args:
        scores: (rows,) in their order, of rows that the scorer did not learn from. Those that are not finite are
            left out.
        labels: (rows,) True for abnormal. What needs no labels is chosen from the normal rows then.

    Raises:
        FitError: these rows cannot give it; the text says why and what would.
    """
    finite = np.isfinite(scores)
    scores, labels = scores[finite], None if labels is None else labels[finite]
    left_out = int(len(finite) - len(scores))
    if isinstance(settings, _Labelled):
        threshold = _of_labelled(settings, scores, labels)
    else:
        normal = scores if labels is None else scores[~labels]
        if len(normal) < SCORES_MIN:
            raise FitError(f"{len(normal)} normal scores are too few for a threshold: it takes {SCORES_MIN} or more")
        threshold = _of_tail(settings, normal) if isinstance(settings, EvtThreshold) else _of_normal(settings, normal)
    if not left_out:
        return threshold
    more = f"; {left_out} rows without a finite score were left out"
    return Threshold(**{**threshold.__dict__, "sentence": threshold.sentence + more})


def _of_normal(settings: _Normal, scores: FloatArray) -> Threshold:
    value, interval, what = settings.choose(scores)
    return _threshold(value, settings.method, interval, len(scores), f"{what} of {len(scores):,} scores")


def _of_tail(settings: EvtThreshold, scores: FloatArray) -> Threshold:
    rows, rate = len(scores), settings.rate
    if rate * rows * EXTRAPOLATION_MAX < 1:
        raise FitError(
            f"{rows} scores say nothing of one row in {1 / rate:,.0f}: calibrate on "
            f"{int(np.ceil(1 / (rate * EXTRAPOLATION_MAX))):,} or more, or take a higher rate"
        )
    try:
        tail, excesses, past = fit_tail(scores, rate, settings.depth_rows)
    except ValueError as error:
        raise FitError(str(error)) from error
    shift = float(past.mean()) if len(past) else 0.0  # of the last rows: where a drifting threshold stands at the end
    low, high = tail_interval(tail, excesses, memory(scores))
    ends = (None if low is None else low + shift, None if high is None else high + shift)
    what = f"{rate:g} false alarms a row, by the tail of {tail.peaks:,} of {rows:,} scores, shape {tail.shape:.2f}"
    if rate * rows < 1:
        what += "; it lies beyond all of them, where only the fitted tail tells"
    return _threshold(tail.threshold + shift, settings.method, ends, rows, what, tail)


def _of_labelled(settings: _Labelled, scores: FloatArray, labels: Labels | None) -> Threshold:
    if labels is None:
        raise FitError(f"the method {settings.method} needs labels: name their column, or take quantile or evt")
    abnormal = int(labels.sum())
    if not 0 < abnormal < len(labels):
        which = "abnormal" if abnormal else "normal"
        raise FitError(f"all {len(labels)} labelled rows are {which}: {settings.method} needs both kinds")
    counts = count_over(scores, labels)
    value = float(counts.thresholds[settings.place(counts)])
    interval, doubt = _labelled_interval(settings, scores, labels)
    what = f"{settings.wording()} on {abnormal:,} abnormal and {len(labels) - abnormal:,} normal rows{doubt}"
    return _threshold(value, settings.method, interval, len(scores), what)


def _labelled_interval(settings: _Labelled, scores: FloatArray, labels: Labels) -> tuple[Interval, str]:
    few = min(int(labels.sum()), int((~labels).sum()))
    if few < CLASS_MIN:
        return (None, None), f"; {few} of a kind are too few to say how far it may be off"
    if isinstance(settings, RecallThreshold):  # a quantile of the abnormal rows' scores, nothing else
        caught = scores[labels]
        return quantile_interval(np.sort(caught), 1 - settings.recall, memory(caught)), ""

    def statistic(places: NDArray[np.intp]) -> float:
        counts = count_over(scores[places], labels[places])
        try:
            return float(counts.thresholds[settings.place(counts)])
        except FitError:
            return np.nan

    kinds = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    low, high = bootstrap_interval(statistic, [(places, memory(scores[places])) for places in kinds])
    if low is None or not np.isfinite(low):
        return (None, None), "; on some draws of these rows no threshold reaches it"
    return (low, high), ""


def _redrawn(scores: FloatArray, statistic: Callable[[FloatArray], float]) -> Interval:
    places = np.arange(len(scores))
    return bootstrap_interval(lambda drawn: statistic(scores[drawn]), [(places, memory(scores))])


def _threshold(
    value: float, method: str, interval: Interval, rows: int, what: str, tail: Tail | None = None
) -> Threshold:
    low, high = interval
    if low is not None and high is not None:
        sure = f"between {low:.4g} and {high:.4g} at 95 % confidence"
    elif low is None and high is None:
        sure = "so many rows give no interval for it"
    elif high is None:
        sure = f"over {low:.4g}; so many rows give it no upper end"
    else:
        sure = f"under {high:.4g}; so many rows give it no lower end"
    return Threshold(value, method, low, high, rows, f"{value:.4g}: {what}; {sure}", tail)
