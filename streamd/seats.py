"""A seat is what an assigned partition needs: its engine, its keeper, and where it is between restored and live."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamd.engine import DetectorCrashError, PartitionEngine
from streamd.engine_settings import EngineSettings
from streamd.errors import TransientError
from streamd.keeper import Journal, Keeper, restore
from streamd.kept import fit_key
from streamd.model import DeadLetter, Effect, Envelope
from streamd.sinks.state import assemble, owner_name
from streamd.state import pack, unpack
from streamd.transport.base import Outgoing, Partition, Transport


@dataclass(eq=False)
class Seat:
    """One assigned partition.

    ```
      waits: restoring ──▶ reads again, silent ──▶ live ⇄ waits: training
                           from the snapshot       from `committed` on
                           to `committed`
    ```

    Attributes:
        committed: what was committed when the seat was made: effects of earlier records are not told again.
        waits: the transport is paused; records that come all the same are left alone.
        live: what others did is read again; what comes now is new.
        halted: nearly all of its recent records were bad.
        saves: it waits until the snapshot of its new engine is written.
        skips: records not to be stepped, since a detector raises on them, by their offset.
    """

    partition: Partition
    committed: int
    engine: PartitionEngine
    factory: Seats
    keeper: Keeper | None = None
    waits: bool = True
    live: bool = False
    skips: dict[int, DetectorCrashError] = field(default_factory=dict)
    halted: bool = False
    saves: bool = False
    made_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)  # when it last got on
    recent_bad: deque[bool] = field(default_factory=deque)
    _journal: Journal = field(default_factory=Journal)
    _weights: Mapping[str, bytes] = field(default_factory=dict)

    def begin(self, restored: Restored) -> None:
        """Take what was restored; reading again may begin at `engine.next_offset`."""
        assert restored.keeper is not None
        self.keeper, self._journal, self._weights = restored.keeper, restored.journal, restored.weights
        self.skips = {**restored.journal.skips, **self.skips}
        self.waits = False

    def step(self, envelope: Envelope, *, shown: bool = True) -> tuple[list[Effect], list[Outgoing]]:
        """Fold in one record; what should be told, and what more should be kept. Nothing while it reads again.

        `shown`: see PartitionEngine.step.
        """
        again = envelope.offset < self.committed
        self._repeat_ticks(envelope.offset if again else None)
        effects, state = self._fold(envelope, shown and not again)
        return ([], []) if again else (effects, state)

    def reached(self, position: int) -> bool:
        """The partition was read up to `position`: whether that is where others had come to, and it is live now."""
        if self.live or self.waits or position < self.committed:
            return False
        self._repeat_ticks(None)
        self.live = True
        return True

    def rebuild(self, factory: Seats) -> None:
        """Go on with a new configuration: detectors whose Config is unchanged keep their state."""
        assert self.keeper is not None
        self.factory = factory
        engine = factory.new_engine(self.partition, self.engine.next_offset)
        engine.restore(unpack(pack(self.engine.snapshot())), self.engine.kept())
        self.engine = engine
        self.saves = True
        self.keeper.want_snapshot()

    def stalled(self, now: float) -> str | None:
        """Why it does not get on; None: it does, or it has not been long."""
        if self.halted:
            return "halted, since nearly all of its recent records are bad"
        silent = now - self.moved_at
        if silent < self.factory.settings.stalled_seconds:
            return None
        return f"no progress for {silent:.0f} s" + (" while it waits for its state or a training" if self.waits else "")

    def too_many_bad(self, effects: Iterable[Effect]) -> bool:
        """Count the record that led to `effects`; whether too many of the last ones were bad."""
        window = self.factory.settings.dead_letters_window
        share_max = self.factory.settings.dead_letters_share_max
        self.recent_bad.append(any(isinstance(effect, DeadLetter) for effect in effects))
        if len(self.recent_bad) > window:
            self.recent_bad.popleft()
        return len(self.recent_bad) == window and sum(self.recent_bad) > share_max * window

    def _fold(self, envelope: Envelope, shown: bool) -> tuple[list[Effect], list[Outgoing]]:
        assert self.keeper is not None
        crash = self.skips.get(envelope.offset)
        if crash is not None:
            return self.engine.skip(envelope, crash), self.keeper.skip(envelope, crash)
        effects = self.engine.step(envelope, shown=shown)
        while (job := self.engine.fit_wanted) is not None:
            weights = self._weights.get(fit_key(job.config, job.reference))
            if weights is None:
                break
            effects += self.engine.fitted(weights)
        return effects, []

    def _repeat_ticks(self, before: int | None) -> None:
        """The ticks that had an effect, at the place where they had it: up to the record at `before`, or all."""
        ticks = self._journal.ticks
        while ticks and (before is None or ticks[0][0] <= before):
            self.engine.tick(ticks.pop(0)[1])


@dataclass(frozen=True)
class Restored:
    """What restoring a seat came to; with `trouble` it must be tried again."""

    seat: Seat
    keeper: Keeper | None = None
    journal: Journal = field(default_factory=Journal)
    weights: Mapping[str, bytes] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    trouble: TransientError | None = None


@dataclass(frozen=True, eq=False)
class Seats:
    """Makes seats and restores them.

    Attributes:
        transport: where the state is read, on another thread than polls.
        new_engine: builds the engine of a partition from its first offset.
        group_id: whose state.
        topic: the state topic.
        settings: how often snapshots are taken, when a partition is halted or called stalled.
    """

    transport: Transport
    new_engine: Callable[[Partition, int], PartitionEngine]
    group_id: str
    topic: str
    settings: EngineSettings

    def empty(self, partition: Partition, committed: int, skips: Mapping[int, DetectorCrashError]) -> Seat:
        """A seat that waits to be restored."""
        return Seat(partition, committed, self.new_engine(partition, committed), self, skips=dict(skips))

    def restored(self, seat: Seat, after_seconds: float = 0.0) -> Restored:
        """Read the partition's state and put it into the seat's engine. For a thread that may wait."""
        time.sleep(after_seconds)
        owner = owner_name(self.group_id, seat.partition)
        try:
            records = self.transport.read_state(self.topic, owner.encode())
        except TransientError as error:
            return Restored(seat, trouble=error)
        found = assemble(records, owner, seat.committed)
        keeper = Keeper(owner, self.topic, self.settings.snapshot_records, found)
        journal, weights, problems = restore(seat.engine, found)
        return Restored(seat, keeper, journal, weights, tuple(problems))
