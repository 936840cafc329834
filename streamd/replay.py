"""What the daemon would have said: records through the same engines, without Kafka, without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streamd.detectors.base import DetectorConfig, Reference
from streamd.engine import DetectorCrashError, PartitionEngine
from streamd.kept import fit_key
from streamd.model import Alert, BatchJudged, Command, DeadLetter, Effect, Envelope, Severity, StreamChanged
from streamd.transport.base import Partition

Fit = Callable[[DetectorConfig, Reference], bytes]

_CRASHES_MAX = 10  # each costs the partition's records from the beginning; with more the detector is of no use


class Replay:
    """One engine a partition, as in the daemon; trainings are done on the spot. Nothing is delivered anywhere.

    Args:
        new_engine: builds the engine of a partition from its first offset: `wiring.engine_factory(config)`.
        fit: trains a detector. Raises ValueError with a sentence where the data does not allow it.
        again: the records from the beginning, for when a detector raises and its engine is torn.
    """

    def __init__(
        self,
        new_engine: Callable[[Partition, int], PartitionEngine],
        fit: Fit,
        again: Callable[[], Iterable[Envelope]],
    ) -> None:
        self._new_engine = new_engine
        self._fit = fit
        self._again = again
        self._engines: dict[Partition, PartitionEngine] = {}
        self._crashes: dict[tuple[Partition, int], DetectorCrashError] = {}

    def step(self, envelope: Envelope) -> list[Effect]:
        """What the record causes, the trainings that it makes due included. A partition's records come in order.

        A record on which a detector raises becomes a dead letter, as in the daemon.

        Raises:
            DetectorCrashError: that happened too often.
        """
        partition = Partition(envelope.topic, envelope.partition)
        engine = self._engines.get(partition)
        if engine is None:
            engine = self._engines[partition] = self._new_engine(partition, envelope.offset)
        try:
            return self._through(engine, envelope)
        except DetectorCrashError as crash:
            if len(self._crashes) == _CRASHES_MAX:
                raise
            self._crashes[partition, envelope.offset] = crash
            engine = self._engines[partition] = self._rebuilt(partition, envelope.offset)
            return engine.skip(envelope, crash)

    def _through(self, engine: PartitionEngine, envelope: Envelope) -> list[Effect]:
        effects = engine.step(envelope)
        while (job := engine.fit_wanted) is not None:
            weights, problem = None, ""
            try:
                weights = self._fit(job.config, job.reference)
            except ValueError as error:
                problem = str(error)
            effects += engine.fitted(weights, problem)
        return effects

    def _rebuilt(self, partition: Partition, offset: int) -> PartitionEngine:
        """The partition's engine as it was before the record at `offset`."""
        engine: PartitionEngine | None = None
        for envelope in self._again():
            if (envelope.topic, envelope.partition) != partition:
                continue
            engine = engine or self._new_engine(partition, envelope.offset)
            if envelope.offset >= offset:
                return engine
            crash = self._crashes.get((partition, envelope.offset))
            if crash is not None:
                engine.skip(envelope, crash)
            else:
                self._through(engine, envelope)
        raise AssertionError(f"{partition} at {offset} is not there any more")


class FitOnce:
    """A `Fit` that trains each pair of configuration and reference once: two replays share it."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._weights: dict[str, bytes] = {}

    def __call__(self, config: DetectorConfig, reference: Reference) -> bytes:
        key = fit_key(config, reference)
        if key not in self._weights:
            self._weights[key] = self._fit(config, reference)
        return self._weights[key]


@dataclass(slots=True)
class Tally:
    """What a replay came to so far."""

    records: int = 0
    rows: int = 0
    severities: Counter[str] = field(default_factory=Counter)  # of firing alerts; `resolved` for the others
    detectors: Counter[str] = field(default_factory=Counter)  # of all alerts
    commands: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)  # by reason
    first_dead_letters: dict[str, DeadLetter] = field(default_factory=dict)  # by reason
    references: dict[str, str] = field(default_factory=dict)  # stream -> the last one, and where it came from
    not_fitted: dict[str, str] = field(default_factory=dict)  # stream -> why

    def count(self, effects: Iterable[Effect]) -> None:
        """Add one record's effects."""
        self.records += 1
        for effect in effects:
            match effect:
                case BatchJudged():
                    self.rows += effect.rows
                case Alert():
                    self.severities[effect.severity.word if effect.status == "firing" else "resolved"] += 1
                    self.detectors[effect.detector] += 1
                case Command():
                    self.commands[f"{effect.command} ({effect.mode})"] += 1
                case DeadLetter():
                    self.dead_letters[effect.reason.value] += 1
                    self.first_dead_letters.setdefault(effect.reason.value, effect)
                case StreamChanged(what="reference"):
                    self.references[effect.stream] = effect.detail
                case StreamChanged(what="not_fitted"):
                    self.not_fitted[effect.stream] = effect.detail
                case _:
                    pass


# --- Two configurations ---------------------------------------------------------------------------


@dataclass(slots=True)
class Incident:
    """The alerts from the first that fired to the one that resolved, of one test of one detector on one stream."""

    alerts: list[Alert]

    @property
    def first(self) -> Alert:
        return self.alerts[0]

    @property
    def severity(self) -> Severity:
        return max(alert.severity for alert in self.alerts)

    @property
    def end(self) -> float:
        """The last offset of the window that resolved it; infinite while it is open."""
        last = self.alerts[-1]
        return last.window.last_offset if last.status == "resolved" else float("inf")


@dataclass(frozen=True, slots=True)
class Both:
    """Incidents that overlap: what one configuration said, and the other. Either may be empty, not both."""

    new: tuple[Incident, ...]
    old: tuple[Incident, ...]

    @property
    def first(self) -> Incident:
        """The one that is shown: the new configuration's where it has one."""
        return (self.new or self.old)[0]


def incidents(alerts: Iterable[Alert]) -> list[Incident]:
    """The alerts of one replay, grouped, in the order in which the incidents began."""
    found: list[Incident] = []
    open_: dict[tuple[str, ...], Incident] = {}
    for alert in alerts:
        key = _key(alert)
        if key not in open_:
            open_[key] = Incident([])
            found.append(open_[key])
        open_[key].alerts.append(alert)
        if alert.status == "resolved":
            del open_[key]
    return found


def compare(new: Iterable[Alert], old: Iterable[Alert]) -> list[Both]:
    """The incidents of two configurations over the same records, side by side.

    Two are the same when they are of one test of one detector on one stream, and the records of their windows
    overlap: with other windows or thresholds the same event fires at another record.

    Returns:
        in the order of the streams, then of the first window.
    """
    by_key: dict[tuple[str, ...], list[tuple[Incident, bool]]] = {}
    for alerts, is_new in ((new, True), (old, False)):
        for incident in incidents(alerts):
            by_key.setdefault(_key(incident.first), []).append((incident, is_new))
    groups = [group for found in by_key.values() for group in _overlapping(found)]
    return sorted(groups, key=lambda group: (group.first.first.stream, group.first.first.window.first_offset))


def _overlapping(found: list[tuple[Incident, bool]]) -> list[Both]:
    """One test's incidents, cut where there is no incident at all.

    ```
      new   ├───┤     ├─────┤           ├───
      old     ├───┤     ├┤ ├┤     ├─┤
            └─ 1 ─┘   └─ 2 ─┘     └3┘   └ 4
    ```
    """
    groups: list[list[tuple[Incident, bool]]] = []
    end = float("-inf")
    for incident, is_new in sorted(found, key=lambda pair: pair[0].first.window.first_offset):
        if incident.first.window.first_offset > end:
            groups.append([])
            end = float("-inf")
        groups[-1].append((incident, is_new))
        end = max(end, incident.end)
    return [Both(tuple(i for i, is_new in g if is_new), tuple(i for i, is_new in g if not is_new)) for g in groups]


def _key(alert: Alert) -> tuple[str, ...]:
    return (alert.stream, alert.detector, alert.kind.value, alert.test)
