"""The engine of one partition: one record in, the list of what should happen out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import isfinite
from typing import Literal

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.detectors.base import Detector, Readable, State, is_bundled
from streamd.detectors.histogram import Histogram, Pictured
from streamd.engine_settings import EngineSettings, StreamSettings
from streamd.errors import InvalidRecord, Reason, StreamdError
from streamd.holdings import Holdings, described
from streamd.incidents import Occasion, crashed, unacknowledged
from streamd.kept import Kept, keep_reference
from streamd.model import (
    Acknowledgement,
    BatchJudged,
    DeadLetter,
    Effect,
    Envelope,
    FeatureBatch,
    Outcome,
    ReferencePart,
    Reset,
    RunEnded,
    RunJudged,
    Severity,
    StreamChanged,
    Telemetry,
    TelemetryCounted,
    TelemetryPoint,
    Undo,
    Verdict,
    Window,
)
from streamd.profiles import Profiles
from streamd.run import RuleCrashError, Run
from streamd.snapshots import SavedStream, Snapshots
from streamd.stream import Stream
from streamd.trainings import FitJob, Trainings


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
        self._content = content
        self._limits = limits
        self._settings = settings
        self._stream_settings = stream_settings
        self._profiles = profiles
        self._next_offset = next_offset
        self._snapshots = Snapshots()
        self._streams = Holdings(self._made, settings.streams_max, self._snapshots)
        self._trainings = Trainings(self._streams, settings.fits_max)

    # --- Records ---

    def step(self, envelope: Envelope, *, shown: bool = True) -> list[Effect]:
        """Fold one record into the state; return what the world should be told.

        `shown`: somebody may see the readings. They are left out where they would be hidden at once.
        """
        assert envelope.offset >= self._next_offset, (envelope.offset, self._next_offset)
        assert self.fit_wanted is None, "a fit is due before the next record"
        self._next_offset = envelope.offset + 1
        try:
            observation = decode(envelope, self._limits, self._content)
            match observation:
                case FeatureBatch():
                    return self._judge(observation, envelope, shown)
                case ReferencePart():
                    return self._collect(observation, envelope)
                case Reset():
                    return self._reset(observation, envelope)
                case Undo():
                    return self._undo(observation, envelope)
                case Acknowledgement():
                    return self._acknowledge(observation)
                case Telemetry():
                    return self._follow(observation, envelope)
                case RunEnded():
                    return self._end(observation, envelope)
        except InvalidRecord as error:
            return [DeadLetter(envelope, error.reason.stage, error.reason, error.detail)]

    def _judge(self, batch: FeatureBatch, envelope: Envelope, shown: bool) -> list[Effect]:
        stream, effects = self._streams.stream(batch.stream)
        effects += self._heard(stream, batch.event_time_ms, envelope)
        if (stopped := stream.policy.advance(batch.event_time_ms)) is not None:
            effects.append(StreamChanged(stream.name, "still", stopped))
        outcomes: list[Outcome] = []
        severities: list[Severity] = []
        visible = stream.visible(batch)
        for name, detector in stream.detectors.items():
            for verdict in _judged(name, detector, visible(name)):
                occasion = self._occasion(batch.stream, batch.event_time_ms, envelope, len(severities))
                severity, told = stream.policy.grade(verdict, occasion)
                outcomes.append(verdict)
                severities.append(severity)
                effects += told
            if shown and isinstance(detector, Readable):
                outcomes += detector.readings()
        spending = stream.policy.spending
        judged = tuple(outcomes), tuple(severities), spending
        effects.append(BatchJudged(batch.stream, batch.event_time_ms, batch.table.rows, *judged))
        # A batch that alarmed never becomes part of a reference.
        if max(severities, default=Severity.NONE) < Severity.WARNING and stream.learn_first_rows(batch):
            effects += self._reference_taken(stream)
        else:
            effects += self._trainings.queue(stream)  # a detector that came with a new configuration
        self._streams.count(stream)
        return effects

    def _follow(self, telemetry: Telemetry, envelope: Envelope) -> list[Effect]:
        """Judge the points of a record, each by the rules of its run."""
        effects: list[Effect] = []
        followed: dict[str, list[TelemetryPoint]] = {}
        found: dict[str, list[tuple[Verdict, Severity]]] = {}
        ordinal = 0
        for point in telemetry.points:
            run, told = self._streams.run(point.run)
            effects += told
            if point.run not in followed:
                effects += self._heard(run, point.event_time_ms, envelope)
            followed.setdefault(point.run, []).append(point)
            try:
                for verdict in run.judge(point, envelope.offset):
                    occasion = self._occasion(run.name, point.event_time_ms, envelope, ordinal)
                    severity, told_of_it = run.policy.grade(verdict, occasion)
                    ordinal += 1
                    effects += told_of_it
                    if severity > Severity.NONE:
                        found.setdefault(run.name, []).append((verdict, severity))
            except RuleCrashError as crash:
                raise DetectorCrashError(run.name, crash.rule) from crash.__cause__
            self._streams.count(run)
        for name, points in followed.items():
            metrics = {metric: value for point in points for metric, value in point.metrics.items()}
            verdicts, severities = zip(*found[name], strict=True) if name in found else ((), ())
            last = points[-1]
            effects.append(TelemetryCounted(name, len(points)))
            nonfinite = sum(not isfinite(value) for point in points for value in point.metrics.values())
            effects.append(RunJudged(name, last.event_time_ms, last.step, metrics, verdicts, severities, nonfinite))
        return effects

    def _end(self, ended: RunEnded, envelope: Envelope) -> list[Effect]:
        run = self._streams.touched(ended.run)
        if run is None:
            return [StreamChanged(ended.run, "ended", "nothing was known of it")]
        assert isinstance(run, Run), ended.run
        occasion = self._occasion(ended.run, ended.event_time_ms, envelope)
        return [*run.end(ended, occasion), StreamChanged(ended.run, "ended", ended.outcome)]

    def _collect(self, part: ReferencePart, envelope: Envelope) -> list[Effect]:
        stream, effects = self._streams.stream(part.batch.stream)
        effects += self._heard(stream, part.batch.event_time_ms, envelope)
        if stream.collect(part):
            occasion = self._occasion(stream.name, part.batch.event_time_ms, envelope)
            effects += stream.policy.reset(occasion, "ended: a new reference is in force")
            effects += self._reference_taken(stream)
        self._streams.count(stream, anew=True)
        return effects

    def _reference_taken(self, stream: Stream, how: str = "") -> list[Effect]:
        """Tell of the new reference, and train on it what must be."""
        reference = stream.reference
        assert reference is not None
        detail = described(reference) + how + stream.season_words()
        effects: list[Effect] = [StreamChanged(stream.name, "reference", detail)]
        if not reference.bundled:
            effects.append(keep_reference(reference))
        return effects + self._trainings.queue(stream)

    def _reset(self, reset: Reset, envelope: Envelope) -> list[Effect]:
        stream = self._streams.get(reset.stream)
        if stream is None:
            if reset.author or reset.columns:
                raise self._unknown(reset.stream)
            return [StreamChanged(reset.stream, "reset", "nothing was known of it")]
        occasion = self._occasion(reset.stream, reset.event_time_ms, envelope)
        by = f" by {reset.author}" if reset.author else ""
        reason = f"{reset.reason or 'ended: the stream was reset'}{by}"
        if reset.columns:
            assert isinstance(stream, Stream), reset.stream
            return self._begin_anew(stream, reset.columns, occasion, reason)
        self._streams.forget(reset.stream)
        effects: list[Effect] = [*stream.policy.reset(occasion, reason)]
        effects.append(StreamChanged(reset.stream, "reset", f"reference and state forgotten{by}"))
        if reset.author and isinstance(stream, Stream):  # a person may think better of it
            self._streams.stream(reset.stream)[0].succeed(stream)
        return effects

    def _begin_anew(self, stream: Stream, columns: tuple[str, ...], occasion: Occasion, reason: str) -> list[Effect]:
        """What some columns are from now on is their normal."""
        known = () if stream.reference is None else (*stream.reference.table.names, *stream.anew)
        if unknown := [name for name in columns if name not in known]:
            close = get_close_matches(unknown[0], known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            if stream.reference is None:
                hint = ": it has none yet, and learns what comes"
            raise InvalidRecord(Reason.REFUSED, f"the reference of {stream.name!r} has no feature {unknown[0]!r}{hint}")
        self._snapshots.touch(stream)
        ended = stream.begin_anew(columns)
        reference = stream.reference
        assert reference is not None
        self._streams.count(stream, anew=True)
        told = f"{', '.join(columns)} {reason}: {stream.anew_words}"
        alerts = stream.policy.reset(occasion, reason, columns, ended)
        return [*alerts, StreamChanged(stream.name, "reference", told), keep_reference(reference)]

    def _undo(self, undo: Undo, envelope: Envelope) -> list[Effect]:
        stream = self._streams.touched(undo.stream)
        if stream is None:
            raise self._unknown(undo.stream)
        assert isinstance(stream, Stream), undo.stream
        if not stream.undo():
            raise InvalidRecord(Reason.REFUSED, f"nothing to undo: no earlier reference of {undo.stream!r} is known")
        self._streams.count(stream, anew=True)
        by = f" by {undo.author}" if undo.author else ""
        occasion = self._occasion(undo.stream, undo.event_time_ms, envelope)
        ended = stream.policy.reset(occasion, f"ended: the reference before this one was put back{by}")
        return [*ended, *self._reference_taken(stream, f", put back{by}")]

    def _unknown(self, name: str) -> InvalidRecord:
        close = get_close_matches(name, self._streams, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return InvalidRecord(Reason.REFUSED, f"there is no stream {name!r} here{hint}")

    def _acknowledge(self, answer: Acknowledgement) -> list[Effect]:
        stream = self._streams.touched(answer.stream)
        expected = stream is not None and stream.policy.acknowledge(answer.command_id)
        detail = f"command {answer.command_id} {answer.outcome}{'' if expected else ' (nobody waited for it)'}"
        return [StreamChanged(answer.stream, "acknowledged", f"{detail} {answer.detail}".rstrip(), answer.outcome)]

    def skip(self, envelope: Envelope, crash: DetectorCrashError) -> list[Effect]:
        """Pass over a record on which a detector raises: it becomes a dead letter, and a person is told."""
        self._next_offset = envelope.offset + 1
        cause = f"{type(crash.__cause__).__name__}: {crash.__cause__}"
        letter = DeadLetter(envelope, Reason.CRASHED.stage, Reason.CRASHED, f"{crash}: {cause}")
        stream, effects = self._streams.seen(crash.stream)
        place = Window(envelope.offset, envelope.offset, 0)
        occasion = self._occasion(stream.name, envelope.timestamp_ms, envelope)
        return [*effects, letter, *stream.policy.alarm(crashed(crash.detector, place), occasion)]

    # --- Silence ---

    def _heard(self, stream: Stream | Run, event_time_ms: int, envelope: Envelope) -> list[Effect]:
        """The stream spoke: a silence that was told is over."""
        stream.last_record_ms = envelope.timestamp_ms
        if not stream.silent:
            return []
        stream.silent = False
        place = Window(envelope.offset, envelope.offset, 0)
        occasion = self._occasion(stream.name, event_time_ms, envelope)
        return [
            alert
            for name, limit in stream.silence_limits
            for alert in stream.policy.end(stream.silence(name, 0.0, limit, place), occasion, "data arrives again")
        ]

    def tick(self, now_ms: int) -> list[Effect] | None:
        """Ask whether silence up to `now_ms` (epoch milliseconds) is news in itself. None: it changed nothing.

        The shell calls it while the partition has no unread records: a backlog is not silence. One that changed
        something must be repeated by who restores, told or not: an incident may be in its cool-down.
        """
        effects: list[Effect] | None = None
        for stream in self._streams.values():
            place = Window(self._next_offset, self._next_offset, 0)
            silent_seconds = (now_ms - stream.last_record_ms) / 1000
            passed = [each for each in stream.silence_limits if not stream.silent and silent_seconds > each[1]]
            if not passed and not stream.policy.is_overdue(now_ms):
                continue
            effects = effects or []
            self._snapshots.touch(stream)
            verdicts = [unacknowledged(pending, place) for pending in stream.policy.overdue(now_ms)]
            effects += [StreamChanged(stream.name, "unanswered", verdict.finding, "none") for verdict in verdicts]
            verdicts += [stream.silence(name, silent_seconds, limit, place) for name, limit in passed]
            stream.silent = stream.silent or bool(passed)
            for ordinal, verdict in enumerate(verdicts):
                occasion = Occasion(stream.name, self.topic, self.partition, self._next_offset, now_ms, now_ms, ordinal)
                effects += stream.policy.grade(verdict, occasion)[1]
        return effects

    # --- Training ---

    @property
    def fit_wanted(self) -> FitJob | None:
        """What must be trained before the next record, if anything: then call `fitted`."""
        return self._trainings.wanted

    def fitted(self, weights: bytes | None, problem: str = "") -> list[Effect]:
        """Take the result of `fit_wanted`: the weights, or None and the `problem` that the data has."""
        return self._trainings.done(weights, problem)

    # --- Snapshots ---

    def snapshot(self) -> State:
        """The moving part of everything, with the offset that it belongs to; streams in the order of eviction."""
        return self._head() | {"streams": [stream.snapshot() for stream in self._streams.values()]}

    def begin_snapshot(self) -> State:
        """Begin one that is taken little by little, of how it is now: what `snapshot` gives, with names for streams.

        Streams that `saved` does not give until `saving` ends are as they were in the snapshot before.
        """
        self._snapshots.begin()
        return self._head() | {"streams": list(self._streams)}

    def saved(self, count: int) -> list[SavedStream]:
        """The next streams of the snapshot that was begun: `count`, or more where more have changed meanwhile."""
        return self._snapshots.take(count)

    @property
    def saving(self) -> bool:
        """`saved` has more to give."""
        return self._snapshots.under_way

    def _head(self) -> State:
        assert self.fit_wanted is None, "a fit is due before a snapshot"
        return {"next_offset": self._next_offset, "fitted_unasked": self._trainings.snapshot()}

    def kept(self) -> Kept:
        """What `restore` will want beside the snapshot, of all streams."""
        each = [stream.kept() for stream in self._streams.values()]
        return Kept(
            {key: reference for kept in each for key, reference in kept.references.items()},
            {key: weights for kept in each for key, weights in kept.weights.items()},
        )

    def restore(self, state: State, kept: Kept) -> list[str]:
        """Continue from `snapshot()`, on a new engine. Bit-equal to one that never stopped.

        All streams count as changed: a detector may have begun anew.

        Returns:
            A sentence for each stream whose reference is not among what was kept: it starts anew.
        """
        problems = []
        self._next_offset = state["next_offset"]
        self._trainings.restore(state["fitted_unasked"])
        for saved in state["streams"]:
            name = saved["name"]
            key = saved["reference"]
            if key is not None and not is_bundled(key) and key not in kept.references:
                problems.append(f"the reference of {name} is damaged: the stream starts anew; send it again")
                continue
            stream = self._streams.begin(name)
            stream.restore(saved, kept)
            self._streams.count(stream, anew=True)
        return problems

    def standing(self) -> list[Effect]:
        """Which streams are held and what fires now, for who shows it: nothing of it is news."""
        effects: list[Effect] = []
        for name, stream in self._streams.items():
            what = StreamChanged(name, "seen", "restored")
            if isinstance(stream, Stream) and stream.reference is not None:
                what = StreamChanged(name, "reference", described(stream.reference) + stream.season_words())
            effects += [what, *stream.policy.open_alerts()]
        return effects

    def histogram(self, stream: str, columns: Iterable[str]) -> Histogram | None:
        """The first of `columns` that a detector of the stream compares with its reference, as it is now."""
        held = self._streams.get(stream)
        detectors = [d for d in held.detectors.values() if isinstance(d, Pictured)] if isinstance(held, Stream) else []
        shown = (detector.histogram(column) for column in columns for detector in detectors)
        return next((histogram for histogram in shown if histogram is not None), None)

    # --- Streams ---

    @property
    def next_offset(self) -> int:
        """The smallest offset that the next record may have."""
        return self._next_offset

    @property
    def streams(self) -> int:
        """How many streams are held."""
        return len(self._streams)

    @property
    def nbytes(self) -> int:
        """Memory of the streams' own state in bytes."""
        return self._streams.nbytes

    def _made(self, name: str) -> Stream | Run:
        settings = self._stream_settings(name)
        return Run(name, settings) if self._content == "telemetry" else Stream(name, settings, self._profiles)

    def _occasion(self, stream: str, event_time_ms: int, envelope: Envelope, ordinal: int = 0) -> Occasion:
        return Occasion(
            stream, self.topic, self.partition, envelope.offset, event_time_ms, envelope.timestamp_ms, ordinal
        )


def _judged(name: str, detector: Detector, batch: FeatureBatch) -> tuple[Verdict, ...]:
    try:
        return detector.update(batch)
    except Exception as error:
        raise DetectorCrashError(batch.stream, name) from error
