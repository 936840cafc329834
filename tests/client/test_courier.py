"""The sending thread, turned by hand against a sink that does as it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from streamd.client import courier as courier_module
from streamd.client.courier import Courier, Settled
from streamd.client.outbox import Message, Outbox
from streamd.errors import TransientError


class FakeSink:
    """Records what it is given; settles at once unless told to hold."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.held: list[Settled] = []
        self.hold = False
        self.away = False
        self.fail: str | None = None
        self.broken = False
        self.closed: bool | None = None  # the value of `abandon`

    def ready(self) -> None:
        if self.away:
            raise TransientError("away")

    def send(self, message: Message, settled: Settled) -> None:
        self.got.append(message.key.decode())
        if self.hold:
            self.held.append(settled)
        else:
            settled(self.fail)

    def close(self, *, abandon: bool) -> None:
        self.closed = abandon


@pytest.fixture(autouse=True)
def _no_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "_FIRST_REST_SECONDS", 0.0)
    monkeypatch.setattr(courier_module, "_LONGEST_REST_SECONDS", 0.0)
    monkeypatch.setattr(courier_module, "_LOOK_ROUND_SECONDS", 0.0)


def outbox_with(*names: str) -> Outbox:
    outbox = Outbox(1_000_000, 1000)
    for name in names:
        outbox.offer(Message(name.encode(), b"", (), 0))
    return outbox


def courier_to(outbox: Outbox, connect: Callable[[], FakeSink]) -> Courier:
    return Courier(outbox, connect, "broker:9092")


def test_messages_reach_the_sink_in_order() -> None:
    sink = FakeSink()
    outbox = outbox_with("a", "b", "c")
    courier = courier_to(outbox, lambda: sink)
    for _ in range(4):
        courier.turn()
    assert sink.got == ["a", "b", "c"]
    assert outbox.stats().sent == 3


def test_an_idle_courier_does_not_connect() -> None:
    def connect() -> FakeSink:
        raise AssertionError("connected without need")

    courier_to(outbox_with(), connect).turn()


def test_a_courier_that_is_wanted_connects_without_work() -> None:
    courier = courier_to(outbox_with(), FakeSink)
    courier.wanted = True
    courier.turn()
    assert courier.connected.is_set()


def test_a_missing_broker_is_logged_once_and_its_return_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamd.client")
    sink = FakeSink()
    attempts = iter([TransientError("refused")] * 5)

    def connect() -> FakeSink:
        for error in attempts:
            raise error
        return sink

    outbox = outbox_with("a")
    courier = courier_to(outbox, connect)
    for _ in range(8):
        courier.turn()
    assert sink.got == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "refused" in caplog.text


def test_while_the_sink_is_away_messages_stay_in_the_queue_where_they_can_be_dropped() -> None:
    sink = FakeSink()
    sink.away = True
    outbox = outbox_with("a")
    courier = courier_to(outbox, lambda: sink)
    for _ in range(3):
        courier.turn()
    assert (outbox.in_flight, outbox.stats().queued) == (0, 1)


def test_a_message_that_the_sink_did_not_take_is_sent_first_later() -> None:
    class Reluctant(FakeSink):
        def send(self, message: Message, settled: Settled) -> None:
            if not self.got:
                self.got.append("refused")
                raise TransientError("no metadata")
            super().send(message, settled)

    sink = Reluctant()
    courier = courier_to(outbox_with("a", "b"), lambda: sink)
    for _ in range(4):
        courier.turn()
    assert sink.got == ["refused", "a", "b"]


def test_a_broken_sink_is_replaced_only_after_its_last_message_is_settled() -> None:
    first, second = FakeSink(), FakeSink()
    first.hold = True
    sinks = iter([first, second])
    outbox = outbox_with("a", "b")
    courier = courier_to(outbox, lambda: next(sinks))
    courier.turn()
    first.broken = True
    courier.turn()
    assert (first.got, first.closed, second.got) == (["a"], None, [])
    first.held[0]("expired")
    courier.turn()
    assert (first.closed, second.got) == (False, ["b"])
    assert outbox.stats().failed == 1


def test_failures_are_logged_once_until_the_queue_was_empty_without_one(caplog: pytest.LogCaptureFixture) -> None:
    sink = FakeSink()
    sink.fail = "message too large"
    outbox = outbox_with("a", "b", "c")
    courier = courier_to(outbox, lambda: sink)
    for _ in range(3):
        courier.turn()
    assert [record.getMessage() for record in caplog.records] == ["a batch could not be delivered: message too large"]
    assert outbox.stats().failed == 3


def test_drops_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(1_000_000, 2)
    sink = FakeSink()
    courier = courier_to(outbox, lambda: sink)
    for round_number in range(3):
        for name in "abcd":
            outbox.offer(Message(name.encode(), b"", (), 0))
        courier.turn()
        assert outbox.stats().queued > 0, round_number
    assert len(caplog.records) == 1
    assert "oldest" in caplog.text


def test_the_thread_ends_when_the_outbox_is_closed_and_empty() -> None:
    sink = FakeSink()
    outbox = outbox_with("a", "b")
    outbox.close(60.0)
    courier_to(outbox, lambda: sink).run()
    assert (sink.got, sink.closed) == (["a", "b"], False)


def test_the_thread_abandons_what_is_in_flight_when_its_time_is_up() -> None:
    sink = FakeSink()
    sink.hold = True
    outbox = outbox_with("a", "b")
    courier = courier_to(outbox, lambda: sink)
    courier.turn()
    outbox.close(0.0)
    courier.run()
    assert sink.closed is True
    assert outbox.stats().queued == 1  # the one in flight; the sink fails it


def test_an_unexpected_error_of_the_sink_costs_one_message_only(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(FakeSink):
        def send(self, message: Message, settled: Settled) -> None:
            if message.key == b"a":
                raise ZeroDivisionError("by zero")
            super().send(message, settled)

    sink = Buggy()
    outbox = outbox_with("a", "b")
    outbox.close(60.0)
    courier_to(outbox, lambda: sink).run()
    assert sink.got == ["b"]
    assert (outbox.stats().sent, outbox.stats().failed) == (1, 1)
    assert "ZeroDivisionError: by zero" in caplog.text


def test_a_bug_in_the_thread_itself_leaves_no_queue_that_nobody_empties(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = outbox_with("a", "b")
    courier = courier_to(outbox, FakeSink)
    monkeypatch.setattr(courier, "turn", lambda: 1 // 0)
    courier.run()
    assert (outbox.stats().queued, outbox.stats().dropped) == (0, 2)
    assert not outbox.offer(Message(b"c", b"", (), 0))
    assert "stopped" in caplog.text
