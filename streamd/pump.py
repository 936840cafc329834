"""The pump: poll, step the engines, deliver what they said with the offsets, and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeVar

import structlog

from streamd.detectors.base import DetectorConfig, Reference
from streamd.engine import DetectorCrashError, FitJob
from streamd.errors import ConfigError, TransientError
from streamd.model import Effect, Envelope
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.journal import journal
from streamd.observe.metrics import Metrics
from streamd.seats import Restored, Seat, Seats
from streamd.transport.base import Assigned, Outgoing, Partition, Polled, RecordTooLargeError, Revoked, Transport
from streamd.worker import Worker

log = structlog.get_logger("streamd.pump")

T = TypeVar("T")

Fit = Callable[[DetectorConfig, Reference], bytes]
"""Trains a detector, a pure function. Raises ValueError with a sentence where the data does not allow it."""

_NONE: Mapping[int, DetectorCrashError] = MappingProxyType({})
_RESTORE_AGAIN_SECONDS = 1.0
_BACKOFF_SECONDS = (0.1, 5.0)  # first and longest pause between two tries, doubled with jitter


@dataclass(slots=True)
class Share:
    """What one partition's part of one turn came to: delivered together, or not at all."""

    seat: Seat
    steps: list[tuple[list[Effect], float]] = field(default_factory=list)  # effects, and the seconds they took
    state: list[Outgoing] = field(default_factory=list)  # for the state topic, beside what the steps ask for

    def effects(self) -> list[Effect]:
        return [effect for effects, _ in self.steps for effect in effects]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training came to: weights, or None and the problem that the data has."""

    seat: Seat
    weights: bytes | None
    problem: str
    seconds: float


class Pump:
    """One process's loop. Runs on the thread that calls `run`, which owns the transport.

    ```
      poll ──▶ changes: seats come (restored on a thread) and go
           ──▶ records ──▶ engine.step ──▶ effects, state ──▶ deliver(records, offsets) ──▶ metrics, board
                                └─ a training is due: the partition waits, the others flow
    ```

    Args:
        transport: where records come from and go to.
        seats: makes and restores what an assigned partition needs.
        to_records: which effects go to which topics.
        fit: trains a detector.
        metrics, board, health: what the outside sees.
        reload: reads the configuration again, when `reload_wanted` was set; raises ConfigError.
        poll_seconds: the longest wait for records.
        on_offset_loss: what to do when records that the state needs are gone.
    """

    def __init__(
        self,
        transport: Transport,
        seats: Seats,
        to_records: Callable[[Iterable[Effect]], list[Outgoing]],
        fit: Fit,
        metrics: Metrics,
        board: Board,
        health: Health,
        reload: Callable[[], Seats],
        *,
        poll_seconds: float,
        on_offset_loss: Literal["stop", "earliest", "latest"] = "stop",
    ) -> None:
        self._transport = transport
        self._factory = seats
        self._to_records = to_records
        self._fit = fit
        self._metrics = metrics
        self._board = board
        self._health = health
        self._reload = reload
        self._poll_seconds = poll_seconds
        self._on_offset_loss = on_offset_loss
        self._seats: dict[Partition, Seat] = {}
        self._fits: Worker[Fitted] = Worker("fit")
        self._restores: Worker[Restored] = Worker("restore")
        self._crashes: dict[Partition, tuple[int, DetectorCrashError]] = {}
        self._next_tick = 0.0
        self.stopping = False
        self.reload_wanted = False

    def stop(self) -> None:
        """Finish what was polled, then return from `run`. One assignment: safe in a signal handler."""
        self.stopping = True

    def run(self) -> None:
        """Pump until `stop`. Returns with everything that was polled delivered.

        Raises:
            TransientError: told to stop while the broker did not take what was due. Nothing of it is committed.
            ConfigError: the state or the input is not what this configuration can go on from.
        """
        self.retry(self._transport.open)
        while not self.stopping:
            self.turn()

    def turn(self) -> None:
        """One turn: poll once and deliver all that it caused."""
        self._health.beat()
        polled = self.retry(lambda: self._transport.poll(self._poll_seconds))
        if polled is None:
            return
        self._change(polled)
        shares: dict[Partition, Share] = {}
        if self.reload_wanted:
            self._read_configuration()
        self._rebuild(shares)
        self._take_restores()
        self._take_fits(shares)
        self._step(polled.records, shares)
        self._tick(shares)
        self._deliver(shares)
        self._look_at_progress()
        self._metrics.partitions_paused(sum(seat.waits for seat in self._seats.values()))
        engines = [seat.engine for seat in self._seats.values()]
        self._metrics.engine_sizes(sum(e.streams for e in engines), sum(e.nbytes for e in engines))

    def retry(self, attempt: Callable[[], T]) -> T | None:
        """Try until it works, or until told to stop: then None. Says so once."""
        delay = _BACKOFF_SECONDS[0]
        while not self.stopping:
            try:
                result = attempt()
            except TransientError as error:
                self._trouble(error)
                self._health.beat()
                self._sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _BACKOFF_SECONDS[1])
                continue
            self._well()
            return result
        return None

    # --- Partitions come and go ---

    def _change(self, polled: Polled) -> None:
        """A seat is made on assignment and dropped on revocation."""
        for change in polled.changes:
            match change:
                case Assigned(positions):
                    log.info("partitions assigned", partitions=_names(positions))
                    self._metrics.assigned(positions.keys())
                    for partition, committed in positions.items():
                        self._seat(partition, committed)
                case Revoked(partitions):
                    for partition in partitions:
                        self._seats.pop(partition, None)
                        self._health.stalled(_names([partition])[0], None)
                    self._metrics.revoked(partitions)
                    self._board.revoked(partitions)
                    log.info("partitions revoked", partitions=_names(partitions))
        for partition in polled.lost:
            log.error("retention has removed what was to be read next", partition=_names([partition])[0])
            self._seat(partition, self._seats[partition].committed)
        for skipped in polled.skipped:
            self._metrics.skipped(skipped.partition.topic, skipped.last_offset - skipped.first_offset + 1)
            log.error(
                "records that cannot be read were passed over",
                partition=_names([skipped.partition])[0],
                first_offset=skipped.first_offset,
                last_offset=skipped.last_offset,
                cause=skipped.error,
            )

    def _seat(self, partition: Partition, committed: int, skips: Mapping[int, DetectorCrashError] = _NONE) -> None:
        """Begin to restore the partition's state; it waits, paused, until that is done."""
        seat = self._seats[partition] = self._factory.empty(partition, committed, skips)
        self._transport.pause([partition])
        self._restores.submit(lambda: self._factory.restored(seat))

    def _take_restores(self) -> None:
        """Let restored partitions read again what came after their snapshot, and then flow."""
        for restored in self._restores.results():
            seat = restored.seat
            if self._seats.get(seat.partition) is not seat:
                continue  # revoked meanwhile
            if restored.trouble is not None:
                self._trouble(restored.trouble)
                self._restores.submit(partial(self._factory.restored, seat, after_seconds=_RESTORE_AGAIN_SECONDS))
                continue
            start = self._start_of(seat)
            if start is None:
                return  # told to stop
            seat.begin(restored)
            self._transport.seek(seat.partition, start)
            self._transport.resume([seat.partition])
            log.info(
                "state restored",
                partition=_names([seat.partition])[0],
                streams=seat.engine.streams,
                from_offset=start,
                committed_offset=seat.committed,
                problems=list(restored.problems),
            )

    def _start_of(self, seat: Seat) -> int | None:
        """Where to read from. Raises ConfigError when records that the state needs are gone; None: told to stop."""
        wanted = seat.engine.next_offset
        bounds = self.retry(lambda: self._transport.bounds(seat.partition))
        if bounds is None:
            return None
        first, end = bounds
        if wanted >= first:
            return wanted
        lost = f"{_names([seat.partition])[0]}: records {wanted} to {first - 1} are gone (retention)"
        lost += ", and nobody judged them" if first > seat.committed else ", which the state needs since its snapshot"
        if self._on_offset_loss == "stop":
            raise ConfigError(
                f"{lost}; kafka.on_offset_loss = earliest goes on with the oldest that is left, latest with what "
                "comes next"
            )
        log.error(f"{lost}; going on as configured", on_offset_loss=self._on_offset_loss)
        start = first if self._on_offset_loss == "earliest" else end
        seat.committed = max(seat.committed, start)
        return start

    # --- Configuration ---

    def _read_configuration(self) -> None:
        """An invalid one changes nothing."""
        self.reload_wanted = False
        try:
            self._factory = self._reload()
        except ConfigError as error:
            self._metrics.config_reloaded(done=False)
            log.error("the configuration is refused; the old one stays in force", problems=list(error.problems))
            return
        self._metrics.config_reloaded(done=True)
        log.info("configuration reloaded")
        for seat in self._seats.values():
            seat.recent_bad.clear()
            if seat.halted:
                seat.halted = seat.waits = False
                self._transport.resume([seat.partition])

    def _rebuild(self, shares: dict[Partition, Share]) -> None:
        """Build the engines of the configuration that is in force, each between two records, with a snapshot."""
        for seat in self._seats.values():
            if seat.factory is not self._factory and seat.live and not seat.waits:
                seat.rebuild(self._factory)
                shares[seat.partition] = Share(seat)

    # --- Records ---

    def _step(self, records: Iterable[Envelope], shares: dict[Partition, Share]) -> None:
        taken = []
        for envelope in records:
            seat = self._seats[Partition(envelope.topic, envelope.partition)]
            if seat.waits:
                continue  # it was sought back, and this record comes again
            taken.append(envelope)
            self._health.beat()
            if envelope.offset < seat.engine.next_offset:
                place = _names([seat.partition])[0]
                raise ConfigError(
                    f"{place}: offset {envelope.offset} comes after {seat.engine.next_offset - 1}: was the topic made "
                    "anew? Then use another kafka.group_id"
                )
            started = time.perf_counter()
            try:
                effects, state = seat.step(envelope)
            except DetectorCrashError as crash:
                shares.pop(seat.partition, None)  # all of it is done again
                self._crashed(seat, envelope, crash)
                continue
            if envelope.offset >= seat.committed:
                share = shares.setdefault(seat.partition, Share(seat))
                share.steps.append((effects, time.perf_counter() - started))
                share.state += state
                if seat.too_many_bad(effects):
                    self._halt(seat, envelope.offset + 1)
            if seat.engine.fit_wanted is not None:
                self._train(seat, envelope.offset + 1)
        self._metrics.polled(taken)
        for partition, seat in self._seats.items():
            if not seat.live and not seat.waits and seat.reached(self._transport.position(partition)):
                self._board.observe(seat.engine.open_alerts(), partition.topic, partition.number)

    def _halt(self, seat: Seat, next_offset: int) -> None:
        """When everything is bad, something was deployed: it must be mended, not moved to the dead letters."""
        seat.waits = seat.halted = True
        self._transport.pause([seat.partition])
        self._transport.seek(seat.partition, next_offset)
        log.error(
            "a partition is halted: nearly all of its recent records are bad; mend the producers or the limits, "
            "then reload (SIGHUP) or restart",
            partition=_names([seat.partition])[0],
            offset=next_offset,
        )

    def _look_at_progress(self) -> None:
        """Say which partitions have unread records and do not get on."""
        lags = self._transport.lags()
        self._metrics.lags(lags)
        now, stalled = time.monotonic(), 0
        for partition, seat in self._seats.items():
            if not lags.get(partition):
                seat.moved_at = now
            reason = seat.stalled(now)
            stalled += reason is not None
            name = _names([partition])[0]
            if self._health.stalled(name, reason and f"{name}: {reason}"):
                if reason is None:
                    log.info("a partition gets on again", partition=name)
                else:
                    log.error("a partition does not get on", partition=name, reason=reason, lag=lags.get(partition))
        self._metrics.partitions_stalled(stalled)

    def _crashed(self, seat: Seat, envelope: Envelope, crash: DetectorCrashError) -> None:
        """A detector raised: its engine is torn, and is restored. The second time the record is passed over."""
        offset, _ = self._crashes.get(seat.partition, (-1, crash))
        skips = {**seat.skips, envelope.offset: crash} if offset == envelope.offset else seat.skips
        self._crashes[seat.partition] = (envelope.offset, crash)
        log.critical(
            "a detector crashed; the partition is restored",
            partition=_names([seat.partition])[0],
            offset=envelope.offset,
            stream=crash.stream,
            detector=crash.detector,
            exc_info=crash,
        )
        self._metrics.detector_crashed(crash.detector)
        self._seat(seat.partition, seat.committed, skips)

    def _train(self, seat: Seat, next_offset: int) -> None:
        """Train what the engine wants, while its partition waits."""
        job = seat.engine.fit_wanted
        assert job is not None
        seat.waits = True
        self._transport.pause([seat.partition])
        self._transport.seek(seat.partition, next_offset)
        self._fits.submit(partial(self._fitted, seat, job))

    def _fitted(self, seat: Seat, job: FitJob) -> Fitted:
        """Runs on the worker's thread."""
        started = time.monotonic()
        weights, problem = None, ""
        try:
            weights = self._fit(job.config, job.reference)
        except ValueError as error:
            problem = str(error)
        return Fitted(seat, weights, problem, time.monotonic() - started)

    def _take_fits(self, shares: dict[Partition, Share]) -> None:
        """Give trained weights to the engines that wait for them, and let their partitions flow again."""
        for fitted in self._fits.results():
            self._metrics.fit_finished(fitted.seconds, fitted.weights is not None)
            seat = fitted.seat
            if self._seats.get(seat.partition) is not seat:
                continue  # it was revoked meanwhile: its next owner trains anew
            effects = seat.engine.fitted(fitted.weights, fitted.problem)
            shares.setdefault(seat.partition, Share(seat)).steps.append((effects, 0.0))
            job = seat.engine.fit_wanted
            if job is not None:
                self._fits.submit(partial(self._fitted, seat, job))
            else:
                seat.waits = False
                self._transport.resume([seat.partition])

    def _tick(self, shares: dict[Partition, Share]) -> None:
        """Make silence explicit, where there is no backlog that could be mistaken for it."""
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + self._factory.settings.tick_seconds
        now_ms = int(time.time() * 1000)
        lags = self._transport.lags()
        for partition, seat in self._seats.items():
            if seat.live and not seat.waits and partition not in shares and lags.get(partition) == 0:
                effects = seat.engine.tick(now_ms)
                if effects:
                    assert seat.keeper is not None
                    shares[partition] = Share(seat, [(effects, 0.0)], seat.keeper.tick(seat.engine, now_ms))

    # --- Delivery ---

    def _deliver(self, shares: dict[Partition, Share]) -> None:
        """Make effects, state and offsets durable together; keep trying while the partitions are ours."""
        records = {partition: self._records(share) for partition, share in shares.items()}
        # Never back: a training that is repeated while reading again is delivered before `committed` is reached.
        offsets = {p: max(self._transport.position(p), share.seat.committed) for p, share in shares.items()}
        delay = _BACKOFF_SECONDS[0]
        while records:
            outgoing = [record for each in records.values() for record in each]
            started = time.perf_counter()
            try:
                self._transport.deliver(outgoing, {partition: offsets[partition] for partition in records})
            except (TransientError, RecordTooLargeError) as error:
                self._metrics.delivery_failed(type(error.__cause__ or error).__name__)
                self._trouble(error)
                self._hold(delay)
                delay = min(delay * 2, _BACKOFF_SECONDS[1])
                # A partition that was revoked meanwhile is its next owner's, who does the same work again.
                records = {p: each for p, each in records.items() if self._seats.get(p) is shares[p].seat}
                continue
            self._well()
            self._metrics.delivered(len(outgoing), time.perf_counter() - started)
            for partition in records:
                self._delivered(shares[partition], offsets[partition])
            return

    def _records(self, share: Share) -> list[Outgoing]:
        effects, keeper = share.effects(), share.seat.keeper
        assert keeper is not None
        return [*self._to_records(effects), *share.state, *keeper.records(share.seat.engine, effects, len(share.steps))]

    def _delivered(self, share: Share, offset: int) -> None:
        """What was delivered may be seen, and is not told again by this process."""
        partition = share.seat.partition
        share.seat.committed = offset
        share.seat.moved_at = time.monotonic()
        for effects, seconds in share.steps:
            self._metrics.observe(effects, partition.topic, partition.number, seconds)
            self._board.observe(effects, partition.topic, partition.number)
            journal(effects, partition.topic, partition.number)

    def _hold(self, seconds: float) -> None:
        """Stay in the group for a while without taking records."""
        self._transport.pause(self._seats.keys())
        until = time.monotonic() + seconds * random.uniform(0.5, 1.0)
        while (left := until - time.monotonic()) > 0:
            self._health.beat()
            if self.stopping:
                raise TransientError("stopped while the broker did not take what was due; nothing of it is committed")
            try:
                polled = self._transport.poll(min(self._poll_seconds, left))
            except TransientError:
                self._sleep(min(self._poll_seconds, left))
                continue
            self._change(polled)
            assert not polled.records, "a paused partition gave records"
        self._transport.resume([partition for partition, seat in self._seats.items() if not seat.waits])

    def _sleep(self, seconds: float) -> None:
        """Sleep in slices, so that being told to stop does not wait for it."""
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def _trouble(self, error: Exception) -> None:
        self._metrics.broker_available(False)
        if self._health.broker_lost(str(error)):
            log.warning("the broker does not do its part; waiting for it", cause=str(error))

    def _well(self) -> None:
        if self._health.broker_found():
            self._metrics.broker_available(True)
            log.info("the broker answers")


def _names(partitions: Iterable[Partition]) -> list[str]:
    return sorted(f"{p.topic}/{p.number}" for p in partitions)
