"""The pump: everything that was polled is delivered with its offsets, or comes again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import orjson
import pytest
from envelopes import T0, Producer
from prometheus_client import CollectorRegistry

from streamd.codec.limits import Limits
from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.base import Detector, DetectorConfig, Reference
from streamd.detectors.ks import KsConfig
from streamd.detectors.quality import QualityConfig
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.errors import ConfigError, TransientError
from streamd.model import Effect, Envelope, FeatureBatch, Outcome
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.metrics import Metrics
from streamd.observe.settings import MetricSettings
from streamd.profiles import Profiles
from streamd.pump import Pump
from streamd.seats import Seats
from streamd.sinks.records import outgoing
from streamd.state import pack
from streamd.transport.base import Outgoing, Partition
from streamd.transport.memory import Fault, MemoryBroker, MemoryTransport
from streamd.transport.settings import TopicSettings

FEATURES = "streamd.features"


class World:
    """A broker in memory and one member with its pump."""

    def __init__(
        self,
        detectors: dict[str, DetectorConfig] | None = None,
        fit: Callable[[DetectorConfig, Reference], bytes] | None = None,
        partitions: int = 1,
        broker: MemoryBroker | None = None,
        snapshot_records: int = 2,
        on_offset_loss: Literal["stop", "earliest", "latest"] = "stop",
    ) -> None:
        self.broker = broker or MemoryBroker()
        self.broker.create_topic(FEATURES, partitions)
        self.broker.create_topic("streamd.state", 2)
        self.registry, self.health, self.board = CollectorRegistry(), Health(), Board()
        settings = StreamSettings(
            detectors or {"ks": KsConfig(type="ks", window_rows=200)}, ReferenceSettings(first_rows=None)
        )
        profiles = Profiles()

        def new_engine(partition: Partition, offset: int) -> PartitionEngine:
            return PartitionEngine(
                *partition, "features", Limits(), EngineSettings(), lambda _: settings, profiles, offset
            )

        def to_records(effects: Iterable[Effect]) -> list[Outgoing]:
            return outgoing(effects, TopicSettings(), "streamd")

        self.transport = MemoryTransport(self.broker, [FEATURES], "streamd")
        self.seats = Seats(
            self.transport,
            new_engine,
            "streamd",
            "streamd.state",
            EngineSettings(snapshot_records=snapshot_records, tick_seconds=3600, dead_letters_window=20),
        )
        self.pump = Pump(
            self.transport,
            self.seats,
            to_records,
            fit or (lambda config, reference: b""),
            Metrics(self.registry, MetricSettings(), self.board),
            self.board,
            self.health,
            self.reload,
            poll_seconds=0.01,
            on_offset_loss=on_offset_loss,
        )
        self.reloaded: Seats | ConfigError = self.seats
        self.transport.open()

    def reload(self) -> Seats:
        """What a changed configuration gives: tests put it here."""
        if isinstance(self.reloaded, ConfigError):
            raise self.reloaded
        return self.reloaded

    def put(self, envelope: Envelope, partition: int = 0) -> None:
        self.broker.append(FEATURES, envelope.key, envelope.value, envelope.headers, envelope.timestamp_ms, partition)

    def turn(self, times: int = 3) -> None:
        """Turn, and let what works on other threads finish in between."""
        for _ in range(times):
            self.pump.turn()
            self.settle()

    def settle(self) -> None:
        until = time.monotonic() + 10
        while self.pump._seating._restores.busy and time.monotonic() < until:
            time.sleep(0.001)

    def state(self) -> bytes:
        """Of the only stream's partition, as bytes."""
        return pack(self.pump._seats[Partition(FEATURES, 0)].engine.snapshot())

    def summaries(self) -> list[str]:
        return [orjson.loads(r.value or b"{}")["summary"] for r in self.broker.read("streamd.alerts")]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def drift(send: Producer) -> list[Envelope]:
    """A reference, a calm batch and a loud one."""
    values = np.random.default_rng(0).normal(size=1400)
    return [
        send.batch({"x": values[:1000].tolist()}, role="reference"),
        send.batch({"x": values[1000:1200].tolist()}),
        send.batch({"x": (values[1200:] + 3).tolist()}),
    ]


def test_what_is_polled_is_delivered_with_its_offsets() -> None:
    world = World()
    for envelope in drift(Producer()):
        world.put(envelope)
    world.turn()
    (summary,) = world.summaries()
    assert summary.startswith("fraud/7: x drifted up")
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 3
    assert world.metric("streamd_records_consumed_total", topic=FEATURES) == 3
    assert world.metric("streamd_alerts_total", detector="ks", severity="warning", status="firing") == 1
    assert [view.state for view in world.board.views()] == ["firing"]


def test_a_bad_record_goes_to_the_dead_letters_and_the_rest_flows() -> None:
    world = World()
    send = Producer()
    world.put(send.record(b"\xff\x00junk", key=b"k"))
    for envelope in drift(send):
        world.put(envelope)
    world.turn()
    (letter,) = world.broker.read("streamd.dlq")
    assert (letter.key, letter.value) == (b"k", b"\xff\x00junk")
    assert len(world.summaries()) == 1


@pytest.mark.parametrize("fault", ["before", "between", "after"])
def test_a_delivery_that_fails_is_made_again_and_no_alert_is_lost(fault: str) -> None:
    world = World()
    world.broker.deliver_faults.append(fault)  # type: ignore[arg-type]
    for envelope in drift(Producer()):
        world.put(envelope)
    world.turn()
    # At least once: where the answer was lost the alert stands twice, with one id.
    ids = {orjson.loads(r.value or b"{}")["id"] for r in world.broker.read("streamd.alerts")}
    assert len(ids) == 1
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 3
    assert world.metric("streamd_alerts_total", detector="ks", severity="warning", status="firing") == 1


class StopsWhenRefused(deque[Fault]):
    """Faults of a broker that refuses `times` deliveries; at the first of them the pump is told to stop."""

    def __init__(self, world: World, times: int) -> None:
        super().__init__(["before"] * times)
        self._pump = world.pump

    def popleft(self) -> Fault:
        if not self._pump.stopping:
            self._pump.stop()
        return super().popleft()


def test_told_to_stop_while_a_delivery_is_refused_the_pump_goes_on_trying_and_commits_what_was_processed() -> None:
    world = World()
    for envelope in drift(Producer()):
        world.put(envelope)
    world.broker.deliver_faults = StopsWhenRefused(world, 2)
    world.pump.run()
    assert not world.broker.deliver_faults
    assert len(world.summaries()) == 1
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 3


def test_told_to_stop_in_the_middle_of_a_long_pause_the_pump_tries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.pump._BACKOFF_SECONDS", (60.0, 60.0))
    world = World()
    for envelope in drift(Producer()):
        world.put(envelope)
    world.broker.deliver_faults.append("before")
    threading.Timer(0.3, world.pump.stop).start()
    started = time.monotonic()
    world.pump.run()
    assert time.monotonic() - started < 5
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 3


def test_told_to_stop_while_the_broker_refuses_for_ever_the_pump_gives_up_in_time_and_commits_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamd.pump._DRAIN_SECONDS", 0.3)
    world = World()
    for envelope in drift(Producer()):
        world.put(envelope)
    world.broker.deliver_faults = StopsWhenRefused(world, 10_000)
    started = time.monotonic()
    with pytest.raises(TransientError, match="nothing of it is committed"):
        world.pump.run()
    assert 0.3 < time.monotonic() - started < 2
    assert not world.broker.committed("streamd", Partition(FEATURES, 0))
    assert not world.summaries()


def test_a_broker_that_is_away_is_waited_for_and_the_work_goes_on() -> None:
    world = World()
    world.broker.available = False
    for envelope in drift(Producer()):
        world.put(envelope)
    threading.Timer(0.3, lambda: setattr(world.broker, "available", True)).start()
    world.turn(4)
    assert len(world.summaries()) == 1


def test_one_partition_waits_for_its_training_while_the_others_flow() -> None:
    may_finish = threading.Event()

    def fit(config: DetectorConfig, reference: Reference) -> bytes:
        assert may_finish.wait(20)
        raise ValueError("no column varies")

    detectors: dict[str, DetectorConfig] = {
        "autoencoder": AutoencoderConfig(type="autoencoder"),
        "ks": KsConfig(type="ks", window_rows=200),
    }
    world = World(detectors, fit, partitions=2)
    waits, flows = Producer(partition=0), Producer(partition=1)
    for envelope in drift(waits):
        world.put(envelope, 0)
    for envelope in drift(flows)[1:]:
        world.put(envelope, 1)
    world.turn(5)
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 1  # the reference, and not beyond it
    assert world.broker.committed("streamd", Partition(FEATURES, 1)) == 2
    assert world.metric("streamd_partitions_paused") == 1
    may_finish.set()
    for _ in range(2000):
        world.turn(1)
        if world.broker.committed("streamd", Partition(FEATURES, 0)) == 3:
            break
        time.sleep(0.001)
    assert [s for s in world.summaries() if "drifted up" in s]
    assert world.metric("streamd_partitions_paused") == 0


def test_an_error_of_ours_in_training_is_not_hidden() -> None:
    def fit(config: DetectorConfig, reference: Reference) -> bytes:
        raise RuntimeError("a bug")

    world = World({"autoencoder": AutoencoderConfig(type="autoencoder")}, fit)
    world.put(drift(Producer())[0])
    with pytest.raises(RuntimeError, match="a bug"):
        world.turn(2000)


def test_after_a_restart_the_next_record_is_read_and_no_other() -> None:
    world = World()
    envelopes = drift(Producer())
    for envelope in envelopes[:2]:
        world.put(envelope)
    world.turn()
    world.transport.close()
    again = World(broker=world.broker)
    again.put(envelopes[2])
    again.turn()
    assert again.metric("streamd_records_consumed_total", topic=FEATURES) == 1


def test_a_member_that_joins_takes_over_and_nothing_is_read_twice_or_skipped() -> None:
    first = World(partitions=2)
    first.turn(2)
    second = World(partitions=2, broker=first.broker)
    for _ in range(6):
        first.turn(1)
        second.turn(1)
    send = Producer()
    for i in range(10):
        first.put(send.batch({"x": [1.0]}), partition=i % 2)
    for _ in range(3):
        first.turn(1)
        second.turn(1)
    counts = [w.metric("streamd_records_consumed_total", topic=FEATURES) for w in (first, second)]
    assert counts == [5, 5]


def test_after_a_restart_the_state_goes_on_where_it_stopped() -> None:
    """Reference, window and incident come from the state topic and from what is read again, with nothing told twice."""
    send = Producer()
    values = np.random.default_rng(1).normal(size=3000)
    envelopes = [send.batch({"x": values[:1000].tolist()}, role="reference")]
    for i in range(10):
        rows = values[1000 + 100 * i : 1100 + 100 * i] + 3.0 * (2 <= i < 6)
        envelopes.append(send.batch({"x": rows.tolist()}))
    whole = World()
    for envelope in envelopes:
        whole.put(envelope)
    whole.turn(4)
    expected = whole.broker.read("streamd.alerts")
    assert len(expected) == 2
    for cut in range(1, len(envelopes)):
        before = World(snapshot_records=4)
        for envelope in envelopes[:cut]:
            before.put(envelope)
            before.turn(2)
        before.transport.close()
        after = World(broker=before.broker, snapshot_records=4)
        for envelope in envelopes[cut:]:
            after.put(envelope)
        after.turn(5)
        told = after.broker.read("streamd.alerts")
        assert [alert.value for alert in told] == [alert.value for alert in expected]
        assert [view.firing for view in after.board.views()] == [()]
        assert after.state() == whole.state()


@pytest.mark.parametrize("key", [b"by key", None])
def test_what_is_shown_of_each_stream_is_as_of_its_last_batch_of_a_poll(key: bytes | None) -> None:
    """Records without a key may be of any stream: each of them counts as the last."""
    world, send = World(), Producer()
    values = np.random.default_rng(0).normal(size=1250).tolist()
    world.turn()
    for stream in ("a", "b"):
        world.put(send.batch({"x": values[:1000]}, stream=stream, role="reference"))
        world.put(send.batch({"x": values[1000:1200]}, stream=stream))
    world.turn()
    for stream in ("a", "b"):
        batch = send.batch({"x": [9.0] * 50}, stream=stream)
        world.put(batch if key else replace(batch, key=None))
    world.pump.turn()
    shown = {view.stream: float(reading.statistics[0]) for view in world.board.views() for reading in view.readings}
    assert shown == {"a": pytest.approx(0.25, abs=0.1), "b": pytest.approx(0.25, abs=0.1)}


def test_after_a_restart_the_board_shows_what_fires() -> None:
    world = World()
    for envelope in drift(Producer()):
        world.put(envelope)
    world.turn(4)
    world.transport.close()
    again = World(broker=world.broker)
    again.turn(4)
    assert [alert.summary for view in again.board.views() for alert in view.firing] == world.summaries()
    assert len(again.broker.read("streamd.alerts")) == 1


def test_when_the_newest_snapshot_is_damaged_the_one_before_it_is_whole() -> None:
    """With its references and its ticks: what only it needs is removed one snapshot later."""
    send = Producer()
    world = World(snapshot_records=1)
    for i in range(3):
        world.put(send.batch({"x": np.random.default_rng(i).normal(size=300).tolist()}, role="reference"))
        world.put(send.batch({"x": np.random.default_rng(9 + i).normal(size=100).tolist()}))
        world.turn(3)
    expected = world.state()
    world.transport.close()
    newest = [r for r in world.broker.read("streamd.state") if b"/snapshot/" in (r.key or b"")][-1]
    world.broker.append(
        "streamd.state", newest.key, b"damaged", newest.headers, placement=b"streamd/streamd.features/0"
    )
    again = World(broker=world.broker, snapshot_records=1)
    again.turn(4)
    assert again.state() == expected
    assert again.metric("streamd_batches_judged_total", topic=FEATURES) is None  # read again, not told again


def test_a_tick_that_had_an_effect_is_repeated_at_its_place() -> None:
    quality: dict[str, DetectorConfig] = {"quality": QualityConfig(type="quality", no_data_seconds=60)}
    world = World(quality, snapshot_records=100)
    send = Producer()
    world.put(send.batch({"x": [1.0]}))
    world.turn(4)
    seat = world.pump._seats[Partition(FEATURES, 0)]
    assert seat.live
    world.pump._next_tick = 0.0  # the clock says 2026, the record 2025
    world.turn(1)
    assert [s for s in world.summaries() if "no data" in s]
    world.transport.close()
    again = World(quality, broker=world.broker, snapshot_records=100)
    again.turn(4)
    again.pump._next_tick = 0.0
    again.turn(1)
    assert len(again.summaries()) == 1  # it was told
    again.put(send.batch({"x": [1.0]}))
    again.turn(2)
    assert again.summaries()[1:] == ["fraud/7: data arrives again"]


def test_a_tick_that_changed_something_and_told_nothing_is_repeated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence in the cool-down of the last one is not told, and counts all the same."""
    quality: dict[str, DetectorConfig] = {"quality": QualityConfig(type="quality", no_data_seconds=60)}
    world = World(quality, snapshot_records=100)
    send = Producer()
    for seconds in (70, 80):
        world.put(send.batch({"x": [1.0]}))
        world.turn(4)
        world.pump._next_tick = 0.0
        with monkeypatch.context() as patch:
            patch.setattr("streamd.pump.time.time", lambda now=T0 / 1000 + seconds: now)
            world.turn(1)
    assert len(world.summaries()) == 2  # no data; data arrives again
    world.transport.close()
    again = World(quality, broker=world.broker, snapshot_records=100)
    again.turn(4)
    assert again.state() == world.state()


class Explosive(KsConfig):
    """Its detector raises on a batch of 13 rows."""

    def build(self, name: str, profile: object) -> Detector:
        detector = super().build(name, profile)
        update = detector.update

        def raises(batch: FeatureBatch) -> tuple[Outcome, ...]:
            outcomes = update(batch)
            if batch.table.rows == 13:
                raise ZeroDivisionError("a bug")
            return outcomes

        detector.update = raises  # type: ignore[method-assign]
        return detector


def test_a_record_on_which_a_detector_raises_twice_is_a_dead_letter_and_the_rest_flows() -> None:
    world = World({"ks": Explosive(type="ks", window_rows=200)})
    send = Producer()
    reference, calm, loud = drift(send)
    fatal = send.batch({"x": [0.0] * 13})
    for envelope in (reference, calm, fatal, loud):
        world.put(envelope)
    world.turn(12)
    (letter,) = world.broker.read("streamd.dlq")
    assert letter.value == fatal.value
    assert dict(letter.headers)["dlq.reason"] == b"crashed"
    assert b"ZeroDivisionError: a bug" in (dict(letter.headers)["dlq.error"] or b"")
    assert [s for s in world.summaries() if "ks crashed on the record at offset 2" in s]
    assert [s for s in world.summaries() if "drifted up" in s]
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 4
    assert world.metric("streamd_detector_crashes_total", detector="ks") == 2
    # Whoever comes next passes over it too, and comes to the same state.
    again = World({"ks": Explosive(type="ks", window_rows=200)}, broker=world.broker)
    world.transport.close()
    again.turn(6)
    assert again.state() == world.state()
    assert len(again.broker.read("streamd.dlq")) == 1


def test_records_lost_to_retention_stop_the_process_unless_it_is_told_to_go_on() -> None:
    world = World(snapshot_records=100)
    for envelope in drift(Producer()):
        world.put(envelope)
    world.turn()
    world.transport.close()
    partition = Partition(FEATURES, 0)
    world.broker.retain_from(partition, 7)
    send = Producer()
    for _ in range(9):
        world.put(send.batch({"x": [1.0]}))
    stopped = World(broker=world.broker)
    with pytest.raises(ConfigError, match=r"streamd.features/0: records 3 to 6 are gone.*on_offset_loss = earliest"):
        stopped.turn(3)
    stopped.transport.close()
    earliest = World(broker=world.broker, on_offset_loss="earliest")
    earliest.turn(4)
    assert earliest.metric("streamd_batches_judged_total", topic=FEATURES) == 5
    assert world.broker.committed("streamd", partition) == 12


def other_settings(world: World, detectors: dict[str, DetectorConfig]) -> Seats:
    """The world's seats under a configuration with other detectors."""
    settings = StreamSettings(detectors, ReferenceSettings(first_rows=None))

    def new_engine(partition: Partition, offset: int) -> PartitionEngine:
        return PartitionEngine(
            *partition, "features", Limits(), EngineSettings(), lambda _: settings, Profiles(), offset
        )

    return replace(world.seats, new_engine=new_engine)


def test_a_reload_changes_what_was_changed_and_keeps_the_rest() -> None:
    ks = KsConfig(type="ks", window_rows=200)
    world = World({"ks": ks})
    reference, calm, loud = drift(Producer())
    world.put(reference)
    world.turn(4)
    world.reloaded = other_settings(world, {"ks": ks, "narrow": KsConfig(type="ks", window_rows=100)})
    world.pump.reload_wanted = True
    world.turn(1)
    world.put(calm)
    world.put(loud)
    world.turn(2)
    alerts = [orjson.loads(record.value or b"") for record in world.broker.read("streamd.alerts")]
    assert [(alert["detector"], alert["window"]["rows"]) for alert in alerts] == [("ks", 200), ("narrow", 100)]
    assert world.metric("streamd_config_reloads_total", outcome="done") == 1
    world.transport.close()
    again = World(broker=world.broker)
    again.pump._seating.factory = other_settings(again, {"ks": ks, "narrow": KsConfig(type="ks", window_rows=100)})
    again.turn(4)
    assert again.state() == world.state()


def many_streams(world: World, streams: int) -> None:
    send = Producer()
    for stream in range(streams):
        world.put(send.batch({"x": [1.0, 2.0]}, stream=f"s/{stream}"))


def snapshots(world: World) -> int:
    return sum(b"/snapshot/" in (record.key or b"") for record in world.broker.read("streamd.state"))


def test_a_snapshot_goes_on_over_several_turns_and_needs_no_more_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.keeper.STREAMS_A_TURN", 2)
    world = World(snapshot_records=30)
    many_streams(world, 1)
    world.turn(3)
    first = snapshots(world)
    many_streams(world, 40)
    world.transport._max_records = 10
    world.turn(4)
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 41
    assert snapshots(world) == first
    world.turn(20)  # nothing comes
    assert snapshots(world) == first + 1
    world.transport.close()
    again = World(broker=world.broker, snapshot_records=30)
    again.turn(3)
    assert again.state() == world.state()
    assert again.metric("streamd_batches_judged_total", topic=FEATURES) is None  # read again, not told again


def test_a_process_that_ends_while_a_snapshot_is_written_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.keeper.STREAMS_A_TURN", 1)
    expected = World(snapshot_records=1000)
    many_streams(expected, 40)
    expected.turn(8)
    world = World(snapshot_records=20)
    many_streams(world, 40)
    world.transport._max_records = 2
    for _ in range(60):  # turns, by processes of two turns each after the one in which they join
        world.turn(3)
        world.transport.close()
        world = World(broker=world.broker, snapshot_records=20)
        world.transport._max_records = 2
        if world.broker.committed("streamd", Partition(FEATURES, 0)) == 40:
            break
    for _ in range(60):
        world.turn(1)
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 40
    assert world.state() == expected.state()


def test_after_a_reload_a_partition_waits_until_its_new_engines_snapshot_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the new engine says must not be told while a restart would go back to the old engine's snapshot."""
    monkeypatch.setattr("streamd.keeper.STREAMS_A_TURN", 2)
    ks = KsConfig(type="ks", window_rows=200)
    world = World({"ks": ks}, snapshot_records=1000)
    many_streams(world, 10)
    world.turn(4)
    before = snapshots(world)
    world.reloaded = other_settings(world, {"ks": ks, "narrow": KsConfig(type="ks", window_rows=100)})
    world.pump.reload_wanted = True
    many_streams(world, 1)
    world.turn(1)
    while snapshots(world) == before:
        assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 10
        world.turn(1)
    world.turn(2)
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 11
    world.transport.close()
    again = World(broker=world.broker)
    again.pump._seating.factory = other_settings(again, {"ks": ks, "narrow": KsConfig(type="ks", window_rows=100)})
    again.turn(4)
    assert again.state() == world.state()


def test_an_invalid_configuration_changes_nothing() -> None:
    world = World()
    world.turn(3)
    before = world.pump._seating.factory
    world.reloaded = ConfigError("streamd.yaml:3:5 detectors.ks.window_rows: must be at least 2")
    world.pump.reload_wanted = True
    world.turn(1)
    assert world.pump._seating.factory is before
    assert world.metric("streamd_config_reloads_total", outcome="refused") == 1


def test_a_partition_whose_records_are_nearly_all_bad_is_halted_and_a_reload_lets_it_go_on() -> None:
    world = World(partitions=2)
    send = Producer()
    for _ in range(40):
        world.put(send.record(b"junk", key=b"k"), partition=0)
    world.put(send.batch({"x": [1.0]}), partition=1)
    world.turn(5)
    assert len(world.broker.read("streamd.dlq")) == 20  # the window of the tests
    assert world.broker.committed("streamd", Partition(FEATURES, 0)) == 20
    assert world.broker.committed("streamd", Partition(FEATURES, 1)) == 1
    assert world.metric("streamd_partitions_stalled") == 1
    report = world.health.report()
    assert not report.ready
    assert "halted" in report.reasons[0]
    world.pump.reload_wanted = True
    world.turn(3)
    assert len(world.broker.read("streamd.dlq")) == 40


def test_a_partition_with_unread_records_that_does_not_get_on_is_called_stalled() -> None:
    world = World()
    world.turn(3)
    seat = world.pump._seats[Partition(FEATURES, 0)]
    seat.waits = True  # as if a training never ended
    world.transport.pause([Partition(FEATURES, 0)])
    world.put(Producer().batch({"x": [1.0]}))
    world.turn(1)
    assert world.health.report().ready
    seat.moved_at -= 31
    world.turn(1)
    assert not world.health.report().ready
    assert "no progress for 31 s" in world.health.report().reasons[0]
    seat.waits = False
    world.transport.resume([Partition(FEATURES, 0)])
    world.turn(2)
    assert world.health.report().ready


def test_retention_that_overtakes_a_slow_process_is_not_passed_over_in_silence() -> None:
    partition = Partition(FEATURES, 0)
    send = Producer()
    batches = [send.batch({"x": [1.0]}) for _ in range(12)]
    for policy, judged in (("stop", 3), ("earliest", 3 + 4)):
        world = World(on_offset_loss=policy)  # type: ignore[arg-type]
        for envelope in batches[:3]:
            world.put(envelope)
        world.turn(4)
        for envelope in batches[3:]:
            world.put(envelope)
        world.broker.retain_from(partition, 8)
        if policy == "stop":
            with pytest.raises(ConfigError, match=r"records 3 to 7 are gone .retention., and nobody judged them"):
                world.turn(5)
        else:
            world.turn(5)
            assert world.broker.committed("streamd", partition) == 12
        assert world.metric("streamd_batches_judged_total", topic=FEATURES) == judged


def test_being_told_to_stop_ends_the_run_with_everything_delivered() -> None:
    world = World()
    for envelope in drift(Producer()):
        world.put(envelope)
    threading.Timer(0.5, world.pump.stop).start()
    world.pump.run()
    assert len(world.summaries()) == 1
