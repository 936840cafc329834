"""Which partitions are ours, and what each of them waits for on another thread: its state, or a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import structlog

from streamd.detectors.base import DetectorConfig, Reference
from streamd.engine import DetectorCrashError
from streamd.errors import ConfigError
from streamd.model import Effect
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.metrics import Metrics
from streamd.seats import Restored, Seat, Seats
from streamd.trainings import FitJob
from streamd.transport.base import Assigned, Partition, Polled, Revoked, Transport
from streamd.worker import Worker

log = structlog.get_logger("streamd.pump")

Fit = Callable[[DetectorConfig, Reference], bytes]
"""Trains a detector, a pure function. Raises ValueError with a sentence where the data does not allow it."""

Bounds = Callable[[Partition], tuple[int, int] | None]
"""`Transport.bounds`, with patience; None: told to stop."""

_NONE: Mapping[int, DetectorCrashError] = MappingProxyType({})
_RESTORE_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training came to: weights, or None and the problem that the data has."""

    seat: Seat
    weights: bytes | None
    problem: str
    seconds: float


class Seating:
    """The seats of what is assigned. A partition whose seat waits is paused; the others flow.

    Args:
        transport: whose partitions.
        factory: makes and restores seats; replaced when the configuration is.
        fit: trains a detector.
        metrics, board, health: what the outside sees.
        bounds: asks the broker what is there of a partition.
        trouble: told of what must be tried again.
        on_offset_loss: what to do when records that the state needs are gone.
    """

    def __init__(
        self,
        transport: Transport,
        factory: Seats,
        fit: Fit,
        metrics: Metrics,
        board: Board,
        health: Health,
        bounds: Bounds,
        trouble: Callable[[Exception], None],
        on_offset_loss: Literal["stop", "earliest", "latest"],
    ) -> None:
        self.factory = factory
        self.seats: dict[Partition, Seat] = {}
        self._transport = transport
        self._fit = fit
        self._metrics = metrics
        self._board = board
        self._health = health
        self._bounds = bounds
        self._trouble = trouble
        self._on_offset_loss = on_offset_loss
        self._fits: Worker[Fitted] = Worker("fit")
        self._restores: Worker[Restored] = Worker("restore")

    def holds(self, seat: Seat) -> bool:
        """Whether its partition is still ours, and this is still its seat."""
        return self.seats.get(seat.partition) is seat

    def wait(self, seat: Seat, next_offset: int) -> None:
        """Let the partition wait; what was polled of it from `next_offset` on comes again."""
        seat.waits = True
        self._transport.pause([seat.partition])
        self._transport.seek(seat.partition, next_offset)

    def flow(self, seat: Seat) -> None:
        """Its partition waits no longer."""
        seat.waits = False
        self._transport.resume([seat.partition])

    # --- Partitions come and go ---

    def change(self, polled: Polled) -> None:
        """A seat is made on assignment and dropped on revocation."""
        for change in polled.changes:
            match change:
                case Assigned(positions):
                    log.info("partitions assigned", partitions=names(positions))
                    self._metrics.assigned(positions.keys())
                    for partition, committed in positions.items():
                        self.restore(partition, committed)
                case Revoked(partitions):
                    for partition in partitions:
                        self.seats.pop(partition, None)
                        self._health.stalled(names([partition])[0], None)
                    self._metrics.revoked(partitions)
                    self._board.revoked(partitions)
                    log.info("partitions revoked", partitions=names(partitions))
        for partition in polled.lost:
            log.error("retention has removed what was to be read next", partition=names([partition])[0])
            self.restore(partition, self.seats[partition].committed)
        for skipped in polled.skipped:
            self._metrics.skipped(skipped.partition.topic, skipped.last_offset - skipped.first_offset + 1)
            log.error(
                "records that cannot be read were passed over",
                partition=names([skipped.partition])[0],
                first_offset=skipped.first_offset,
                last_offset=skipped.last_offset,
                cause=skipped.error,
            )

    # --- Restoring ---

    def restore(self, partition: Partition, committed: int, skips: Mapping[int, DetectorCrashError] = _NONE) -> None:
        """Begin to restore the partition's state; it waits, paused, until that is done."""
        seat = self.seats[partition] = self.factory.empty(partition, committed, skips)
        self._transport.pause([partition])
        self._restores.submit(lambda: self.factory.restored(seat))

    def take_restores(self) -> None:
        """Let restored partitions read again what came after their snapshot, and then flow."""
        for restored in self._restores.results():
            seat = restored.seat
            if not self.holds(seat):
                continue  # revoked meanwhile
            if restored.trouble is not None:
                self._trouble(restored.trouble)
                self._restores.submit(partial(self.factory.restored, seat, after_seconds=_RESTORE_AGAIN_SECONDS))
                continue
            start = self._start_of(seat)
            if start is None:
                return  # told to stop
            seat.begin(restored)
            self._transport.seek(seat.partition, start)
            self._transport.resume([seat.partition])
            log.info(
                "state restored",
                partition=names([seat.partition])[0],
                streams=seat.engine.streams,
                from_offset=start,
                committed_offset=seat.committed,
                problems=list(restored.problems),
            )

    def _start_of(self, seat: Seat) -> int | None:
        """Where to read from. Raises ConfigError when records that the state needs are gone; None: told to stop."""
        wanted = seat.engine.next_offset
        bounds = self._bounds(seat.partition)
        if bounds is None:
            return None
        first, end = bounds
        if wanted >= first:
            return wanted
        lost = f"{names([seat.partition])[0]}: records {wanted} to {first - 1} are gone (retention)"
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

    # --- Training ---

    def train(self, seat: Seat, next_offset: int) -> None:
        """Train what the engine wants, while its partition waits."""
        self.wait(seat, next_offset)
        self._submit(seat)

    def take_fits(self) -> list[tuple[Seat, list[Effect]]]:
        """Give trained weights to the engines that wait for them, and let their partitions flow again.

        Returns:
            what each engine said to it.
        """
        told = []
        for fitted in self._fits.results():
            self._metrics.fit_finished(fitted.seconds, fitted.weights is not None)
            seat = fitted.seat
            if not self.holds(seat):
                continue  # it was revoked meanwhile: its next owner trains anew
            told.append((seat, seat.engine.fitted(fitted.weights, fitted.problem)))
            if seat.engine.fit_wanted is not None:
                self._submit(seat)
            else:
                self.flow(seat)
        return told

    def _submit(self, seat: Seat) -> None:
        job = seat.engine.fit_wanted
        assert job is not None
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


def names(partitions: Iterable[Partition]) -> list[str]:
    """Of partitions, for people."""
    return sorted(f"{p.topic}/{p.number}" for p in partitions)
