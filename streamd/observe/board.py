"""What each stream looks like now, built from effects alone: the source of `/streams` and of per-stream gauges.

One thread writes (the pump, by `observe` and `revoked`), any other may read. A lock guards every change and
every copy; readers hold it for one stream at a time, some microseconds, so that a slow reader of 10,000
streams never holds the pump. What is handed out is a copy that nobody changes any more.

The engines bound it: a stream leaves when its engine forgets it (evicted, reset) or its partition is revoked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamd.model import (
    Alert,
    BatchJudged,
    Command,
    Effect,
    JsonValue,
    Reading,
    RunJudged,
    Severity,
    Spending,
    StreamChanged,
    Verdict,
)
from streamd.observe.live.looks import Looks
from streamd.observe.runs import RunLife, RunView
from streamd.observe.trace import Trace

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""

_NOTES_MAX = 5  # per stream, the newest: what happened before is in the log
_GAP_WEIGHT = 0.2  # of the newest gap between two batches: the usual one is that of the last five or so
_WORST_COLUMNS_MAX = 3  # per judgement: enough to see what moved; the alert names the rest


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The last verdict of one test of one detector, with its grade."""

    verdict: Verdict
    severity: Severity


@dataclass(frozen=True, slots=True, eq=False)
class StreamView:
    """One stream or training run at one moment. Nobody changes it.

    Attributes:
        state: `learning` (no judgement yet), `watching`, `firing` or, of a run, `ended`.
        severity: the gravest alert that fires now; NONE when none does.
        reference: where normal comes from, in words; None while there is none.
        rows, batches: since this process holds the stream; of a run there are none.
        judgements: of a run only what was found, until it is resolved.
        heard_at: when this process took its last batch, epoch seconds; None before the first.
        gap_seconds: usual time between two batches, by the same clock.
        trace: how near it was to an alarm of late, see `trace`.
        revision: larger with every change.
        run: what only a training run has.
        spending: of the budget of false alarms; None where there is none.
    """

    stream: str
    place: Place
    rows: int
    batches: int
    event_time_ms: int | None
    reference: str | None
    severity: Severity
    judgements: tuple[Judgement, ...]
    readings: tuple[Reading, ...]
    firing: tuple[Alert, ...]
    notes: tuple[str, ...]
    heard_at: float | None
    gap_seconds: float
    trace: bytes
    revision: int
    run: RunView | None = None
    spending: Spending | None = None

    @property
    def ended(self) -> bool:
        """It is a run, and over."""
        return self.run is not None and self.run.ended is not None

    @property
    def state(self) -> str:
        if self.firing:
            return "firing"
        if self.ended:
            return "ended"
        return "watching" if self.judgements or self.run is not None else "learning"

    def as_json(self) -> dict[str, JsonValue]:
        """What `/streams` says of it. Times are epoch milliseconds; None is "not yet" or "not a number"."""
        return {
            "stream": self.stream,
            "topic": self.place[0],
            "partition": self.place[1],
            "state": self.state,
            "severity": self.severity.word,
            "reference": self.reference,
            "rows": self.rows,
            "batches": self.batches,
            "event_time_ms": self.event_time_ms,
            "firing": [_alert_json(alert) for alert in self.firing],
            "judgements": [_judgement_json(judgement) for judgement in self.judgements],
            "notes": list(self.notes),
            "false_alarms": _spending_json(self.spending),
            "run": None if self.run is None else self.run.as_json(),
        }


@dataclass(slots=True, eq=False)
class _Stream:
    """The writer's own. Keys of the dicts name an incident as the policy does: detector, kind, test."""

    rows: int = 0
    batches: int = 0
    event_time_ms: int | None = None
    reference: str | None = None
    severity: Severity = Severity.NONE
    judgements: dict[tuple[str, str, str], Judgement] = field(default_factory=dict)
    readings: dict[tuple[str, tuple[str, ...]], Reading] = field(default_factory=dict)
    firing: dict[tuple[str, str, str], Alert] = field(default_factory=dict)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=_NOTES_MAX))
    heard_at: float | None = None
    gap_seconds: float = 0.0
    trace: Trace = field(default_factory=Trace)
    revision: int = 0
    run: RunLife | None = None
    spending: Spending | None = None


class Standing(NamedTuple):
    """What is needed of a stream to find its place among ten thousand: far less than a StreamView.

    Attributes:
        nearness: the last point of its trace.
        ended: it is a run, and over.
    """

    place: Place
    stream: str
    severity: Severity
    judged: bool
    referred: bool
    heard_at: float | None
    gap_seconds: float
    nearness: int
    revision: int
    ended: bool


class Board:
    """The streams that this process holds.

    Args:
        clock: epoch seconds, for what was heard when.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[Place, dict[str, _Stream]] = {}
        self._revision = 0
        self.looks = Looks()
        """Histograms of streams that somebody looks at."""

    # --- The writer ---

    def observe(self, effects: Iterable[Effect], topic: str, partition: int) -> None:
        """Take in what the engine of one partition said."""
        now = self._clock()
        with self._lock:
            streams = self._places.setdefault((topic, partition), {})
            for effect in effects:
                match effect:
                    case BatchJudged(stream=name):
                        _judged(streams, effect, now)
                    case RunJudged(run=name):
                        _followed(streams, effect, now)
                    case Alert(stream=name):
                        _alerted(streams, effect)
                    case Command(target=name, target_kind="run"):
                        _run_of(streams, name).ask(effect)
                    case StreamChanged(stream=name):
                        _changed(streams, effect)
                    case _:
                        continue
                self._revision += 1
                if name in streams:
                    streams[name].revision = self._revision

    def revoked(self, partitions: Collection[Place]) -> None:
        """These partitions' streams are another process's now."""
        with self._lock:
            for topic, number in partitions:
                self._places.pop((topic, number), None)

    # --- Readers ---

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._places.values()))

    def views(self) -> list[StreamView]:
        """A copy of every stream, in the order in which they were first seen within each partition."""
        views = []
        for place, name, stream in self._all():
            with self._lock:
                views.append(_view(place, name, stream))
        return views

    def view(self, place: Place, name: str) -> StreamView | None:
        """A copy of one stream; None where it is not here."""
        with self._lock:
            stream = self._places.get(place, {}).get(name)
            return _view(place, name, stream) if stream is not None else None

    def standings(self) -> list[Standing]:
        """All streams, in short. Not locked while it reads: each value is one reference, and the next look is soon."""
        return [
            Standing(
                place,
                name,
                stream.severity,
                bool(stream.judgements) or stream.run is not None,
                stream.reference is not None,
                stream.heard_at,
                stream.gap_seconds,
                stream.trace.last,
                stream.revision,
                stream.run is not None and stream.run.ended is not None,
            )
            for place, name, stream in self._all()
        ]

    def page(self, limit: int, offset: int = 0, search: str = "") -> dict[str, JsonValue]:
        """`limit` streams from `offset` on, worst first, of those whose name contains `search`.

        Worst: the gravest firing alert, then the most recent event, then by name.
        """
        found = [each for each in self._all() if search in each[1]]
        found.sort(key=lambda each: (-each[2].severity, -(each[2].event_time_ms or 0), each[1]))
        page: list[JsonValue] = []
        for place, name, stream in found[offset : offset + limit]:
            with self._lock:
                view = _view(place, name, stream)
            page.append(view.as_json())
        return {"total": len(found), "offset": offset, "limit": limit, "streams": page}

    def _all(self) -> list[tuple[Place, str, _Stream]]:
        with self._lock:
            return [
                (place, name, stream) for place, streams in self._places.items() for name, stream in streams.items()
            ]


def _judged(streams: dict[str, _Stream], effect: BatchJudged, now: float) -> None:
    stream = streams.get(effect.stream)
    if stream is None:
        stream = streams[effect.stream] = _Stream()
    stream.rows += effect.rows
    stream.batches += 1
    stream.spending = effect.spending
    _heard(stream, effect.event_time_ms, now)
    stream.trace.add(effect.outcomes, effect.severities, now)
    severities = iter(effect.severities)
    for outcome in effect.outcomes:
        if isinstance(outcome, Verdict):
            key = (outcome.detector, outcome.kind.value, outcome.test)
            stream.judgements[key] = Judgement(outcome, next(severities))
        else:
            stream.readings[outcome.detector, outcome.columns] = outcome


def _followed(streams: dict[str, _Stream], effect: RunJudged, now: float) -> None:
    _run_of(streams, effect.run).follow(effect)
    stream = streams[effect.run]
    _heard(stream, effect.event_time_ms, now)
    for verdict, severity in zip(effect.verdicts, effect.severities, strict=True):
        stream.judgements[verdict.detector, verdict.kind.value, verdict.test] = Judgement(verdict, severity)


def _heard(stream: _Stream, event_time_ms: int, now: float) -> None:
    stream.event_time_ms = event_time_ms
    if stream.heard_at is not None:
        gap = now - stream.heard_at
        stream.gap_seconds += _GAP_WEIGHT * (gap - stream.gap_seconds) if stream.gap_seconds else gap
    stream.heard_at = now


def _run_of(streams: dict[str, _Stream], name: str) -> RunLife:
    stream = streams.setdefault(name, _Stream())
    stream.run = stream.run or RunLife()
    return stream.run


def _alerted(streams: dict[str, _Stream], alert: Alert) -> None:
    key = (alert.detector, alert.kind.value, alert.test)
    stream = streams.get(alert.stream)
    if alert.status == "firing":
        if stream is None:
            stream = streams[alert.stream] = _Stream()
        stream.firing[key] = alert
    elif stream is not None:
        stream.firing.pop(key, None)
        if stream.run is not None:  # calm judgements of a run are not told
            stream.judgements.pop(key, None)
    if stream is not None:
        stream.severity = max((a.severity for a in stream.firing.values()), default=Severity.NONE)


def _changed(streams: dict[str, _Stream], effect: StreamChanged) -> None:
    match effect.what:
        case "evicted" | "reset":  # its engine has forgotten it: nothing would ever take it from here again
            streams.pop(effect.stream, None)
        case "seen":
            streams.setdefault(effect.stream, _Stream())
        case "reference":  # its detectors start anew: what they said before is about another normal
            stream = streams.setdefault(effect.stream, _Stream())
            stream.reference = effect.detail
            stream.judgements.clear()
            stream.readings.clear()
            stream.notes.clear()
            stream.trace = Trace()
        case "fitted" | "not_fitted" | "still" | "acknowledged" | "unanswered" | "ended":
            if effect.stream in streams:  # an acknowledgement may name any stream
                stream = streams[effect.stream]
                stream.notes.append(effect.detail)
                if stream.run is not None:
                    stream.run.change(effect)


def _view(place: Place, name: str, stream: _Stream) -> StreamView:
    return StreamView(
        stream=name,
        place=place,
        rows=stream.rows,
        batches=stream.batches,
        event_time_ms=stream.event_time_ms,
        reference=stream.reference,
        severity=stream.severity,
        judgements=tuple(stream.judgements.values()),
        readings=tuple(stream.readings.values()),
        firing=tuple(stream.firing.values()),
        notes=tuple(stream.notes),
        heard_at=stream.heard_at,
        gap_seconds=stream.gap_seconds,
        trace=bytes(stream.trace.points),
        revision=stream.revision,
        run=None if stream.run is None else stream.run.view(),
        spending=stream.spending,
    )


def _spending_json(spending: Spending | None) -> JsonValue:
    """How much of the budget is spent; None without one."""
    if spending is None:
        return None
    return {
        "judgements": spending.judgements,
        "spent": spending.spent,
        "earned": spending.earned,
        "ratio": spending.ratio,
        "still_judgements": spending.still,
    }


def _alert_json(alert: Alert) -> JsonValue:
    return {
        "id": alert.id,
        "detector": alert.detector,
        "severity": alert.severity.word,
        "started_at_ms": alert.started_at_ms,
        "summary": alert.summary,
    }


def _judgement_json(judgement: Judgement) -> JsonValue:
    verdict = judgement.verdict
    effects = np.where(np.isnan(verdict.effects), -1.0, verdict.effects)
    worst = np.argsort(-effects, kind="stable")[:_WORST_COLUMNS_MAX]
    columns: list[JsonValue] = [
        {
            "name": verdict.columns[i],
            "effect": _finite(verdict.effects[i]),
            "p_value": None if verdict.adjusted is None else _finite(verdict.adjusted[i]),
            "direction": verdict.directions[i],
        }
        for i in worst
    ]
    summary: Mapping[str, JsonValue] = {
        "detector": verdict.detector,
        "test": verdict.test,
        "kind": verdict.kind.value,
        "severity": judgement.severity.word,
        "effect_name": verdict.effect_name,
        "effect_threshold": _finite(verdict.effect_threshold),
        "finding": verdict.finding,
        "columns": columns,
        "last_offset": verdict.window.last_offset,
    }
    return dict(summary)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
