"""The bounded queue of the client: what it keeps, what it drops, and that its books balance."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.client.outbox import Message, Outbox, Stats


def message(name: str = "m", size: int = 10, *, keep: bool = False) -> Message:
    return Message(name.encode(), b"x" * (size - len(name)), (), 0, keep)


def take_all(outbox: Outbox) -> list[str]:
    names = []
    while (taken := outbox.take()) is not None:
        names.append(taken.key.decode())
        outbox.settle(taken, None)
    return names


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    outbox = Outbox(1000, 100)
    for name in "abc":
        assert outbox.offer(message(name))
    assert take_all(outbox) == ["a", "b", "c"]


def test_the_oldest_are_dropped_when_there_are_too_many() -> None:
    outbox = Outbox(1000, 3)
    for name in "abcde":
        assert outbox.offer(message(name))
    assert outbox.stats() == Stats(sent=0, dropped=2, failed=0, queued=3, queued_bytes=30)
    assert take_all(outbox) == ["c", "d", "e"]


def test_the_oldest_are_dropped_when_there_are_too_many_bytes() -> None:
    outbox = Outbox(30, 100)
    for name in "abc":
        outbox.offer(message(name))
    assert outbox.offer(message("d", 15))
    assert outbox.stats() == Stats(sent=0, dropped=2, failed=0, queued=2, queued_bytes=25)
    assert take_all(outbox) == ["c", "d"]


def test_what_is_in_flight_counts_against_the_limits_and_is_not_dropped() -> None:
    outbox = Outbox(1000, 3)
    outbox.offer(message("a"))
    flying = outbox.take()
    assert flying is not None
    for name in "bcd":
        outbox.offer(message(name))
    assert outbox.stats().dropped == 1
    outbox.settle(flying, None)
    assert take_all(outbox) == ["c", "d"]


def test_at_most_a_quarter_of_the_bytes_is_in_flight() -> None:
    outbox = Outbox(100, 1000)
    for i in range(10):
        outbox.offer(message(str(i)))
    taken = [outbox.take() for _ in range(10)]
    assert [m is not None for m in taken] == [True, True] + [False] * 8


def test_at_most_a_quarter_of_the_messages_is_in_flight() -> None:
    outbox = Outbox(10_000, 12)
    for i in range(10):
        outbox.offer(message(str(i)))
    assert sum(outbox.take() is not None for _ in range(10)) == 3


def test_one_message_may_always_fly_however_large() -> None:
    outbox = Outbox(100, 1)
    outbox.offer(message("a", 99))
    assert outbox.take() is not None


def test_a_message_larger_than_the_queue_is_dropped_and_nothing_else() -> None:
    outbox = Outbox(30, 100)
    outbox.offer(message("a"))
    assert not outbox.offer(message("b", 31))
    assert outbox.stats() == Stats(sent=0, dropped=1, failed=0, queued=1, queued_bytes=10)


def test_what_must_be_kept_is_passed_over_when_room_is_made() -> None:
    outbox = Outbox(1000, 3)
    outbox.put(message("reference", keep=True), 0.0)
    for name in "abc":
        outbox.offer(message(name))
    assert take_all(outbox) == ["reference", "b", "c"]


def test_a_message_is_dropped_itself_when_all_the_rest_must_be_kept() -> None:
    outbox = Outbox(1000, 2)
    outbox.put(message("a", keep=True), 0.0)
    outbox.put(message("b", keep=True), 0.0)
    assert not outbox.offer(message("c"))
    assert take_all(outbox) == ["a", "b"]


def test_put_drops_nothing_and_says_when_there_was_no_room() -> None:
    outbox = Outbox(1000, 1)
    outbox.offer(message("a"))
    assert not outbox.put(message("b", keep=True), 0.0)
    assert outbox.stats() == Stats(sent=0, dropped=0, failed=0, queued=1, queued_bytes=10)


def test_put_goes_on_as_soon_as_there_is_room() -> None:
    outbox = Outbox(1000, 1)
    outbox.offer(message("a"))
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(outbox.put(message("b", keep=True), 60.0)))
    waiting.start()
    assert take_all(outbox)[0] == "a"
    waiting.join(60.0)
    assert answers == [True]


def test_what_was_put_back_is_the_oldest_again() -> None:
    outbox = Outbox(1000, 100)
    outbox.offer(message("a"))
    outbox.offer(message("b"))
    taken = outbox.take()
    assert taken is not None
    outbox.put_back(taken)
    assert take_all(outbox) == ["a", "b"]


def test_a_failure_is_counted_and_told_to_whoever_waits_for_the_message() -> None:
    outbox = Outbox(1000, 100)
    sent = message("a")
    outbox.offer(sent)
    assert outbox.take() is sent
    outbox.settle(sent, "no leader")
    assert outbox.join(0.0, [sent])
    assert (sent.error, outbox.last_error, outbox.stats().failed) == ("no leader", "no leader", 1)


def test_only_what_still_waits_can_be_withdrawn() -> None:
    outbox = Outbox(1000, 100)
    messages = [message(name, keep=True) for name in "abc"]
    for one in messages:
        outbox.put(one, 0.0)
    outbox.take()
    assert outbox.withdraw(messages) == 2
    assert outbox.stats() == Stats(sent=0, dropped=2, failed=0, queued=1, queued_bytes=10)


def test_nothing_is_accepted_after_close() -> None:
    outbox = Outbox(1000, 100)
    outbox.close(60.0)
    assert not outbox.offer(message("a"))
    assert not outbox.put(message("b"), 60.0)
    assert outbox.finished


def test_a_closed_outbox_is_finished_when_its_time_is_up_though_something_waits() -> None:
    outbox = Outbox(1000, 100)
    outbox.offer(message("a"))
    outbox.close(60.0)
    assert not outbox.finished
    late = Outbox(1000, 100)
    late.offer(message("a"))
    late.close(0.0)
    assert late.finished


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["offer", "put"]), st.integers(1, 60)),
        st.tuples(st.sampled_from(["take", "arrive", "fail", "put_back", "withdraw"]), st.just(0)),
    ),
    min_size=20,
    max_size=120,
)


@given(OPERATIONS)
@pytest.mark.slow
def test_the_books_balance_and_the_limits_hold_whatever_happens(operations: list[tuple[str, int]]) -> None:
    outbox = Outbox(100, 6)
    accepted, flying, kept = 0, [], []
    for name, size in operations:
        if name == "offer":
            outbox.offer(message("a", size))
            accepted += 1
        elif name == "put":
            one = message("a", size, keep=True)
            if outbox.put(one, 0.0):
                accepted += 1
                kept.append(one)
        elif name == "take":
            if (taken := outbox.take()) is not None:
                flying.append(taken)
        elif name == "withdraw":
            outbox.withdraw(kept[:1])
        elif flying:
            one = flying.pop()
            if name == "put_back":
                outbox.put_back(one)
            else:
                outbox.settle(one, None if name == "arrive" else "refused")
        stats = outbox.stats()
        assert stats.sent + stats.dropped + stats.failed + stats.queued == accepted
        assert stats.queued <= 6
        assert stats.queued_bytes <= 100
    for one in flying:
        outbox.settle(one, None)
    take_all(outbox)
    assert outbox.stats().queued_bytes == 0
