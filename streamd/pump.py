"""The pump: poll, step the engines, deliver what they said with the offsets, and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from streamd.engine import PartitionEngine
from streamd.errors import TransientError
from streamd.fit_worker import Fit, FitWorker
from streamd.model import Effect, Envelope
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.journal import journal
from streamd.observe.metrics import Metrics
from streamd.transport.base import Assigned, Outgoing, Partition, Polled, RecordTooLargeError, Revoked, Transport

log = structlog.get_logger("streamd.pump")

T = TypeVar("T")

_BACKOFF_SECONDS = (0.1, 5.0)  # first and longest pause between two tries, doubled with jitter


@dataclass(slots=True)
class Share:
    """What one partition's records of one poll came to: delivered together, or not at all."""

    owner: PartitionEngine
    steps: list[tuple[list[Effect], float]] = field(default_factory=list)  # effects, and the seconds they took

    def effects(self) -> list[Effect]:
        return [effect for effects, _ in self.steps for effect in effects]


class Pump:
    """One process's loop. Runs on the thread that calls `run`, which owns the transport.

    ```
      poll ──▶ changes: engines come and go
           ──▶ records ──▶ engine.step ──▶ effects ──▶ deliver(records, offsets) ──▶ metrics, board
                                └─ a training is due: the partition waits, the others flow
    ```

    Args:
        transport: where records come from and go to.
        new_engine: builds the engine of a partition from its first offset.
        to_records: which effects go to which topics.
        fit: trains a detector.
        metrics, board, health: what the outside sees.
        poll_seconds: the longest wait for records.
        tick_seconds: how often silent partitions are asked.
    """

    def __init__(
        self,
        transport: Transport,
        new_engine: Callable[[Partition, int], PartitionEngine],
        to_records: Callable[[Iterable[Effect]], list[Outgoing]],
        fit: Fit,
        metrics: Metrics,
        board: Board,
        health: Health,
        *,
        poll_seconds: float,
        tick_seconds: float,
    ) -> None:
        self._transport = transport
        self._new_engine = new_engine
        self._to_records = to_records
        self._metrics = metrics
        self._board = board
        self._health = health
        self._poll_seconds = poll_seconds
        self._tick_seconds = tick_seconds
        self._engines: dict[Partition, PartitionEngine] = {}
        self._fitting: set[Partition] = set()
        self._worker = FitWorker(fit)
        self._next_tick = 0.0
        self.stopping = False

    def stop(self) -> None:
        """Finish what was polled, then return from `run`. One assignment: safe in a signal handler."""
        self.stopping = True

    def run(self) -> None:
        """Pump until `stop`. Returns with everything that was polled delivered.

        Raises:
            TransientError: told to stop while the broker did not take what was due. Nothing of it is committed.
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
        self._metrics.polled(polled.records)
        shares: dict[Partition, Share] = {}
        self._take_fits(shares)
        self._step(polled.records, shares)
        self._tick(shares)
        self._deliver(shares)
        self._metrics.lags(self._transport.lags())
        self._metrics.partitions_paused(len(self._fitting))
        engines = self._engines.values()
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

    # --- The parts of a turn ---

    def _change(self, polled: Polled) -> None:
        """Engines are born on assignment and dropped on revocation."""
        for change in polled.changes:
            match change:
                case Assigned(positions):
                    self._engines |= {p: self._new_engine(p, offset) for p, offset in positions.items()}
                    self._fitting.difference_update(positions)
                    self._metrics.assigned(positions.keys())
                    log.info("partitions assigned", partitions=_names(positions))
                case Revoked(partitions):
                    for partition in partitions:
                        self._engines.pop(partition, None)
                    self._fitting.difference_update(partitions)
                    self._metrics.revoked(partitions)
                    self._board.revoked(partitions)
                    log.info("partitions revoked", partitions=_names(partitions))
        for skipped in polled.skipped:
            self._metrics.skipped(skipped.partition.topic, skipped.last_offset - skipped.first_offset + 1)
            log.error(
                "records that cannot be read were passed over",
                partition=_names([skipped.partition])[0],
                first_offset=skipped.first_offset,
                last_offset=skipped.last_offset,
                cause=skipped.error,
            )

    def _step(self, records: Iterable[Envelope], shares: dict[Partition, Share]) -> None:
        for envelope in records:
            partition = Partition(envelope.topic, envelope.partition)
            engine = self._engines[partition]
            if partition in self._fitting:
                continue  # it was sought back, and this record comes again
            started = time.perf_counter()
            effects = engine.step(envelope)
            shares.setdefault(partition, Share(engine)).steps.append((effects, time.perf_counter() - started))
            self._health.beat()
            job = engine.fit_wanted
            if job is not None:
                self._fitting.add(partition)
                self._transport.pause([partition])
                self._transport.seek(partition, envelope.offset + 1)
                self._worker.submit(engine, job)

    def _take_fits(self, shares: dict[Partition, Share]) -> None:
        """Give trained weights to the engines that wait for them, and let their partitions flow again."""
        for engine, weights, problem, seconds in self._worker.results():
            self._metrics.fit_finished(seconds, weights is not None)
            partition = Partition(engine.topic, engine.partition)
            if self._engines.get(partition) is not engine:
                continue  # it was revoked meanwhile: its next owner trains anew
            shares.setdefault(partition, Share(engine)).steps.append((engine.fitted(weights, problem), 0.0))
            if engine.fit_wanted is not None:
                self._worker.submit(engine, engine.fit_wanted)
            else:
                self._fitting.discard(partition)
                self._transport.resume([partition])

    def _tick(self, shares: dict[Partition, Share]) -> None:
        """Make silence explicit, where there is no backlog that could be mistaken for it."""
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + self._tick_seconds
        now_ms = int(time.time() * 1000)
        lags = self._transport.lags()
        for partition, engine in self._engines.items():
            if partition not in shares and partition not in self._fitting and lags.get(partition) == 0:
                effects = engine.tick(now_ms)
                if effects:
                    shares[partition] = Share(engine, [(effects, 0.0)])

    # --- Delivery ---

    def _deliver(self, shares: dict[Partition, Share]) -> None:
        """Make effects and offsets durable; keep trying for as long as the partitions are ours."""
        records = {partition: self._to_records(share.effects()) for partition, share in shares.items()}
        offsets = {partition: self._transport.position(partition) for partition in shares}
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
                records = {p: each for p, each in records.items() if self._engines.get(p) is shares[p].owner}
                continue
            self._well()
            self._metrics.delivered(len(outgoing), time.perf_counter() - started)
            for partition in records:
                self._show(partition, shares[partition])
            return

    def _show(self, partition: Partition, share: Share) -> None:
        """What was delivered may be seen."""
        for effects, seconds in share.steps:
            self._metrics.observe(effects, partition.topic, partition.number, seconds)
            self._board.observe(effects, partition.topic, partition.number)
            journal(effects, partition.topic, partition.number)

    def _hold(self, seconds: float) -> None:
        """Stay in the group for a while without taking records."""
        self._transport.pause(self._engines.keys())
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
            self._transport.pause(self._engines.keys())  # what is newly ours waits too
        self._transport.resume(self._engines.keys() - self._fitting)

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
