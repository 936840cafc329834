"""Metrics, counted from effects and from events of the shell; nobody increments by hand.

This module and `gauges` are the only importers of prometheus_client. The pump's thread calls; scrapes come
from others. Samples of one stream come from the Board, at scrape time.
"""

from __future__ import annotations

import platform
import re
import threading
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, get_args, get_type_hints

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamd import __version__
from streamd.errors import Reason
from streamd.model import (
    Alert,
    BatchJudged,
    Command,
    DeadLetter,
    Effect,
    Envelope,
    Mode,
    RunJudged,
    Severity,
    StreamChanged,
    TelemetryCounted,
    Verdict,
)
from streamd.observe import families
from streamd.observe.board import Board, Place
from streamd.observe.families import FAMILIES, Family
from streamd.observe.gauges import OTHER, STREAM_FAMILIES, StreamGauges
from streamd.observe.settings import MetricSettings
from streamd.policy import Action
from streamd.rules.base import RunAction
from streamd.rules.presets import PRESETS
from streamd.run import SILENCE

_PARTITION_FAMILIES = (families.LAG, families.EVENT_TIME)
_CAUSES_MAX = 20  # distinct values of `cause`: it is a class name or a fixed word, so more is somebody's mistake
_WORDS = {severity: severity.word for severity in Severity}
_COMMANDS = sorted({*get_args(Action), *get_args(RunAction)} - {"none", "review"})
_RULES = {*PRESETS["streamd"], SILENCE}
_CHANGES = get_args(get_type_hints(StreamChanged)["what"])
_OUTCOMES = {
    families.ACKNOWLEDGEMENTS: ("done", "refused", "failed", "expired", "none"),
    families.ASSIGNMENTS: ("assigned", "revoked"),
    families.CONFIG_RELOADS: ("done", "refused"),
    families.FIT_SECONDS: ("done", "failed"),
}


class Metrics:
    """Every family of the table, in one registry.

    Args:
        registry: where they are registered; never the global one, so that two of us can live in one process.
        settings: caps on labels.
        board: what streams look like. It is fed by its owner; here it is read, when a scrape comes.
    """

    def __init__(self, registry: CollectorRegistry, settings: MetricSettings, board: Board) -> None:
        # A second series for each counter, with its birthday, that nobody asks for.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        scraped = {*STREAM_FAMILIES, *_PARTITION_FAMILIES}
        self._metrics = {family: _registered(family, registry) for family in FAMILIES if family not in scraped}
        self._children: dict[tuple[Any, ...], Any] = {}
        self._partitions = PartitionGauges()
        self._assigned: set[Place] = set()
        self._causes: set[str] = set()
        self._topics: set[str] = set()
        self._detectors: set[str] = set()
        registry.register(self._partitions)
        registry.register(StreamGauges(board, settings))
        ProcessCollector(registry=registry)
        self._child(families.BUILD_INFO, __version__, platform.python_version()).set(1)
        self._begin()

    def _child(self, family: Family, *labels: str) -> Any:
        """The counter, gauge or histogram with these labels. prometheus_client's own look-up costs 1 µs more."""
        key = (family.name, *labels)
        child = self._children.get(key)
        if child is None:
            metric = self._metrics[family]
            child = self._children[key] = metric.labels(*labels) if labels else metric
        return child

    # A counter that is first seen at 1 has not risen, to Prometheus: what is rare and matters begins at 0.

    def _begin(self) -> None:
        for command in _COMMANDS:
            for mode in get_args(Mode):
                self._child(families.COMMANDS, command, mode)
        for change in _CHANGES:
            self._child(families.STREAM_CHANGES, change)
        for family, outcomes in _OUTCOMES.items():
            for outcome in outcomes:
                self._child(family, outcome)

    def _begin_topic(self, topic: str) -> None:
        self._topics.add(topic)
        counted = (families.RECORDS_CONSUMED, families.BYTES_CONSUMED, families.RECORDS_SKIPPED, families.NONFINITE)
        for family in counted:
            self._child(family, topic)
        for reason in Reason:
            self._child(families.RECORDS_REJECTED, topic, reason.value)

    def _begin_rules(self) -> None:
        """Those that judge runs unless the configuration says otherwise: a run's calm judgements are not told."""
        for rule in sorted(_RULES - self._detectors):
            self._begin_detector(rule)

    def _begin_detector(self, detector: str) -> None:
        self._detectors.add(detector)
        self._child(families.DETECTOR_CRASHES, detector)
        for severity, word in _WORDS.items():
            self._child(families.VERDICTS, detector, word)
            if severity >= Severity.WARNING:
                for status in ("firing", "resolved"):
                    self._child(families.ALERTS, detector, word, status)

    # --- Effects ---

    def observe(self, effects: Iterable[Effect], topic: str, partition: int, seconds: float) -> None:
        """Count what the engine of one partition said, once it is delivered; `seconds` is what saying it took."""
        self._child(families.PROCESSING_SECONDS, topic).observe(seconds)
        for effect in effects:
            match effect:
                case BatchJudged():
                    self._judged(effect, topic, partition)
                case Alert():
                    severity = _WORDS[effect.severity]
                    self._child(families.ALERTS, effect.detector, severity, effect.status).inc()
                case Command():
                    self._child(families.COMMANDS, effect.command, effect.mode).inc()
                case DeadLetter():
                    self._child(families.RECORDS_REJECTED, topic, effect.reason.value).inc()
                case TelemetryCounted():
                    self._begin_rules()
                    self._child(families.TELEMETRY_POINTS, topic).inc(effect.points)
                case RunJudged():
                    self._found(effect.verdicts, effect.severities)
                    self._child(families.NONFINITE, topic).inc(effect.nonfinite)
                    self._partitions.event_at(topic, partition, effect.event_time_ms)
                case StreamChanged():
                    self._child(families.STREAM_CHANGES, effect.what).inc()
                    if effect.outcome is not None:
                        self._child(families.ACKNOWLEDGEMENTS, effect.outcome).inc()
                case _:
                    pass

    def _judged(self, effect: BatchJudged, topic: str, partition: int) -> None:
        self._child(families.BATCHES_JUDGED, topic).inc()
        self._child(families.ROWS_JUDGED, topic).inc(effect.rows)
        self._found((outcome for outcome in effect.outcomes if isinstance(outcome, Verdict)), effect.severities)
        self._partitions.event_at(topic, partition, effect.event_time_ms)

    def _found(self, verdicts: Iterable[Verdict], severities: Iterable[Severity]) -> None:
        for verdict, severity in zip(verdicts, severities, strict=True):
            if verdict.detector not in self._detectors:
                self._begin_detector(verdict.detector)
            self._child(families.VERDICTS, verdict.detector, _WORDS[severity]).inc()

    # --- Events of the shell ---

    def polled(self, records: Sequence[Envelope]) -> None:
        """These records were read."""
        count: Tally[str] = Tally()
        size: Tally[str] = Tally()
        for record in records:
            count[record.topic] += 1
            size[record.topic] += len(record.value or b"")
        for topic, number in count.items():
            self._child(families.RECORDS_CONSUMED, topic).inc(number)
            self._child(families.BYTES_CONSUMED, topic).inc(size[topic])

    def skipped(self, topic: str, records: int) -> None:
        """So many records of `topic` could not be read at all and were passed over."""
        self._child(families.RECORDS_SKIPPED, topic).inc(records)

    def delivered(self, records: int, seconds: float) -> None:
        """So many records, and the offsets with them, became durable."""
        self._child(families.RECORDS_PRODUCED).inc(records)
        self._child(families.DELIVERY_SECONDS).observe(seconds)

    def delivery_failed(self, cause: str) -> None:
        """A delivery could not be made sure. `cause`: the class of the error, or another fixed word."""
        cause = re.sub(r"\W+", "_", cause, flags=re.ASCII)[:60]
        if cause not in self._causes and len(self._causes) >= _CAUSES_MAX:
            cause = OTHER
        self._causes.add(cause)
        self._child(families.DELIVERY_FAILURES, cause).inc()

    def assigned(self, partitions: Collection[Place]) -> None:
        """These partitions are ours from here on."""
        for topic in {topic for topic, _ in partitions} - self._topics:
            self._begin_topic(topic)
        self._assigned.update((topic, number) for topic, number in partitions)
        self._child(families.ASSIGNMENTS, "assigned").inc(len(partitions))
        self._child(families.PARTITIONS_ASSIGNED).set(len(self._assigned))

    def revoked(self, partitions: Collection[Place]) -> None:
        """These partitions are ours no more: what is known of them would only grow old."""
        self._assigned.difference_update((topic, number) for topic, number in partitions)
        self._child(families.ASSIGNMENTS, "revoked").inc(len(partitions))
        self._child(families.PARTITIONS_ASSIGNED).set(len(self._assigned))
        self._partitions.forget(partitions)

    def lags(self, lags: Mapping[Any, int]) -> None:
        """Records that wait, by (topic, partition), for every assigned partition."""
        self._partitions.lags_are(lags)

    def broker_available(self, available: bool) -> None:
        self._child(families.BROKER_UP).set(available)

    def partitions_paused(self, partitions: int) -> None:
        self._child(families.PARTITIONS_PAUSED).set(partitions)

    def partitions_restoring(self, partitions: int) -> None:
        self._child(families.PARTITIONS_RESTORING).set(partitions)

    def restored(self, seconds: float) -> None:
        """A partition is live, so long after it was assigned."""
        self._child(families.RESTORE_SECONDS).observe(seconds)

    def engine_sizes(self, streams: int, state_bytes: int) -> None:
        """What all engines of the process hold."""
        self._child(families.STREAMS).set(streams)
        self._child(families.STATE_BYTES).set(state_bytes)

    def partitions_stalled(self, partitions: int) -> None:
        self._child(families.PARTITIONS_STALLED).set(partitions)

    def config_reloaded(self, done: bool) -> None:
        """A reload was asked for: it was done, or the configuration was refused."""
        self._child(families.CONFIG_RELOADS, "done" if done else "refused").inc()

    def detector_crashed(self, detector: str) -> None:
        """A detector raised on a record."""
        self._child(families.DETECTOR_CRASHES, detector).inc()

    def fit_finished(self, seconds: float, ok: bool) -> None:
        """A detector was fitted to a reference, or could not be."""
        self._child(families.FIT_SECONDS, "done" if ok else "failed").observe(seconds)


class PartitionGauges(Collector):
    """Lag and event time of the partitions that are ours now. Written by the pump, read by scrapes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lags: dict[Place, int] = {}
        self._event_times: dict[Place, int] = {}

    def lags_are(self, lags: Mapping[Any, int]) -> None:
        with self._lock:
            self._lags = {(topic, number): lag for (topic, number), lag in lags.items()}

    def event_at(self, topic: str, partition: int, event_time_ms: int) -> None:
        """A batch of that time was judged; late ones do not turn the clock back."""
        place = (topic, partition)
        with self._lock:
            if event_time_ms > self._event_times.get(place, -1):
                self._event_times[place] = event_time_ms

    def forget(self, partitions: Collection[Place]) -> None:
        with self._lock:
            for topic, number in partitions:
                self._lags.pop((topic, number), None)
                self._event_times.pop((topic, number), None)

    def describe(self) -> Iterable[Metric]:
        return [_gauges(family, {}) for family in _PARTITION_FAMILIES]

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            lags, event_times = dict(self._lags), dict(self._event_times)
        yield _gauges(families.LAG, lags)
        yield _gauges(families.EVENT_TIME, {place: ms / 1000 for place, ms in event_times.items()})


def _gauges(family: Family, values: Mapping[Place, float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for (topic, number), value in values.items():
        metric.add_metric((topic, str(number)), value)
    return metric


def _registered(family: Family, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match family.kind:
        case "counter":
            return Counter(family.name, family.help, family.labels, registry=registry)
        case "gauge":
            return Gauge(family.name, family.help, family.labels, registry=registry)
        case "histogram":
            return Histogram(family.name, family.help, family.labels, registry=registry, buckets=family.buckets)
