"""The pump: poll, step the engines, deliver what they said with the offsets, and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import structlog

from streamd.engine import DetectorCrashError
from streamd.errors import ConfigError, TransientError
from streamd.model import Effect, Envelope
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.journal import journal
from streamd.observe.metrics import Metrics
from streamd.seating import Fit, Seating, names
from streamd.seats import Seat, Seats
from streamd.transport.base import Outgoing, Partition, RecordTooLargeError, Transport

log = structlog.get_logger("streamd.pump")

T = TypeVar("T")

_BACKOFF_SECONDS = (0.1, 5.0)  # first and longest pause between two tries, doubled with jitter
_DRAIN_SECONDS = 3.0  # how long what is due is still tried when told to stop: leaving must fit into five with it


@dataclass(slots=True)
class Share:
    """What one partition's part of one turn came to: delivered together, or not at all."""

    seat: Seat
    steps: list[tuple[list[Effect], float]] = field(default_factory=list)  # effects, and the seconds they took
    state: list[Outgoing] = field(default_factory=list)  # for the state topic, beside what the steps ask for

    def effects(self) -> list[Effect]:
        return [effect for effects, _ in self.steps for effect in effects]


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
        self._to_records = to_records
        self._metrics = metrics
        self._board = board
        self._health = health
        self._reload = reload
        self._poll_seconds = poll_seconds
        self._seating = Seating(
            transport, seats, fit, metrics, board, health, self._bounds, self._trouble, on_offset_loss
        )
        self._seats = self._seating.seats
        self._crashes: dict[Partition, tuple[int, DetectorCrashError]] = {}
        self._next_tick = 0.0
        self._give_up_at = float("inf")
        self.stopping = False
        self.reload_wanted = False

    def stop(self) -> None:
        """Finish what was polled, then return from `run`. Assignments alone: safe in a signal handler."""
        if not self.stopping:
            self._give_up_at = time.monotonic() + _DRAIN_SECONDS
        self.stopping = True

    def run(self) -> None:
        """Pump until `stop`. Returns with everything that was polled delivered.

        Raises:
            TransientError: told to stop, and the broker does not take what is due. Nothing of it is committed.
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
        self._seating.change(polled)
        shares: dict[Partition, Share] = {}
        if self.reload_wanted:
            self._read_configuration()
        self._rebuild(shares)
        self._seating.take_restores()
        for seat, effects in self._seating.take_fits():
            shares.setdefault(seat.partition, Share(seat)).steps.append((effects, 0.0))
        self._step(polled.records, shares)
        self._tick(shares)
        self._save(shares)
        self._deliver(shares)
        self._look_at_progress()
        self._board.looks.answer(self._seats)
        self._metrics.partitions_paused(sum(seat.waits for seat in self._seats.values()))
        self._metrics.partitions_restoring(sum(not seat.live for seat in self._seats.values()))
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

    def _bounds(self, partition: Partition) -> tuple[int, int] | None:
        return self.retry(lambda: self._transport.bounds(partition))

    # --- Configuration ---

    def _read_configuration(self) -> None:
        """An invalid one changes nothing."""
        self.reload_wanted = False
        try:
            self._seating.factory = self._reload()
        except ConfigError as error:
            self._metrics.config_reloaded(done=False)
            log.error("the configuration is refused; the old one stays in force", problems=list(error.problems))
            return
        self._metrics.config_reloaded(done=True)
        log.info("configuration reloaded")
        for seat in self._seats.values():
            seat.recent_bad.clear()
            if seat.halted:
                seat.halted = False
                self._seating.flow(seat)

    def _rebuild(self, shares: dict[Partition, Share]) -> None:
        """Build the engines of the configuration that is in force, each between two records, with a snapshot.

        The partition waits for that: what the new engine says must not be told before the old one is no way back.
        """
        for seat in self._seats.values():
            if seat.factory is not self._seating.factory and seat.live and not seat.waits:
                seat.rebuild(self._seating.factory)
                self._seating.wait(seat, seat.engine.next_offset)
                shares[seat.partition] = Share(seat)

    # --- Records ---

    def _step(self, records: Sequence[Envelope], shares: dict[Partition, Share]) -> None:
        taken = []
        last = {(e.topic, e.partition, e.key): e.offset for e in records}  # what came before is hidden by it
        for envelope in records:
            seat = self._seats[Partition(envelope.topic, envelope.partition)]
            if seat.waits:
                continue  # it was sought back, and this record comes again
            taken.append(envelope)
            self._health.beat()
            if envelope.offset < seat.engine.next_offset:
                place = names([seat.partition])[0]
                raise ConfigError(
                    f"{place}: offset {envelope.offset} comes after {seat.engine.next_offset - 1}: was the topic made "
                    "anew? Then use another kafka.group_id"
                )
            started = time.perf_counter()
            try:
                # A record without a key may be of any stream.
                shown = (
                    envelope.key is None or last[envelope.topic, envelope.partition, envelope.key] == envelope.offset
                )
                effects, state = seat.step(envelope, shown=shown)
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
                self._seating.train(seat, envelope.offset + 1)
        self._metrics.polled(taken)
        for partition, seat in self._seats.items():
            if not seat.live and not seat.waits and seat.reached(self._transport.position(partition)):
                self._board.observe(seat.engine.standing(), partition.topic, partition.number)
                self._metrics.restored(time.monotonic() - seat.made_at)

    def _halt(self, seat: Seat, next_offset: int) -> None:
        """When everything is bad, something was deployed: it must be mended, not moved to the dead letters."""
        seat.halted = True
        self._seating.wait(seat, next_offset)
        log.error(
            "a partition is halted: nearly all of its recent records are bad; mend the producers or the limits, "
            "then reload (SIGHUP) or restart",
            partition=names([seat.partition])[0],
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
            name = names([partition])[0]
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
            partition=names([seat.partition])[0],
            offset=envelope.offset,
            stream=crash.stream,
            detector=crash.detector,
            exc_info=crash,
        )
        self._metrics.detector_crashed(crash.detector)
        self._seating.restore(seat.partition, seat.committed, skips)

    def _tick(self, shares: dict[Partition, Share]) -> None:
        """Make silence explicit, where there is no backlog that could be mistaken for it."""
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + self._seating.factory.settings.tick_seconds
        now_ms = int(time.time() * 1000)
        lags = self._transport.lags()
        for partition, seat in self._seats.items():
            if seat.live and not seat.waits and partition not in shares and lags.get(partition) == 0:
                effects = seat.engine.tick(now_ms)
                if effects is not None:
                    assert seat.keeper is not None
                    shares[partition] = Share(seat, [(effects, 0.0)], seat.keeper.tick(seat.engine, now_ms))

    def _save(self, shares: dict[Partition, Share]) -> None:
        """Snapshots that are under way go on, records or not."""
        for partition, seat in self._seats.items():
            if seat.live and seat.keeper is not None and seat.keeper.saving:
                shares.setdefault(partition, Share(seat))

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
                delay = _BACKOFF_SECONDS[0] if self.stopping else min(delay * 2, _BACKOFF_SECONDS[1])
                # A partition that was revoked meanwhile is its next owner's, who does the same work again.
                records = {p: each for p, each in records.items() if self._seating.holds(shares[p].seat)}
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
        seat, partition = share.seat, share.seat.partition
        seat.committed = offset
        seat.moved_at = time.monotonic()
        if seat.saves and seat.keeper is not None and not seat.keeper.saving:
            seat.saves = False
            self._seating.flow(seat)
        for effects, seconds in share.steps:
            self._metrics.observe(effects, partition.topic, partition.number, seconds)
            self._board.observe(effects, partition.topic, partition.number)
            journal(effects, partition.topic, partition.number)

    def _hold(self, seconds: float) -> None:
        """Stay in the group for a while without taking records; until told to stop, which is no time to wait long."""
        if time.monotonic() > self._give_up_at:
            raise TransientError("stopped, and the broker did not take what was due; nothing of it is committed")
        self._transport.pause(self._seats.keys())
        was_stopping = self.stopping
        until = time.monotonic() + seconds * random.uniform(0.5, 1.0)
        while self.stopping == was_stopping and (left := until - time.monotonic()) > 0:
            self._health.beat()
            try:
                polled = self._transport.poll(min(self._poll_seconds, left))
            except TransientError:
                time.sleep(min(self._poll_seconds, left))
                continue
            self._seating.change(polled)
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
