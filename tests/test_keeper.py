"""The keeper: what it writes little by little restores the state of one offset, bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import orjson
import pytest
from envelopes import T0, Producer

from streamd import keeper as keeper_module
from streamd.codec.limits import Limits
from streamd.detectors.base import DetectorConfig
from streamd.detectors.ks import KsConfig
from streamd.detectors.quality import QualityConfig
from streamd.engine import DetectorCrashError, PartitionEngine
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.keeper import Keeper, restore
from streamd.model import Command, Effect, Envelope
from streamd.policy import PolicySettings
from streamd.profiles import Profiles
from streamd.sinks.state import Assembled, assemble
from streamd.state import pack, unpack
from streamd.transport.base import Outgoing

OWNER = "streamd/streamd.features/0"
TOPIC = "streamd.state"
NAMES = [f"stream/{i}" for i in range(7)]


def new_engine(offset: int = 0, streams_max: int = 5) -> PartitionEngine:
    detectors: dict[str, DetectorConfig] = {
        "ks": KsConfig(type="ks", window_rows=20),
        "quality": QualityConfig(type="quality", no_data_seconds=40),
    }
    settings = StreamSettings(
        detectors,
        ReferenceSettings(first_rows=60),
        PolicySettings(mode="enforce", acknowledge_seconds=5, critical_after=2),
    )
    bounds = EngineSettings(streams_max=streams_max)
    return PartitionEngine(
        "streamd.features", 0, "features", Limits(), bounds, lambda _: settings, Profiles(), next_offset=offset
    )


class Life:
    """An engine, its keeper and the state topic, through turns of random records, ticks and crashes.

    Attributes:
        log: the state topic.
        snapshots: offset -> the state when a snapshot of it began.
    """

    def __init__(self, seed: int, snapshot_records: int = 12) -> None:
        self.random = np.random.default_rng(seed)
        self.send = Producer()
        self.now_ms = T0
        self.engine = new_engine()
        self.keeper = Keeper(OWNER, TOPIC, snapshot_records, Assembled({}, {}, []))
        self.log: list[Outgoing] = []
        self.input: list[Envelope] = []
        self.skipped: set[int] = set()
        self.snapshots: dict[int, bytes] = {}
        self.commands: list[tuple[str, str]] = []

    def turn(self, records: int | None = None, tick: bool | None = None) -> list[Outgoing]:
        """What one turn of the pump does; returns what it writes."""
        effects: list[Effect] = []
        state: list[Outgoing] = []
        stepped = int(self.random.integers(0, 5)) if records is None else records
        for _ in range(stepped):
            envelope = self.record()
            self.input.append(envelope)
            if self.random.random() < 0.05:
                crash = DetectorCrashError(str(self.random.choice(NAMES)), "ks")
                crash.__cause__ = RuntimeError("a bug")
                self.skipped.add(envelope.offset)
                effects += self.engine.skip(envelope, crash)
                state += self.keeper.skip(envelope, crash)
            else:
                effects += self.engine.step(envelope)
        if stepped == 0 and (tick or (tick is None and self.random.random() < 0.5)):
            later = T0 + 1000 * self.send.offset + int(self.random.integers(0, 60_000))
            now_ms = self.now_ms = max(self.now_ms + 1, later)
            told = self.engine.tick(now_ms)
            effects += told or []
            state += self.keeper.tick(self.engine, now_ms) if told is not None else []
        self.commands += [(effect.target, effect.id) for effect in effects if isinstance(effect, Command)]
        was_saving, before = self.keeper.saving, pack(self.engine.snapshot())
        written = [*state, *self.keeper.records(self.engine, effects, stepped)]
        if written and not was_saving:
            self.snapshots.setdefault(self.engine.next_offset, before)
        self.log += written
        return written

    def record(self) -> Envelope:
        stream, kind = str(self.random.choice(NAMES)), self.random.random()
        values = self.random.normal(size=10) + 4 * (self.random.random() < 0.4)
        if kind < 0.1:
            return self.send.batch({"x": self.random.normal(size=50).tolist()}, stream=stream, role="reference")
        if kind < 0.15:
            part = f"{self.random.integers(1, 3)}/2"
            return self.send.batch({"x": values.tolist()}, stream=stream, role="reference", part=part)
        if kind < 0.2:
            return self.send.record(orjson.dumps({"stream": stream, "role": "reset"}))
        if kind < 0.3 and self.commands:
            stream, command_id = self.commands[int(self.random.integers(len(self.commands)))]
            ack = {"command_id": command_id, "outcome": "done"}
            return self.send.record(orjson.dumps({"stream": stream, "role": "ack", "ack": ack}))
        return self.send.batch({"x": values.tolist()}, stream=stream)

    def found(self, log: Iterable[Outgoing] | None = None) -> Assembled:
        return assemble(as_read(self.log if log is None else log), OWNER, self.engine.next_offset)

    def restored(self, found: Assembled) -> PartitionEngine:
        engine = new_engine(self.engine.next_offset)
        assert restore(engine, found)[2] == []
        return engine

    def read_again(self, engine: PartitionEngine, found: Assembled) -> None:
        """As a seat does: the input since the snapshot, with the journal."""
        journal = restore(new_engine(self.engine.next_offset), found)[0]
        for envelope in self.input[engine.next_offset :]:
            while journal.ticks and journal.ticks[0][0] <= envelope.offset:
                engine.tick(journal.ticks.pop(0)[1])
            crash = journal.skips.get(envelope.offset)
            if crash is not None:
                engine.skip(envelope, crash)
            else:
                engine.step(envelope)
        for _, now_ms in journal.ticks:
            engine.tick(now_ms)


def as_read(log: Iterable[Outgoing]) -> list[Envelope]:
    return [Envelope(o.topic, 0, place, 0, o.key, o.value, o.headers) for place, o in enumerate(log)]


def names(records: Iterable[Outgoing], kind: str) -> list[str]:
    """The parts of one kind that are written, without tombstones."""
    keys = [record.key.decode().removeprefix(f"{OWNER}/") for record in records if record.key and record.value]
    return [key.rpartition("/")[0] for key in keys if key.startswith(f"{kind}/")]


@pytest.fixture
def one_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every snapshot takes several turns, with all that may happen in between."""
    monkeypatch.setattr(keeper_module, "STREAMS_A_TURN", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_a_turn")
@pytest.mark.parametrize("seed", range(6))
def test_a_snapshot_written_over_many_turns_is_the_state_of_the_offset_at_which_it_began(seed: int) -> None:
    life = Life(seed)
    checked, late = 0, 0
    for _ in range(100):
        if not names(life.turn(), "snapshot"):
            continue
        engine = life.restored(life.found())
        assert pack(engine.snapshot()) == life.snapshots[engine.next_offset]
        checked += 1
        late += engine.next_offset < life.engine.next_offset
    assert checked > 10
    assert late > 5  # records came while it was written


@pytest.mark.slow
@pytest.mark.usefixtures("one_a_turn")
@pytest.mark.parametrize("seed", range(6))
def test_restored_anywhere_and_read_again_the_state_is_that_of_one_that_never_stopped(seed: int) -> None:
    life = Life(100 + seed)
    for turn in range(85):
        life.turn()
        if turn % 7 == 0:
            found = life.found()
            engine = life.restored(found)
            life.read_again(engine, found)
            assert pack(engine.snapshot()) == pack(life.engine.snapshot())


@pytest.mark.slow
@pytest.mark.usefixtures("one_a_turn")
@pytest.mark.parametrize("seed", range(6))
def test_without_its_newest_snapshot_the_state_is_that_of_one_that_never_stopped(seed: int) -> None:
    """With the ticks, the skipped records and the references that only the one before needs."""
    life = Life(200 + seed)
    went_back = 0
    for turn in range(85):
        life.turn()
        if turn % 7:
            continue
        found = life.found()
        newest = keeper_module.newest_snapshot(found)
        assert newest is not None
        found.parts.pop(newest.name)
        if not any(name.startswith("snapshot/") for name in found.parts):
            continue
        went_back += 1
        engine = life.restored(found)
        assert engine.next_offset <= newest.offset
        life.read_again(engine, found)
        assert pack(engine.snapshot()) == pack(life.engine.snapshot())
    assert went_back > 5


def three_streams(streams: int = 3) -> tuple[Life, Callable[..., list[Outgoing]]]:
    """A life of which the test says what happens: batches to the streams of these numbers, in one turn."""
    life = Life(0, snapshot_records=streams)
    life.engine = new_engine(streams_max=1000)

    def turn(*numbers: int) -> list[Outgoing]:
        queue = [life.send.batch({"x": [1.0, 2.0]}, stream=f"s/{n}") for n in numbers]
        effects = [effect for envelope in queue for effect in life.engine.step(envelope)]
        life.input += queue
        written = life.keeper.records(life.engine, effects, len(queue))
        life.log += written
        return written

    return life, turn


def test_a_stream_that_has_not_changed_is_not_written_again() -> None:
    life, turn = three_streams()
    turn()
    first = names(turn(0, 1, 2), "stream")
    second = names(turn(1, 1, 1), "stream")
    assert (len(first), len(second)) == (3, 1)
    saved = unpack(life.found().parts["snapshot/0"].data)
    assert [name for name, _ in saved["streams"]] == ["s/0", "s/2", "s/1"]  # the order of eviction
    assert {part for _, part in saved["streams"]} == {*first, *second} - {first[1]}
    assert pack(life.restored(life.found()).snapshot()) == pack(life.engine.snapshot())


def test_a_turn_saves_no_more_streams_than_it_has_records_or_than_the_limit() -> None:
    limit = keeper_module.STREAMS_A_TURN
    life, turn = three_streams(10 * limit)
    turn()
    counts = [len(names(turn(*range(10 * limit)), "stream"))]
    while life.keeper.saving:
        counts.append(len(names(turn(), "stream")))
    assert counts == [10 * limit]  # as many as came: there is no more to wait for
    counts = [len(names(turn(*range(n, n + limit)), "stream")) for n in range(0, 10 * limit, limit)]
    while life.keeper.saving:
        counts.append(len(names(turn(), "stream")))
    assert max(counts) == limit
    assert sum(counts) == 10 * limit


def test_what_the_last_two_snapshots_do_not_name_is_removed() -> None:
    life, turn = three_streams()
    turn()
    for n in range(60):
        turn(n % 3, n % 3, n % 3)
    kinds = Counter(name.partition("/")[0] for name in life.found().parts)
    assert kinds == {"snapshot": 2, "stream": 4, "reference": 1}  # two streams are the same in both


def test_a_snapshot_that_another_engine_began_is_not_finished() -> None:
    """After a reload: half of it would be of the old configuration."""
    life, turn = three_streams(5 * keeper_module.STREAMS_A_TURN)
    turn()
    turn(*range(keeper_module.STREAMS_A_TURN))
    for n in range(1, 5):
        turn(*range(n * keeper_module.STREAMS_A_TURN, (n + 1) * keeper_module.STREAMS_A_TURN))
    assert life.keeper.saving
    engine = new_engine(streams_max=1000)
    engine.restore(unpack(pack(life.engine.snapshot())), life.engine.kept())
    life.engine = engine
    life.keeper.want_snapshot()
    turn()
    while life.keeper.saving:
        turn()
    assert pack(life.restored(life.found()).snapshot()) == pack(engine.snapshot())


@pytest.mark.usefixtures("one_a_turn")
def test_a_command_that_is_acknowledged_before_its_stream_is_saved_still_waits_in_the_snapshot() -> None:
    life, turn = three_streams()
    turn()
    values = np.random.default_rng(0).normal(size=100)
    loud = [(values[:20] + 9).tolist()] * 3
    records = [life.send.batch({"x": [1.0]}, stream="s/0")]
    records += [life.send.batch({"x": values.tolist()}, stream="s/1", role="reference")]
    records += [life.send.batch({"x": row}, stream="s/1") for row in loud]
    effects = [effect for envelope in records for effect in life.engine.step(envelope)]
    (command,) = [effect for effect in effects if isinstance(effect, Command)]
    before = pack(life.engine.snapshot())
    life.keeper.want_snapshot()
    life.log += life.keeper.records(life.engine, effects, 0)  # saves s/0
    ack = {"stream": "s/1", "role": "ack", "ack": {"command_id": command.id, "outcome": "done"}}
    life.engine.step(life.send.record(orjson.dumps(ack)))
    assert turn()
    assert not life.keeper.saving
    assert pack(life.restored(life.found()).snapshot()) == before


def damaged(found: Assembled, stream: str, snapshot: str) -> Assembled:
    """Without the part of a stream that this snapshot names."""
    streams: Mapping[str, str] = dict(unpack(found.parts[snapshot].data)["streams"])
    parts = {name: part for name, part in found.parts.items() if name != streams[stream]}
    return Assembled(parts, found.chunks, found.problems)


def test_where_a_streams_part_is_damaged_the_snapshot_before_is_taken() -> None:
    life, turn = three_streams()
    turn()
    turn(0, 1, 2)
    before = pack(life.engine.snapshot())
    turn(1, 1, 1)
    found = damaged(life.found(), "s/1", "snapshot/0")
    assert pack(life.restored(found).snapshot()) == before


def test_where_both_snapshots_need_what_is_damaged_that_stream_alone_starts_anew() -> None:
    life, turn = three_streams()
    turn()
    turn(0, 1, 2)
    turn(1, 1, 1)
    engine = new_engine(life.engine.next_offset)
    problems = restore(engine, damaged(life.found(), "s/2", "snapshot/0"))[2]
    assert problems == ["the state of s/2 is damaged: the stream starts anew"]
    assert [saved["name"] for saved in engine.snapshot()["streams"]] == ["s/0", "s/1"]
    assert engine.next_offset == life.engine.next_offset
