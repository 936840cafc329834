"""What a healthy past says of a configuration: how often it cries wolf, and what its thresholds could be. Pure.

past ──▶ the engine ──▶ judgements ──┬─▶ alarms, beside what the budget allows in so much time
                                     └─▶ the largest effect of each ──▶ tail ──▶ a threshold, and how sure it is
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, floor, log10

import numpy as np

from streamd.budget import START_MS, per_ms
from streamd.detectors.base import DetectorConfig
from streamd.engine_settings import StreamSettings
from streamd.fitting.intervals import Interval, memory
from streamd.fitting.tail import tail_interval
from streamd.incidents import incident_key
from streamd.model import Alert, BatchJudged, Effect, Severity, Verdict
from streamd.scorers.tail import RATE_MAX, fit_tail
from streamd.settings import Settings

TIGHT = "too tight"
LOOSER = 0.8
"""A threshold is called too loose when this share of it would still hold: less is not worth a change."""

OWN_OPTIONS = {"t": "past_effect_threshold", "new_category": "new_effect_threshold"}
"""The thresholds of tests that a detector makes beside its first, where it has such an option."""

ZERO_SEEN = 3.0
"""Where none was seen in a time, no more than this many are to be expected in it (95 %, exactly 2.996)."""


@dataclass(slots=True)
class Column:
    """One column as one test judged it."""

    judged: int = 0
    loud: int = 0
    largest: float = 0.0


@dataclass(slots=True)
class Judge:
    """One test of one detector on one kind of column, over the whole past of a stream.

    Attributes:
        effects: the largest of each judgement's columns, in their order.
        opened: incidents that began.
        looks: see Verdict.
    """

    detector: str
    test: str
    kind: str
    threshold: float
    looks: int
    paid: bool
    columns: dict[str, Column] = field(default_factory=dict)
    effects: list[float] = field(default_factory=list)
    loud: int = 0
    opened: int = 0


@dataclass(slots=True)
class Past:
    """One stream's past: its judges by incident key, and the event time that it spans."""

    name: str
    first_ms: int
    last_ms: int
    batches: int = 0
    judges: dict[str, Judge] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    @property
    def span_ms(self) -> int:
        return self.last_ms - self.first_ms


@dataclass(frozen=True, slots=True)
class Advice:
    """Another threshold for one judge.

    Attributes:
        word: `too tight`: it alarms too often; `too loose`: healthy effects stay far below.
        path: the option's place in the detector's Config.
        value: what it should be: the upper end of `interval`, rounded up.
        estimate: the effect that healthy windows exceed `rate` times a judgement, and its 95 % interval.
        rate: of false alarms a judgement.
    """

    detector: str
    test: str
    word: str
    path: tuple[str, ...]
    now: float
    value: float
    estimate: float
    interval: Interval
    rate: float


class Calibration:
    """Takes in what the engines say of a healthy past."""

    def __init__(self) -> None:
        self.pasts: dict[str, Past] = {}

    def observe(self, effects: Iterable[Effect], warning_p_value: float) -> None:
        """The effects of one record. `warning_p_value`: of the stream; a column of a loud judgement is called loud
        at this widest line."""
        alerts = []
        for effect in effects:
            if isinstance(effect, BatchJudged):
                self._judged(effect, warning_p_value)
            elif isinstance(effect, Alert):
                alerts.append(effect)  # they come before the BatchJudged that they are of
        for alert in alerts:
            if alert.stream in self.pasts:
                self._alerted(self.pasts[alert.stream], alert)

    def _judged(self, judged: BatchJudged, warning_p_value: float) -> None:
        past = self.pasts.get(judged.stream)
        if past is None:
            past = self.pasts[judged.stream] = Past(judged.stream, judged.event_time_ms, judged.event_time_ms)
        past.last_ms = max(past.last_ms, judged.event_time_ms)
        past.batches += 1
        verdicts = [outcome for outcome in judged.outcomes if isinstance(outcome, Verdict)]
        for verdict, severity in zip(verdicts, judged.severities, strict=True):
            self._count(past, verdict, severity >= Severity.WARNING, warning_p_value)

    def _count(self, past: Past, verdict: Verdict, loud: bool, warning_p_value: float) -> None:
        key = incident_key(verdict)
        judge = past.judges.get(key)
        if judge is None:
            paid = verdict.adjusted is not None
            judge = past.judges[key] = Judge(
                verdict.detector, verdict.test, verdict.kind.value, verdict.effect_threshold, verdict.looks, paid
            )
        if np.isnan(verdict.effects).all():
            return
        judge.effects.append(float(np.nanmax(verdict.effects)))
        judge.loud += loud
        passed = verdict.effects > verdict.effect_threshold
        if verdict.adjusted is not None:
            passed &= verdict.adjusted <= warning_p_value
        for name, effect, over in zip(verdict.columns, verdict.effects.tolist(), passed.tolist(), strict=True):
            if effect == effect:
                column = judge.columns.setdefault(name, Column())
                column.judged += 1
                column.loud += loud and over
                column.largest = max(column.largest, effect)

    def _alerted(self, past: Past, alert: Alert) -> None:
        key = f"{alert.detector}/{alert.kind}/{alert.test}"
        if alert.status == "resolved":
            past.open.discard(key)
        elif key not in past.open:
            past.open.add(key)
            if key in past.judges:
                past.judges[key].opened += 1


# --- What is to be expected -----------------------------------------------------------------------


def expected(past: Past, judge: Judge, settings: StreamSettings) -> float | None:
    """False alarms of one judge that the budget allows in the time of the past; None: no p-value, no promise."""
    if not judge.paid:
        return None
    policy = settings.policy
    if policy.false_alarms is None:
        return policy.warning_p_value / judge.looks * len(judge.effects)
    return per_ms(policy.false_alarms) * (past.span_ms + START_MS) / judges_of(settings)


def judges_of(settings: StreamSettings) -> int:
    """How many share a stream's budget."""
    return max(sum(config.judges for config in settings.detectors.values()), 1)


def poisson_range(mean: float) -> tuple[int, int]:
    """Counts that lie within the middle 95 % of a Poisson distribution.

    >>> poisson_range(0.5), poisson_range(10.0)
    ((0, 2), (4, 17))
    """
    from scipy.stats import poisson  # scipy costs more to import than most commands take

    return int(poisson.ppf(0.025, mean)), int(poisson.ppf(0.975, mean))


# --- What the thresholds could be -----------------------------------------------------------------


def advised(past: Past, settings: StreamSettings) -> tuple[tuple[Advice, ...], tuple[str, ...]]:
    """Other thresholds for a stream's judges, and sentences about those that need one and get none.

    Two judges may share an option (`ks` of features and of predictions): it is loosened as far as the one that needs
    most, and tightened only where the past bounds both.
    """
    options: dict[tuple[str, tuple[str, ...] | None], list[Advice | str | None]] = {}
    for judge in past.judges.values():
        config = settings.detectors.get(judge.detector)
        if judge.effects and config is not None:
            path = threshold_path(config, judge.test)
            options.setdefault((judge.detector, path), []).append(advise(past, judge, settings))
    advice, troubles = [], []
    for said in options.values():
        offers = [each for each in said if isinstance(each, Advice)]
        troubles += [each for each in said if isinstance(each, str)]
        if offers and (len(offers) == len(said) or any(each.word == TIGHT for each in offers)):
            advice.append(max(offers, key=lambda each: each.value))
    return tuple(advice), tuple(troubles)


def advise(past: Past, judge: Judge, settings: StreamSettings) -> Advice | str | None:
    """Another threshold for the judge, where the past shows that its own is too tight or too loose.

    The effects of healthy judgements have a tail, which is fitted (peaks over threshold). The threshold is what they
    exceed as often as the budget allows, or once in the whole past, whichever is more: a rarer one it cannot show.

    Returns:
        None: leave it as it is. A sentence: it alarms too often, and why the past gives no threshold.
    """
    config = settings.detectors.get(judge.detector)
    path = None if config is None else threshold_path(config, judge.test)
    allowed = expected(past, judge, settings)
    if config is None or path is None or allowed is None:
        return None
    tight = judge.opened > poisson_range(allowed)[1]
    effects = np.array(judge.effects)
    try:
        times = memory(effects)
        rate = max(allowed / max(len(effects), 1), times / max(len(effects), 1))
        if rate > RATE_MAX:
            raise ValueError(f"{len(effects)} judgements say as much as {len(effects) / times:.0f}; "
                             f"{ceil(1 / RATE_MAX)} are needed")  # fmt: skip
        tail, excesses, _ = fit_tail(effects, rate)
        interval = tail_interval(tail, excesses, times)
    except ValueError as error:
        return (
            f"{judge.detector} ({judge.test}) alarms too often, and the past gives no threshold: {error}" * tight
            or None
        )
    value = None if interval[1] is None else _rounded_up(interval[1])
    word = TIGHT if tight else "too loose"
    fits = value is not None and (value > judge.threshold if tight else value < LOOSER * judge.threshold)
    if value is None or not fits or not _accepted(config, path, value):
        return (
            f"{judge.detector} ({judge.test}) alarms too often, and so short a past bounds no threshold" * tight or None
        )
    return Advice(judge.detector, judge.test, word, path, judge.threshold, value, tail.threshold, interval, rate)


def threshold_path(config: DetectorConfig, test: str) -> tuple[str, ...] | None:
    """Where in a detector's Config the effect threshold of one of its tests is."""
    fields = type(config).model_fields
    if (own := OWN_OPTIONS.get(test)) in fields:
        return (own,)
    if "effect_threshold" in fields:
        return ("effect_threshold",)
    return ("judge", "effect_threshold") if test == "ks_2samp" and "judge" in fields else None


def _accepted(config: DetectorConfig, path: tuple[str, ...], value: float) -> bool:
    """Whether the Config may have that value there."""
    part: Settings = config
    for key in path[:-1]:
        part = getattr(part, key)
    try:
        type(part).model_validate({**part.model_dump(exclude_unset=True), path[-1]: value})
    except ValueError:
        return False
    return True


def _rounded_up(value: float) -> float:
    """To two digits that count."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (floor(log10(value)) - 1)
    return round(ceil(value / step - 1e-9) * step, 12)


def overrides(name: str, advice: Iterable[Advice], season: str | None = None) -> dict[str, object]:
    """A rule of the configuration for one stream."""
    from glob import escape

    detectors: dict[str, object] = {}
    for each in advice:
        option: object = each.value
        for key in reversed(each.path):
            option = {key: option}
        assert isinstance(option, dict)
        merged = detectors.setdefault(each.detector, {})
        assert isinstance(merged, dict)
        merged.update(option)
    rule: dict[str, object] = {"match": escape(name)}
    if season is not None:
        rule["reference"] = {"season": season}
    return rule | ({"detectors": detectors} if detectors else {})


def opened(past: Past) -> Counter[str]:
    """Incidents that began, by detector, of those that a budget is for."""
    return Counter({judge.detector: judge.opened for judge in past.judges.values() if judge.paid and judge.opened})
