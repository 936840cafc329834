"""The broker in memory, beyond what every transport promises."""

from __future__ import annotations

import pytest
from kafka.partitioner.default import murmur2

from streamd.errors import TransientError
from streamd.transport.base import Assigned, Outgoing, Partition, RecordTooLargeError, Revoked
from streamd.transport.memory import Fault, MemoryBroker, MemoryTransport

A = Partition("t", 0)


def _member(broker: MemoryBroker) -> MemoryTransport:
    member = MemoryTransport(broker, ["t"])
    member.open()
    return member


@pytest.mark.parametrize(
    ("key", "expected"),
    # The values of Kafka's own UtilsTest.testMurmur2.
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_a_key_hashes_as_the_java_client_hashes_it(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32
    broker = MemoryBroker()
    broker.create_topic("t", 7)
    assert broker.append("t", key, b"v").partition == (expected & 0x7FFFFFFF) % 7


def test_records_without_a_key_go_round_robin() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 3)
    assert [broker.append("t", None, b"v").partition for _ in range(4)] == [0, 1, 2, 0]


def test_reading_a_topic_gives_the_order_of_arrival() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 2)
    written = [broker.append("t", None, b"%d" % i, partition=i % 2) for i in (1, 0, 1)]
    assert broker.read("t") == written
    assert broker.read("t", 1) == [written[0], written[2]]


def test_while_the_broker_is_away_every_call_is_a_transient_error_and_afterwards_all_goes_on() -> None:
    broker = MemoryBroker()
    broker.append("t", b"k", b"v")
    member = _member(broker)
    member.poll(0)
    broker.available = False
    with pytest.raises(TransientError):
        member.poll(0)
    with pytest.raises(TransientError):
        member.deliver([], {A: 1})
    broker.available = True
    assert len(member.poll(0).records) == 1


@pytest.mark.parametrize(
    ("fault", "written", "committed"), [("before", 0, None), ("between", 0, None), ("after", 1, 1)]
)
def test_a_delivery_fails_where_it_is_told_to_and_is_made_once_in_the_end(
    fault: Fault, written: int, committed: int | None
) -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    member = _member(broker)
    member.poll(0)
    broker.deliver_faults.append(fault)
    with pytest.raises(TransientError):
        member.deliver([Outgoing("out", None, b"v")], {A: 1})
    assert len(broker.read("out")) == written
    assert broker.committed("streamd", A) == committed
    member.deliver([Outgoing("out", None, b"v")], {A: 1})
    assert [r.value for r in broker.read("out")] == [b"v"]
    assert broker.committed("streamd", A) == 1
    member.deliver([Outgoing("out", None, b"next")], {A: 1})  # other work at the same place, as of a tick
    assert [r.value for r in broker.read("out")] == [b"v", b"next"]


def test_what_became_of_a_delivery_is_forgotten_with_its_partition() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    member = _member(broker)
    member.poll(0)
    broker.deliver_faults.append("after")
    with pytest.raises(TransientError):
        member.deliver([Outgoing("out", None, b"v")], {A: 1})
    broker.expel(member)
    assert member.poll(0).changes == (Revoked(frozenset({A})), Assigned({A: 1}))
    member.deliver([Outgoing("out", None, b"w")], {A: 1})
    assert [r.value for r in broker.read("out")] == [b"v", b"w"]


def test_an_expelled_member_commits_nothing_until_it_has_joined_again() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    member, other = _member(broker), MemoryTransport(broker, ["t"])
    member.poll(0)
    broker.expel(member)
    other.open()
    assert other.poll(0).changes == (Assigned({A: 0}),)
    with pytest.raises(TransientError, match="t/0"):
        member.deliver([Outgoing("out", None, b"v")], {A: 1})
    assert broker.read("out") == []
    assert broker.committed("streamd", A) is None
    assert member.poll(0).changes == (Revoked(frozenset({A})),)
    other.deliver([], {A: 2})
    assert broker.committed("streamd", A) == 2


def test_a_placement_decides_the_partition_and_the_key_does_not() -> None:
    broker = MemoryBroker()
    broker.create_topic("out", 7)
    member = _member(broker)
    member.deliver([Outgoing("out", b"%d" % i, b"v", placement=b"foobar") for i in range(5)], {})
    assert {r.partition for r in broker.read("out")} == {(-790332482 & 0x7FFFFFFF) % 7}


def test_a_record_over_the_limit_is_named_and_nothing_is_written() -> None:
    broker = MemoryBroker(max_record_bytes=3)
    large = Outgoing("out", None, b"four")
    with pytest.raises(RecordTooLargeError) as caught:
        _member(broker).deliver([Outgoing("out", None, b"one"), large], {})
    assert caught.value.record is large
    assert broker.read("out") == []


def test_offsets_of_a_partition_that_is_anothers_are_refused() -> None:
    broker = MemoryBroker()
    broker.create_topic("t")
    member = _member(broker)
    member.poll(0)
    member.close()
    with pytest.raises(TransientError):
        member.deliver([], {A: 1})
    assert broker.committed("streamd", A) is None


def test_partitions_that_are_added_are_assigned_by_the_next_poll() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 1)
    member = _member(broker)
    member.poll(0)
    broker.create_topic("t", 2)
    assert member.poll(0).changes == (Assigned({Partition("t", 1): 0}),)


def test_every_partition_gets_its_turn_when_one_is_never_empty() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 2)
    for partition in (0, 1):
        for _ in range(10):
            broker.append("t", None, b"v", partition=partition)
    member = MemoryTransport(broker, ["t"], max_records=3)
    member.open()
    member.poll(0)
    assert {r.partition for r in member.poll(0).records + member.poll(0).records} == {0, 1}
