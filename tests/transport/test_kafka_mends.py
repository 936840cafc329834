"""The mends of the client, each without a broker, and whether the client still needs them."""

from __future__ import annotations

from collections import deque
from threading import Lock
from types import SimpleNamespace
from unittest.mock import Mock

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.coordinator.heartbeat import Heartbeat

from streamd.transport.kafka_mends import beat_when_found, clear_slot

RESUMED = TopicPartition("features", 0)


class Records:
    """Fetched records of one partition, as the fetcher holds them."""

    topic_partition = RESUMED
    next_fetch_offset = 7
    leader_epoch = -1

    def __init__(self, *records: str) -> None:
        self._records = list(records)

    def __bool__(self) -> bool:
        return bool(self._records)

    def take(self, n: int) -> list[str]:
        taken, self._records = self._records[:n], self._records[n:]
        return taken


def consumer_with_a_partition_that_was_resumed() -> SimpleNamespace:
    """Its records were parked while it was paused; those of another partition are used up."""
    fetcher = Fetcher.__new__(Fetcher)
    fetcher._next_in_line_exception_metadata = None
    fetcher._completed_fetches = deque()
    fetcher._paused_completed_fetches = {}
    fetcher._paused_partition_records = {RESUMED: Records("parked")}
    fetcher._next_partition_records = Records()
    fetcher._sensors = None
    fetcher._subscriptions = SimpleNamespace(
        is_paused=lambda _: False,
        is_assigned=lambda _: True,
        is_fetchable=lambda _: True,
        assignment={RESUMED: SimpleNamespace(position=SimpleNamespace(offset=7), highwater=None)},
    )
    return SimpleNamespace(_fetcher=fetcher)


def test_a_partition_that_was_paused_is_read_again() -> None:
    consumer = consumer_with_a_partition_that_was_resumed()
    clear_slot(consumer)
    assert consumer._fetcher.fetched_records(1)[0] == {RESUMED: ["parked"]}


def test_the_client_alone_would_leave_it_parked_so_the_mend_is_still_needed() -> None:
    consumer = consumer_with_a_partition_that_was_resumed()
    assert consumer._fetcher.fetched_records(1)[0] == {}


def test_records_that_are_not_used_up_keep_their_place() -> None:
    consumer = consumer_with_a_partition_that_was_resumed()
    consumer._fetcher._next_partition_records = Records("next", "after it")
    clear_slot(consumer)
    assert consumer._fetcher.fetched_records(1)[0] == {RESUMED: ["next"]}


def member_that_looks_for_its_coordinator() -> SimpleNamespace:
    coordinator = ConsumerCoordinator.__new__(ConsumerCoordinator)
    coordinator.config = {"group_id": "g"}
    coordinator.heartbeat = Heartbeat(heartbeat_interval_ms=3_000_000, session_timeout_ms=10_000_000)
    coordinator.heartbeat.sent_heartbeat()
    coordinator._heartbeat_wakeup = Mock()
    coordinator._lock = Lock()
    coordinator._cluster, coordinator._client = Mock(), Mock()
    return SimpleNamespace(_coordinator=coordinator)


def find(consumer: SimpleNamespace) -> None:
    """What the broker answers where the coordinator is."""
    consumer._coordinator._handle_find_coordinator_response(SimpleNamespace(coordinators=[], error_code=0))


def test_a_coordinator_that_was_found_anew_gets_a_heartbeat_at_once() -> None:
    consumer = member_that_looks_for_its_coordinator()
    beat_when_found(consumer)
    find(consumer)
    assert consumer._coordinator.heartbeat.time_to_next_heartbeat() <= 0.1
    consumer._coordinator._heartbeat_wakeup.notify.assert_called()


def test_the_client_alone_would_wait_for_a_whole_interval_so_the_mend_is_still_needed() -> None:
    consumer = member_that_looks_for_its_coordinator()
    find(consumer)
    assert consumer._coordinator.heartbeat.time_to_next_heartbeat() > 1000
