"""Incidents: what is wrong and since when, on which record it was found, and the words and ids of what is told."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.base import State
from streamd.model import Alert, ColumnFinding, Kind, RowFinding, Severity, Verdict, Window
from streamd.table import FloatArray


@dataclass(slots=True)
class Incident:
    """One thing that is or was wrong: one test of one detector on one kind of column.

    quiet ──warning──▶ firing(warning) ──critical_after in a row──▶ firing(critical)
      ▲                     │                                            │
      └──── resolve_after calm judgements in a row ◀─────────────────────┘
    """

    consecutive: int = 0  # judgements in a row at warning or worse
    calm: int = 0  # judgements in a row below it, while firing
    firing: int = 0  # the Severity that was published; 0 is none
    alert_id: str = ""
    started_at_ms: int = 0
    resolved_at_ms: int | None = None  # for the cool-down
    level: float = 0.0  # what a p-value had to be at most, at the last judgement
    alert: State | None = None  # the last that was published of it while it fires, for who shows what is open


@dataclass(slots=True)
class PendingCommand:
    """An enforced command that waits for its acknowledgement."""

    command: str
    deadline_ms: int
    alert_id: str


@dataclass(frozen=True, slots=True)
class Occasion:
    """The record on which a verdict was given."""

    stream: str
    topic: str
    partition: int
    offset: int
    event_time_ms: int
    record_time_ms: int
    ordinal: int = 0  # of the verdict, among those of the record


def published(state: State) -> Alert:
    """The inverse of `asdict`."""
    return Alert(
        **{
            **state,
            "severity": Severity(state["severity"]),
            "kind": Kind(state["kind"]),
            "features": tuple(ColumnFinding(**feature) for feature in state["features"]),
            "window": Window(**state["window"]),
            "rows": tuple(RowFinding(**row) for row in state["rows"]),
        }
    )


def alert_id(occasion: Occasion, what: str, transition: str) -> str:
    """The same coordinates give the same id, so that a receiver can drop a redelivery.

    >>> here = Occasion("fraud/7", "streamd.features", 3, 142, 0, 0)
    >>> alert_id(here, "ks/features/ks_2samp", "warning")
    'bc2def3908a4a93d'
    """
    place = f"{occasion.topic}/{occasion.partition}/{occasion.offset}/{occasion.ordinal}"
    text = "\x1f".join((occasion.stream, what, place, transition))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def duration(seconds: float) -> str:
    """How long, for people.

    >>> duration(42), duration(90), duration(7200), duration(200_000)
    ('42 s', '2 min', '2.0 h', '2.3 days')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def incident_key(verdict: Verdict) -> str:
    return f"{verdict.detector}/{verdict.kind}/{verdict.test}"


def kind_of(incident_key: str) -> Kind:
    return Kind(incident_key.rsplit("/", 2)[1])


def is_about(incident: Incident, columns: Collection[str]) -> bool:
    """Whether it is open, and its last alert names none but these columns."""
    return incident.alert is not None and all(each["name"] in columns for each in incident.alert["features"])


def worst_first(verdict: Verdict, columns: NDArray[np.bool_]) -> list[int]:
    """Indices of `columns`, largest effect over its threshold first; columns that were not judged come last."""
    effects = np.where(np.isnan(verdict.effects), -1.0, verdict.effects)
    order = np.argsort(-effects, kind="stable")
    return [int(i) for i in order if columns[i]]


def item(values: FloatArray | None, index: int) -> float | None:
    """A p-value as a number; None where there is none, or where the column was not judged."""
    if values is None or np.isnan(values[index]):
        return None
    return float(values[index])


def crashed(detector: str, window: Window) -> Verdict:
    """The finding that a detector of ours raised on a record."""
    one = np.array([1.0])
    finding = f"{detector} crashed on the record at offset {window.first_offset}, which is a dead letter now"
    columns = (detector,)
    return Verdict(
        detector, "crash", Kind.QUALITY, columns, one, None, None, one, "crashes", 0.5, ("changed",), window, finding
    )


def unacknowledged(pending: PendingCommand, window: Window) -> Verdict:
    """The finding that nobody answered an enforced command in time."""
    one = np.array([1.0])
    finding = f"no acknowledgement of {pending.command} (alert {pending.alert_id}) in time"
    columns = (pending.command,)
    return Verdict(
        "commands", "rule", Kind.QUALITY, columns, one, None, None, one, "overdue", 0.5, ("changed",), window, finding
    )


def empty_verdict(key: str, occasion: Occasion) -> Verdict:
    """A verdict about nothing, for an incident that ends without a judgement."""
    detector, kind, test = key.rsplit("/", 2)
    nan = np.array([np.nan])
    window = Window(occasion.offset, occasion.offset, 0)
    return Verdict(detector, test, Kind(kind), ("",), nan, None, None, nan, "none", 0.0, ("changed",), window, "")
