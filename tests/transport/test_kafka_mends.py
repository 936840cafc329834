from __future__ import annotations

from collections import deque
from types import SimpleNamespace

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher

from streamd.transport.kafka_mends import clear_slot

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
