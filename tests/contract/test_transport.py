"""What every transport promises: one suite, run on memory, on the embedded broker and on a real Kafka."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from streamd.errors import TransientError
from streamd.model import Envelope
from streamd.transport import kafka_admin
from streamd.transport.base import Assigned, Outgoing, Partition, Polled, Revoked, Transport
from streamd.transport.kafka import KafkaTransport
from streamd.transport.kafka_transactions import TransactionalProducer
from streamd.transport.memory import Fault, MemoryBroker, MemoryTransport
from streamd.transport.settings import KafkaSettings

PATIENCE_SECONDS = 30.0


class Stage:
    """A topic of some partitions, and members of one group that read it."""

    def __init__(self, topic: str, new: Callable[[str], Transport], fail_next: Callable[[Fault], None]) -> None:
        self.topic = topic
        self.partitions = [Partition(topic, n) for n in range(4)]
        self.fail_next = fail_next
        self._new = new
        self._members: list[Transport] = []
        self._writer: Transport | None = None

    def join(self, group: str = "g") -> Transport:
        """A member that is open."""
        member = self._new(group)
        self._members.append(member)
        member.open()
        return member

    def write(self, count: int, start: int = 0) -> list[bytes]:
        """Records with keys that spread over the partitions; returns their values."""
        if self._writer is None:
            self._writer = self._new("writer")
            self._members.append(self._writer)
        values = [b"%d" % i for i in range(start, start + count)]
        outgoing = [Outgoing(self.topic, value, value, (("h", value),), 1_700_000_000_000) for value in values]
        self._writer.deliver(outgoing, {})
        return values

    def close(self) -> None:
        for member in self._members:
            member.close()


def polls(member: Transport) -> Iterator[Polled]:
    """Poll until the test has what it wants, or patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield member.poll(0.1)
    pytest.fail("what was waited for did not come")


def join_all(stage: Stage, member: Transport) -> dict[Partition, int]:
    """Poll until all partitions are assigned; returns where they start."""
    positions: dict[Partition, int] = {}
    for polled in polls(member):
        assert not polled.records or positions
        for change in polled.changes:
            assert isinstance(change, Assigned)
            positions.update(change.positions)
        if len(positions) == len(stage.partitions):
            return positions
    raise AssertionError


def read(member: Transport, count: int) -> list[Envelope]:
    records: list[Envelope] = []
    for polled in polls(member):
        records += polled.records
        if len(records) >= count:
            return records
    raise AssertionError


def positions(member: Transport, stage: Stage) -> dict[Partition, int]:
    return {p: member.position(p) for p in stage.partitions}


def _kafka_settings(servers: str, **more: Any) -> KafkaSettings:
    # Short times: the embedded broker's first join takes half of the session timeout.
    quick = {"session_timeout_ms": 2_000, "heartbeat_interval_ms": 500, "max_poll_interval_ms": 4_000}
    return KafkaSettings(bootstrap_servers=(servers,), **quick, **more)


def _fail_next(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """The next transaction on Kafka fails where it is told to, once."""
    name = {
        "before": "begin_transaction",
        "between": "send_offsets_to_transaction",
        "after": "commit_transaction",
    }[fault]
    real = getattr(TransactionalProducer, name)

    def fail(producer: TransactionalProducer, *args: Any) -> None:
        monkeypatch.setattr(TransactionalProducer, name, real)
        if fault == "after":
            real(producer, *args)
        raise kafka_errors.KafkaTimeoutError("no answer")

    monkeypatch.setattr(TransactionalProducer, name, fail)


@pytest.fixture(
    params=[
        "memory",
        pytest.param("embedded_broker", marks=[pytest.mark.broker, pytest.mark.slow]),
        pytest.param("kafka_broker", marks=[pytest.mark.kafka, pytest.mark.slow]),
    ]
)
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    unique = uuid.uuid4().hex
    if request.param == "memory":
        broker = MemoryBroker()
        broker.create_topic(unique, 4)
        stage = Stage(unique, lambda group: MemoryTransport(broker, [unique], group), broker.deliver_faults.append)
    else:
        servers = request.getfixturevalue(request.param).bootstrap_servers
        kafka_admin.create_topics(_kafka_settings(servers), {unique: 4})
        stage = Stage(
            unique,
            lambda group: KafkaTransport(_kafka_settings(servers, group_id=f"{unique}-{group}"), [unique]),
            lambda fault: _fail_next(monkeypatch, fault),
        )
    yield stage
    stage.close()


def test_a_first_poll_assigns_every_partition_from_its_beginning_before_any_record(stage: Stage) -> None:
    stage.write(10)
    member = stage.join()
    assert join_all(stage, member) == dict.fromkeys(stage.partitions, 0)


def test_records_come_whole_and_in_the_order_of_their_partition(stage: Stage) -> None:
    values = stage.write(100)
    member = stage.join()
    join_all(stage, member)
    records = read(member, 100)
    assert sorted(r.value for r in records if r.value) == sorted(values)
    for record in records:
        assert (record.topic, record.key, record.headers) == (stage.topic, record.value, (("h", record.value),))
        assert record.timestamp_ms == 1_700_000_000_000
    for partition in stage.partitions:
        offsets = [r.offset for r in records if r.partition == partition.number]
        assert offsets == list(range(len(offsets)))
        assert len(offsets) > 5  # the keys spread


def test_a_key_always_goes_to_the_same_partition_on_every_transport(stage: Stage) -> None:
    stage.write(8)
    member = stage.join()
    join_all(stage, member)
    for record in read(member, 8):
        assert record.key is not None
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 4


def test_the_position_stands_after_the_last_record_returned(stage: Stage) -> None:
    stage.write(40)
    member = stage.join()
    join_all(stage, member)
    records = read(member, 40)
    for partition in stage.partitions:
        last = max(r.offset for r in records if r.partition == partition.number)
        assert member.position(partition) in (last + 1, last + 2)  # the end of a transaction takes an offset too


def test_a_member_that_comes_back_goes_on_where_the_group_has_committed(stage: Stage) -> None:
    stage.write(40)
    member = stage.join()
    join_all(stage, member)
    read(member, 40)
    committed = positions(member, stage)
    member.deliver([], committed)
    member.close()
    later = stage.write(5, start=40)
    again = stage.join()
    assert join_all(stage, again) == committed
    assert sorted(r.value for r in read(again, 5) if r.value) == sorted(later)


def test_what_was_not_committed_is_read_again(stage: Stage) -> None:
    values = stage.write(20)
    member = stage.join()
    join_all(stage, member)
    read(member, 20)
    member.close()
    again = stage.join()
    assert join_all(stage, again) == dict.fromkeys(stage.partitions, 0)
    assert sorted(r.value for r in read(again, 20) if r.value) == sorted(values)


def test_a_paused_partition_is_silent_until_it_is_resumed(stage: Stage) -> None:
    member = stage.join()
    join_all(stage, member)
    paused, *rest = stage.partitions
    member.pause([paused, Partition("elsewhere", 0)])
    stage.write(60)
    for polled in polls(member):
        assert all(r.partition != paused.number for r in polled.records)
        if all(member.position(p) > 5 for p in rest) and not polled.records:
            break
    member.resume([paused, Partition("elsewhere", 0)])
    for polled in polls(member):
        if any(r.partition == paused.number for r in polled.records):
            break


def test_after_a_seek_the_next_poll_reads_from_there(stage: Stage) -> None:
    stage.write(40)
    member = stage.join()
    join_all(stage, member)
    first = read(member, 40)
    back = stage.partitions[0]
    member.seek(back, 2)
    assert member.position(back) == 2
    again = read(member, 1)
    wanted = [r for r in first if r.partition == 0 and r.offset >= 2]
    assert again == wanted[: len(again)]


def test_a_seek_on_assignment_comes_before_the_first_record(stage: Stage) -> None:
    stage.write(40)
    member = stage.join()
    join_all(stage, member)
    for partition in stage.partitions:
        member.seek(partition, 3)
    first: dict[int, int] = {}
    for polled in polls(member):
        for record in polled.records:
            first.setdefault(record.partition, record.offset)
        if len(first) == 4:
            break
    assert set(first.values()) == {3}


def test_places_of_partitions_that_are_not_assigned_are_key_errors(stage: Stage) -> None:
    member = stage.join()
    join_all(stage, member)
    with pytest.raises(KeyError):
        member.position(Partition(stage.topic, 9))
    with pytest.raises(KeyError):
        member.seek(Partition(stage.topic, 9), 0)


def test_the_lag_is_what_is_left_to_read(stage: Stage) -> None:
    stage.write(20)
    member = stage.join()
    join_all(stage, member)
    read(member, 20)
    for _ in polls(member):
        lags = member.lags()
        if lags == dict.fromkeys(stage.partitions, 0):
            break


def test_delivered_records_can_be_read_and_nulls_stay_null(stage: Stage) -> None:
    member = stage.join()
    join_all(stage, member)
    sent = [Outgoing(stage.topic, None, None), Outgoing(stage.topic, b"k", None), Outgoing(stage.topic, None, b"")]
    member.deliver(sent, {})
    got = read(member, 3)
    assert {(r.key, r.value) for r in got} == {(s.key, s.value) for s in sent}


def test_records_of_one_placement_go_to_one_partition_whatever_their_keys(stage: Stage) -> None:
    member = stage.join()
    join_all(stage, member)
    placed = [Outgoing(stage.topic, b"key-%d" % i, b"%d" % i, placement=b"owner/%d" % (i % 3)) for i in range(24)]
    member.deliver(placed, {})
    for record in read(member, 24):
        owner = b"owner/%d" % (int(record.value or b"") % 3)
        assert record.partition == (murmur2(owner) & 0x7FFFFFFF) % 4


def deliver_through(member: Transport, fault: Fault, stage: Stage, outgoing: list[Outgoing]) -> None:
    """Deliver, be told that it failed, and deliver the same again."""
    offsets = positions(member, stage)
    stage.fail_next(fault)
    with pytest.raises(TransientError):
        member.deliver(outgoing, offsets)
    member.deliver(outgoing, offsets)


@pytest.mark.parametrize("fault", ["before", "between", "after"])
def test_a_delivery_that_failed_anywhere_and_is_repeated_is_visible_once(
    stage: Stage, fault: Fault, request: pytest.FixtureRequest
) -> None:
    if fault != "before" and "embedded_broker" in request.node.name:
        pytest.skip("Tansu shows what was aborted, and keeps no mark with an offset to tell what was committed")
    values = stage.write(20)
    member = stage.join()
    join_all(stage, member)
    read(member, 20)
    made = [b"made-%d" % i for i in range(8)]
    deliver_through(member, fault, stage, [Outgoing(stage.topic, value, value) for value in made])
    last = Outgoing(stage.topic, b"last", b"last")
    member.deliver([last, last, last], positions(member, stage))
    member.close()
    everything = stage.join("another group")
    join_all(stage, everything)
    assert sorted(r.value or b"" for r in read(everything, 31)) == sorted([*values, *made, b"last", b"last", b"last"])


@pytest.mark.parametrize(("fault", "visible"), [("before", False), ("between", False), ("after", True)])
def test_after_a_failed_delivery_either_its_records_and_offsets_are_visible_or_neither(
    stage: Stage, fault: Fault, visible: bool, request: pytest.FixtureRequest
) -> None:
    if fault == "between" and "embedded_broker" in request.node.name:
        pytest.skip("Tansu shows a read_committed reader what was aborted")
    values = stage.write(20)
    member = stage.join()
    join_all(stage, member)
    read(member, 20)
    offsets = positions(member, stage)
    stage.fail_next(fault)
    with pytest.raises(TransientError):
        member.deliver([Outgoing(stage.topic, b"made", b"made")], offsets)
    member.close()
    again = stage.join()
    assert join_all(stage, again) == (offsets if visible else dict.fromkeys(stage.partitions, 0))
    stage.write(1, start=100)
    everything = stage.join("another group")
    join_all(stage, everything)
    expected = sorted([*values, b"100", *([b"made"] if visible else [])])
    assert sorted(r.value or b"" for r in read(everything, len(expected))) == expected


def test_offsets_of_a_partition_that_is_not_ours_are_refused_and_nothing_is_visible(stage: Stage) -> None:
    member = stage.join()
    join_all(stage, member)
    for elsewhere in (Partition("elsewhere", 0), Partition(stage.topic, 9)):
        with pytest.raises(TransientError):
            member.deliver([Outgoing(stage.topic, b"k", b"refused")], positions(member, stage) | {elsewhere: 1})
    stage.write(4)
    assert len(read(member, 4)) == 4
    member.close()
    assert join_all(stage, stage.join()) == dict.fromkeys(stage.partitions, 0)


def test_nothing_is_lost_or_doubled_when_a_second_member_takes_half(stage: Stage) -> None:
    values = stage.write(40)
    one = stage.join()
    join_all(stage, one)
    owned = {one: set(stage.partitions)}
    seen: list[bytes | None] = [r.value for r in read(one, 40)]
    one.deliver([], positions(one, stage))
    two = stage.join()
    owned[two] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for turn in itertools.count():
        assert time.monotonic() < deadline
        if turn in (2, 8, 16):
            values += stage.write(20, start=1000 * turn)
        for member in (one, two):
            polled = member.poll(0.05)
            for change in polled.changes:
                if isinstance(change, Revoked):
                    owned[member] -= change.partitions
                else:
                    owned[member] |= change.positions.keys()
            assert {Partition(r.topic, r.partition) for r in polled.records} <= owned[member]
            assert not owned[one] & owned[two]
            seen += [r.value for r in polled.records]
            if polled.records:
                member.deliver([], {p: member.position(p) for p in owned[member]})
        if turn > 16 and len(owned[one]) == len(owned[two]) == 2 and len(seen) >= len(values):
            break
    assert sorted(v for v in seen if v) == sorted(values)


def test_partitions_of_a_member_that_leaves_go_to_the_one_that_stays(stage: Stage) -> None:
    one = stage.join()
    join_all(stage, one)
    two = stage.join()
    for _ in polls(one):
        if any(isinstance(change, Assigned) for change in two.poll(0.1).changes):
            break
    two.close()
    stage.write(20)
    assert len(read(one, 20)) == 20


def test_closing_twice_and_without_opening_is_harmless(stage: Stage) -> None:
    member = stage.join()
    member.close()
    member.close()
