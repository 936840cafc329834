"""The Kafka transport where a broker is slow, silent or gone, and the mends of the client's joining."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.coordinator.base import Generation, MemberState
from kafka.future import Future
from members import quick_member, read_until

from streamd.errors import TransientError
from streamd.transport import kafka_auth
from streamd.transport.base import Outgoing, Partition
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka import KafkaTransport
from streamd.transport.kafka_consumer import GroupConsumer
from streamd.transport.kafka_mends import keep_finished_join
from streamd.transport.settings import KafkaSettings

HELD, FLOWING = Partition("t", 0), Partition("t", 1)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_given_up_and_leaves_no_thread(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_auth, "BOOTSTRAP_SECONDS", 0.3)
    before = threading.active_count()
    transport = KafkaTransport(KafkaSettings(bootstrap_servers=(silent_server,)), ["t"])
    for _ in range(3):
        with pytest.raises(TransientError, match="does not answer as a Kafka broker"):
            transport.open()
    transport.close()
    assert threading.active_count() <= before


def test_a_name_lookup_that_hangs_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: hang.wait() and [])
    with pytest.raises(TransientError, match=r"no answer within 0\.1 s"):
        kafka_auth.reach(KafkaSettings(bootstrap_servers=("broker.example:9092",)), 0.1)
    hang.set()


def test_one_server_of_several_that_answers_is_enough(silent_server: str) -> None:
    kafka_auth.reach(KafkaSettings(bootstrap_servers=("127.0.0.1:1", silent_server)), 2.0)


class FakeCoordinator:
    """What `keep_finished_join` touches of the client."""

    def __init__(self, task: Any) -> None:
        self._join_task = task
        self.state = MemberState.REBALANCING
        self._generation = Generation(1, "member", "cooperative-sticky")
        self.rejoin_needed = False

    def request_rejoin(self) -> None:
        self.rejoin_needed = True


def test_a_join_that_ended_between_two_polls_is_gone_through_with() -> None:
    coordinator = FakeCoordinator(Future().success(b"assignment"))
    keep_finished_join(SimpleNamespace(_coordinator=coordinator))
    assert coordinator.rejoin_needed  # the next poll looks at the join,
    assert not coordinator._join_task.is_done  # does not begin another one,
    answers: list[bytes] = []
    coordinator._join_task.add_callback(answers.append)
    assert answers == [b"assignment"]  # and gets this one's answer at once


def test_a_join_under_way_is_waited_for_and_one_that_is_lost_is_not_revived() -> None:
    under_way, finished = Future(), Future().success(b"assignment")
    waiting, lost = FakeCoordinator(under_way), FakeCoordinator(finished)
    lost.state = MemberState.UNJOINED
    for coordinator in (waiting, lost):
        keep_finished_join(SimpleNamespace(_coordinator=coordinator))
        assert coordinator.rejoin_needed
    assert (waiting._join_task, lost._join_task) == (under_way, finished)


class LoserClient:
    """A client that gives up the place of a partition, as when retention has removed what was to be read next."""

    def __init__(self) -> None:
        self._coordinator = FakeCoordinator(None)
        self._fetcher = SimpleNamespace(_next_partition_records=None)

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        return {}

    def group_metadata(self) -> SimpleNamespace:
        return SimpleNamespace(state=MemberState.REBALANCING)

    def pause(self, partition: TopicPartition) -> None: ...

    resume = pause

    def seek(self, partition: TopicPartition, offset: int) -> None: ...


@pytest.fixture
def loser() -> GroupConsumer:
    """A member that is in the middle of a delivery, and has just lost what it was to read next."""
    consumer = GroupConsumer(KafkaSettings(), ["t"])
    consumer._consumer = LoserClient()
    consumer._reported = {HELD: 5, FLOWING: 5}
    consumer._heard()
    consumer.pause([HELD])
    consumer._resets |= {TopicPartition(*HELD), TopicPartition(*FLOWING)}
    return consumer


def test_a_loss_is_told_when_the_partition_is_not_paused_so_that_what_came_before_it_is_delivered(
    loser: GroupConsumer,
) -> None:
    assert [loser.poll(0).lost for _ in range(2)] == [{FLOWING}, frozenset()]
    loser.resume([HELD])
    assert [loser.poll(0).lost for _ in range(2)] == [{HELD}, frozenset()]


def test_a_loss_is_not_told_of_a_partition_that_was_sought_meanwhile(loser: GroupConsumer) -> None:
    loser.seek(HELD, 9)
    loser.resume([HELD])
    assert loser.poll(0).lost == {FLOWING}


# --- With a broker ------------------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.slow
def test_between_two_clients_partitions_are_held_and_let_go_without_an_error() -> None:
    """The broker is away for so long that the client was given up, in the middle of a delivery."""
    settings = KafkaSettings(bootstrap_servers=("127.0.0.1:1",))
    consumer, partition = GroupConsumer(settings, ["t"]), Partition("t", 0)
    consumer._reported[partition] = 7
    consumer.pause([partition])
    consumer.resume([partition])
    consumer.seek(partition, 5)
    assert consumer.position(partition) == 5
    assert consumer.lags() == {}


def test_closing_leaves_no_thread(embedded_broker: EmbeddedBroker) -> None:
    before = threading.active_count()
    transport, topic = quick_member(embedded_broker)
    transport.open()
    transport.deliver([Outgoing(topic, b"k", b"v")], {})
    read_until(transport, b"v")
    transport.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
