"""The engine of one partition: one record in, the list of what should happen out. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.detectors.base import Detector, DetectorConfig, Reference, State
from streamd.detectors.quality import QualityConfig, no_data_verdict
from streamd.engine_settings import EngineSettings, StreamSettings
from streamd.errors import InvalidRecord, Reason, StreamdError
from streamd.model import (
    Acknowledgement,
    Alert,
    BatchJudged,
    DeadLetter,
    Effect,
    Envelope,
    FeatureBatch,
    Outcome,
    ReferencePart,
    Reset,
    Severity,
    StreamChanged,
    Telemetry,
    TelemetryCounted,
    Verdict,
    Window,
)
from streamd.policy import Occasion, crashed, unacknowledged
from streamd.profiles import Profiles
from streamd.stream import Kept, Stream, keep_reference, keep_weights

_RECOUNT_EVERY_BATCHES = 64  # memory of a stream grows with what it has seen; counting it costs some microseconds


@dataclass(frozen=True, slots=True)
class FitJob:
    """A detector that must be trained before the partition's next record. Its result is a function of these."""

    stream: str
    detector: str
    config: DetectorConfig
    reference: Reference


class DetectorCrashError(StreamdError):
    """A detector raised. The engine is torn: drop it, restore it, and `skip` the record if it raises again."""

    def __init__(self, stream: str, detector: str) -> None:
        super().__init__(f"the detector {detector} of {stream} raised on a record")
        self.stream = stream
        self.detector = detector


class PartitionEngine:
    """Everything that one partition's records have led to.

    Args:
        topic, partition: which one.
        content: what its records are.
        limits: of decoding.
        settings: bounds.
        stream_settings: what applies to a stream, by its name.
        profiles: prepared references, shared by the engines of a process.
        next_offset: the first offset that `step` will be given, or a smaller one.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        content: Literal["features", "telemetry"],
        limits: Limits,
        settings: EngineSettings,
        stream_settings: Callable[[str], StreamSettings],
        profiles: Profiles,
        next_offset: int = 0,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.nbytes = 0
        self._content = content
        self._limits = limits
        self._settings = settings
        self._stream_settings = stream_settings
        self._profiles = profiles
        self._next_offset = next_offset
        self._streams: OrderedDict[str, Stream] = OrderedDict()  # seen longest ago first
        self._counted: dict[str, tuple[int, int]] = {}  # stream -> batches, bytes at the last count
        self._fits: deque[FitJob] = deque()
        self._fitted_unasked: set[str] = set()

    # --- Records ---

    def step(self, envelope: Envelope) -> list[Effect]:
        """Fold one record into the state; return what the world should be told."""
        assert envelope.offset >= self._next_offset, (envelope.offset, self._next_offset)
        assert not self._fits, "a fit is due before the next record"
        self._next_offset = envelope.offset + 1
        try:
            observation = decode(envelope, self._limits, self._content)
            match observation:
                case FeatureBatch():
                    return self._judge(observation, envelope)
                case ReferencePart():
                    return self._collect(observation, envelope)
                case Reset():
                    return self._reset(observation, envelope)
                case Acknowledgement():
                    return self._acknowledge(observation)
                case Telemetry():
                    return _counted_by_run(observation)
        except InvalidRecord as error:
            return [DeadLetter(envelope, error.reason.stage, error.reason, error.detail)]

    def _judge(self, batch: FeatureBatch, envelope: Envelope) -> list[Effect]:
        stream, effects = self._stream(batch.stream)
        effects += self._heard(stream, batch.event_time_ms, envelope)
        outcomes: list[Outcome] = []
        severities: list[Severity] = []
        for name, detector in stream.detectors.items():
            for outcome in _judged(name, detector, batch):
                outcomes.append(outcome)
                if isinstance(outcome, Verdict):
                    occasion = self._occasion(batch.stream, batch.event_time_ms, envelope, len(severities))
                    severity, told = stream.policy.grade(outcome, occasion)
                    severities.append(severity)
                    effects += told
        effects.append(
            BatchJudged(batch.stream, batch.event_time_ms, batch.table.rows, tuple(outcomes), tuple(severities))
        )
        # A batch that alarmed never becomes part of a reference.
        if max(severities, default=Severity.NONE) < Severity.WARNING and stream.learn_first_rows(batch):
            effects += self._reference_taken(stream)
        self._count(stream)
        return effects

    def _collect(self, part: ReferencePart, envelope: Envelope) -> list[Effect]:
        stream, effects = self._stream(part.batch.stream)
        effects += self._heard(stream, part.batch.event_time_ms, envelope)
        if stream.collect(part):
            occasion = self._occasion(stream.name, part.batch.event_time_ms, envelope)
            effects += stream.policy.reset(occasion, "ended: a new reference is in force")
            effects += self._reference_taken(stream)
        self._count(stream, anew=True)
        return effects

    def _reference_taken(self, stream: Stream) -> list[Effect]:
        """Tell of the new reference and queue the detectors that must be trained on it."""
        reference = stream.reference
        assert reference is not None
        source = "reference batches" if reference.source == "batches" else "its own first rows"
        effects: list[Effect] = [
            StreamChanged(stream.name, "reference", f"{reference.table.rows} rows from {source}"),
            keep_reference(reference),
        ]
        for name, config in stream.settings.detectors.items():
            if not config.needs_fit:
                continue
            if name in stream.settings.unasked and stream.name not in self._fitted_unasked:
                if len(self._fitted_unasked) >= self._settings.fits_max:
                    reason = f"{name} is not trained: engine.fits_max = {self._settings.fits_max} streams have one"
                    effects.append(StreamChanged(stream.name, "not_fitted", f"{reason}; name it in the configuration"))
                    continue
                self._fitted_unasked.add(stream.name)
            self._fits.append(FitJob(stream.name, name, config, reference))
        return effects

    def _reset(self, reset: Reset, envelope: Envelope) -> list[Effect]:
        stream = self._streams.pop(reset.stream, None)
        if stream is None:
            return [StreamChanged(reset.stream, "reset", "nothing was known of it")]
        self._forget(stream)
        occasion = self._occasion(reset.stream, reset.event_time_ms, envelope)
        by = f" by {reset.author}" if reset.author else ""
        effects: list[Effect] = [*stream.policy.reset(occasion, f"ended: the stream was reset{by}")]
        effects.append(StreamChanged(reset.stream, "reset", f"reference and state forgotten{by}"))
        return effects

    def _acknowledge(self, answer: Acknowledgement) -> list[Effect]:
        stream = self._streams.get(answer.stream)
        expected = stream is not None and stream.policy.acknowledge(answer.command_id)
        detail = f"command {answer.command_id} {answer.outcome}{'' if expected else ' (nobody waited for it)'}"
        return [StreamChanged(answer.stream, "acknowledged", f"{detail} {answer.detail}".rstrip())]

    def skip(self, envelope: Envelope, crash: DetectorCrashError) -> list[Effect]:
        """Pass over a record on which a detector raises: it becomes a dead letter, and a person is told."""
        self._next_offset = envelope.offset + 1
        cause = f"{type(crash.__cause__).__name__}: {crash.__cause__}"
        letter = DeadLetter(envelope, Reason.CRASHED.stage, Reason.CRASHED, f"{crash}: {cause}")
        stream, effects = self._stream(crash.stream)
        place = Window(envelope.offset, envelope.offset, 0)
        occasion = self._occasion(stream.name, envelope.timestamp_ms, envelope)
        return [*effects, letter, *stream.policy.alarm(crashed(crash.detector, place), occasion)]

    # --- Silence ---

    def _heard(self, stream: Stream, event_time_ms: int, envelope: Envelope) -> list[Effect]:
        """The stream spoke: a silence that was told is over."""
        stream.last_record_ms = envelope.timestamp_ms
        if not stream.silent:
            return []
        stream.silent = False
        place = Window(envelope.offset, envelope.offset, 0)
        occasion = self._occasion(stream.name, event_time_ms, envelope)
        return [
            alert
            for name, limit in _silence_limits(stream)
            for alert in stream.policy.end(no_data_verdict(name, 0.0, limit, place), occasion, "data arrives again")
        ]

    def tick(self, now_ms: int) -> list[Effect]:
        """Ask whether silence up to `now_ms` (epoch milliseconds) is news in itself.

        The shell calls it while the partition has no unread records: a backlog is not silence.
        """
        effects: list[Effect] = []
        for stream in self._streams.values():
            place = Window(self._next_offset, self._next_offset, 0)
            verdicts = [unacknowledged(pending, place) for pending in stream.policy.overdue(now_ms)]
            silent_seconds = (now_ms - stream.last_record_ms) / 1000
            told = stream.silent
            for name, limit in _silence_limits(stream):
                if not told and silent_seconds > limit:
                    stream.silent = True
                    verdicts.append(no_data_verdict(name, silent_seconds, limit, place))
            for ordinal, verdict in enumerate(verdicts):
                occasion = Occasion(stream.name, self.topic, self.partition, self._next_offset, now_ms, now_ms, ordinal)
                effects += stream.policy.grade(verdict, occasion)[1]
        return effects

    # --- Training ---

    @property
    def fit_wanted(self) -> FitJob | None:
        """What must be trained before the next record, if anything: then call `fitted`."""
        return self._fits[0] if self._fits else None

    def fitted(self, weights: bytes | None, problem: str = "") -> list[Effect]:
        """Take the result of `fit_wanted`: the weights, or None and the `problem` that the data has."""
        job = self._fits.popleft()
        stream = self._streams.get(job.stream)
        assert stream is not None, job.stream
        if weights is None:
            return [StreamChanged(job.stream, "not_fitted", f"{job.detector} could not learn: {problem}")]
        learned = stream.build(job.detector, job.config, weights)
        self._count(stream, anew=True)
        detail = f"{job.detector}: {job.config.about(weights)}"
        return [
            StreamChanged(job.stream, "fitted" if learned else "not_fitted", detail),
            keep_weights(job.config, job.reference, weights),
        ]

    # --- Snapshots ---

    def snapshot(self) -> State:
        """The moving part of everything, with the offset that it belongs to; streams in the order of eviction."""
        assert not self._fits, "a fit is due before a snapshot"
        return {
            "next_offset": self._next_offset,
            "streams": [stream.snapshot() for stream in self._streams.values()],
            "fitted_unasked": sorted(self._fitted_unasked),
        }

    def kept(self) -> Kept:
        """What `restore` will want beside the snapshot, of all streams."""
        each = [stream.kept() for stream in self._streams.values()]
        return Kept(
            {key: reference for kept in each for key, reference in kept.references.items()},
            {key: weights for kept in each for key, weights in kept.weights.items()},
        )

    def restore(self, state: State, kept: Kept) -> list[str]:
        """Continue from `snapshot()`, on a new engine. Bit-equal to one that never stopped.

        Returns:
            A sentence for each stream whose reference is not among what was kept: it starts anew.
        """
        problems = []
        self._next_offset = state["next_offset"]
        self._fitted_unasked = set(state["fitted_unasked"])
        for saved in state["streams"]:
            name = saved["name"]
            if saved["reference"] is not None and saved["reference"] not in kept.references:
                problems.append(f"the reference of {name} is damaged: the stream starts anew; send it again")
                continue
            stream = self._streams[name] = Stream(name, self._stream_settings(name), self._profiles)
            stream.restore(saved, kept)
            self._count(stream, anew=True)
        return problems

    def open_alerts(self) -> list[Alert]:
        """What fires now, for who shows it: nothing of it is news."""
        return [alert for stream in self._streams.values() for alert in stream.policy.open_alerts()]

    # --- Streams ---

    @property
    def next_offset(self) -> int:
        """The smallest offset that the next record may have."""
        return self._next_offset

    @property
    def streams(self) -> int:
        """How many streams are held."""
        return len(self._streams)

    def _stream(self, name: str) -> tuple[Stream, list[Effect]]:
        """The stream of that name, made if need be, now the one seen last."""
        stream = self._streams.get(name)
        if stream is not None:
            self._streams.move_to_end(name)
            return stream, []
        effects: list[Effect] = [StreamChanged(name, "seen", "first record")]
        if len(self._streams) >= self._settings.streams_max:
            _, oldest = self._streams.popitem(last=False)
            self._forget(oldest)
            detail = f"engine.streams_max = {self._settings.streams_max} is reached and it was seen longest ago"
            effects.append(StreamChanged(oldest.name, "evicted", detail))
        stream = self._streams[name] = Stream(name, self._stream_settings(name), self._profiles)
        return stream, effects

    def _forget(self, stream: Stream) -> None:
        self.nbytes -= self._counted.pop(stream.name, (0, 0))[1]
        self._fitted_unasked.discard(stream.name)

    def _count(self, stream: Stream, *, anew: bool = False) -> None:
        """Keep `nbytes` near the truth without asking every stream every time."""
        batches, nbytes = self._counted.get(stream.name, (0, 0))
        if anew or batches % _RECOUNT_EVERY_BATCHES == 0:
            now = stream.nbytes
            self.nbytes += now - nbytes
            nbytes = now
        self._counted[stream.name] = (batches + 1, nbytes)

    def _occasion(self, stream: str, event_time_ms: int, envelope: Envelope, ordinal: int = 0) -> Occasion:
        return Occasion(
            stream, self.topic, self.partition, envelope.offset, event_time_ms, envelope.timestamp_ms, ordinal
        )


def _judged(name: str, detector: Detector, batch: FeatureBatch) -> tuple[Outcome, ...]:
    try:
        return detector.update(batch)
    except Exception as error:
        raise DetectorCrashError(batch.stream, name) from error


def _silence_limits(stream: Stream) -> list[tuple[str, float]]:
    """The detectors that call silence a finding, each with its limit in seconds."""
    configs = stream.settings.detectors.items()
    return [(n, c.no_data_seconds) for n, c in configs if isinstance(c, QualityConfig) and c.no_data_seconds]


def _counted_by_run(telemetry: Telemetry) -> list[Effect]:
    points: dict[str, int] = {}
    for point in telemetry.points:
        points[point.run] = points.get(point.run, 0) + 1
    return [TelemetryCounted(run, count) for run, count in points.items()]
