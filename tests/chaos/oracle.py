"""What should have come out: the input as it finally stands, through the pure engines alone; and the comparison."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamd.config import Config
from streamd.engine import PartitionEngine
from streamd.model import Alert, BatchJudged, Command, DeadLetter, Effect, Envelope
from streamd.replay import FitOnce
from streamd.sinks.records import outgoing
from streamd.state import pack
from streamd.transport.base import Partition
from streamd.transport.kafka_range import read_range
from streamd.transport.kafka_state import StateReader
from streamd.wiring import engine_factory, seats, trainer, warm_up


class Told(NamedTuple):
    """One record of an output topic, without its place. A dead letter's time is the original's; else it is None."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None


Place = tuple[str, int, int]
"""Topic, partition and offset."""

Ticks = dict[Partition, set[tuple[int, int]]]
"""The ticks that had an effect, by input partition: (the offset before which it came, its time in epoch ms)."""

Order = dict[tuple[str, bytes | None], list[Told]]
"""Topic and key -> the records, in their order. A key stays on one partition, so its order is Kafka's promise."""


@dataclass
class Expected:
    """What one process that never stops would have come to.

    Attributes:
        ends: what must be committed when everything is done.
        last: the records that a restore may want to read again.
    """

    config: Config
    ends: dict[Partition, int]
    last: dict[Partition, deque[Envelope]]
    engines: dict[Partition, PartitionEngine]
    told: Order
    counts: Counter[str]

    @property
    def total(self) -> int:
        return sum(len(each) for each in self.told.values())

    def take(self, effects: list[Effect]) -> None:
        """Add what these effects tell."""
        topics = self.config.topics
        self.counts.update(_counted(effects))
        for record in outgoing(effects, topics, self.config.kafka.group_id):
            ts = record.timestamp_ms if record.topic == topics.dlq else None
            one = Told(record.topic, record.key, record.value, tuple(record.headers), ts)
            self.told[record.topic, record.key].append(one)


def expect(config: Config, ticks: Mapping[Partition, set[tuple[int, int]]]) -> Expected:
    """Read the input back and judge it, with the ticks at the places where the journal has them.

    When silence is noticed only a clock can say: that is taken from the journal. What is then to be told, and that it
    is told once, follows from the engine: a tick that was journalled and not told is lost, one that was told and not
    journalled is foreign, and of two that both told of the same silence the second one's alerts are foreign.
    """
    warm_up(config)
    new_engine, fit = engine_factory(config), FitOnce(trainer())
    expected = Expected(config, {}, {}, {}, defaultdict(list), Counter())
    due = {partition: deque(sorted(each)) for partition, each in ticks.items()}
    for topic in (config.topics.features, config.topics.telemetry):
        for envelope in read_range(config.kafka, topic, None, None):
            partition = Partition(envelope.topic, envelope.partition)
            if partition not in expected.engines:
                expected.engines[partition] = new_engine(partition, 0)
                expected.last[partition] = deque(maxlen=10 * config.engine.snapshot_records + 1000)
            engine = expected.engines[partition]
            _tick(expected, engine, due.get(partition), envelope.offset)
            expected.last[partition].append(envelope)
            expected.ends[partition] = envelope.offset + 1
            expected.counts["records"] += 1
            expected.take(_stepped(engine, envelope, fit))
    for partition, engine in expected.engines.items():
        _tick(expected, engine, due.get(partition), expected.ends[partition])
    return expected


def _tick(expected: Expected, engine: PartitionEngine, due: deque[tuple[int, int]] | None, offset: int) -> None:
    """Those that came before the record at `offset`."""
    while due and due[0][0] <= offset:
        expected.take(engine.tick(due.popleft()[1]) or [])
        expected.counts["ticks"] += 1


def _stepped(engine: PartitionEngine, envelope: Envelope, fit: FitOnce) -> list[Effect]:
    effects = engine.step(envelope)
    while (job := engine.fit_wanted) is not None:
        weights, problem = None, ""
        try:
            weights = fit(job.config, job.reference)
        except ValueError as error:
            problem = str(error)
        effects += engine.fitted(weights, problem)
    return effects


METRICS = {
    "alerts": "streamd_alerts_total",
    "commands": "streamd_commands_total",
    "dead letters": "streamd_records_rejected_total",
    "batches": "streamd_batches_judged_total",
}


def _counted(effects: Iterable[Effect]) -> Iterable[str]:
    kinds = {Alert: "alerts", Command: "commands", DeadLetter: "dead letters", BatchJudged: "batches"}
    return (kinds[type(effect)] for effect in effects if type(effect) in kinds)


@dataclass
class Difference:
    """What was told, against what should have been."""

    lost: list[Told] = field(default_factory=list)
    twice: list[Told] = field(default_factory=list)
    foreign: list[Told] = field(default_factory=list)
    disordered: list[tuple[str, bytes | None]] = field(default_factory=list)

    def problem(self, *, exactly_once: bool) -> str:
        """What of it breaks the promise, as a sentence; empty: nothing."""
        parts = []
        for name in ("lost", "twice", "foreign") if exactly_once else ("lost", "foreign"):
            found: list[Told] = getattr(self, name)
            if found:
                parts.append(f"{len(found)} {name}, the first of {found[0].topic}: {(found[0].value or b'')[:300]!r}")
        if self.disordered:
            parts.append(f"order not kept for {self.disordered[:3]}")
        return "; ".join(parts)


def compare(expected: Order, told: Iterable[Told]) -> Difference:
    """Everything once, and in each stream's order, in which what comes again counts where it came first."""
    got: Order = defaultdict(list)
    for one in told:
        got[one.topic, one.key].append(one)
    difference = Difference()
    for place in expected.keys() | got.keys():
        order = expected.get(place, [])
        wanted, found = Counter(order), Counter(got.get(place, []))
        difference.lost += (wanted - found).elements()
        extra = found - wanted
        difference.twice += [one for one in extra.elements() if one in wanted]
        difference.foreign += [one for one in extra.elements() if one not in wanted]
        if wanted.keys() == found.keys() and list(dict.fromkeys(order)) != list(dict.fromkeys(got[place])):
            difference.disordered.append(place)
    return difference


# --- State ---------------------------------------------------------------------------------------


class _OnlyState:
    """As much of a transport as restoring needs."""

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader

    def read_state(self, topic: str, placement: bytes) -> list[Envelope]:
        return self._reader.read(placement, prefix=placement)


def restored(expected: Expected) -> dict[Partition, bytes]:
    """The state of each partition as its next owner would have it: the product's own way, over the state topic."""
    config = expected.config
    reader = StateReader(config.kafka, config.topics.state)
    factory = seats(config, _OnlyState(reader))  # type: ignore[arg-type]  # nothing else of it is asked
    fit, states = FitOnce(trainer()), {}
    for partition, offset in expected.ends.items():
        seat = factory.empty(partition, offset, {})
        seat.begin(factory.restored(seat))
        first = expected.last[partition][0].offset
        assert first in (0, min(first, seat.engine.next_offset)), f"{partition}: the snapshot is old: {first}"
        for envelope in expected.last[partition]:
            if seat.engine.next_offset <= envelope.offset < offset:
                seat.step(envelope, shown=False)
                while (job := seat.engine.fit_wanted) is not None:  # its weights should have been kept
                    seat.engine.fitted(fit(job.config, job.reference))
        seat.reached(offset)
        states[partition] = pack(seat.engine.snapshot())
    return states


def expected_states(expected: Expected) -> dict[Partition, bytes]:
    return {partition: pack(engine.snapshot()) for partition, engine in expected.engines.items()}
