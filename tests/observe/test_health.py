"""What the probes are told."""

from __future__ import annotations

import pytest

from streamd.observe.health import Health, State


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_new_process_lives_but_is_not_ready(clock: Clock) -> None:
    report = Health(clock).report()
    assert (report.state, report.live, report.ready, report.beat_seconds) == (State.STARTING, True, False, None)
    assert report.reasons


def test_starting_may_take_as_long_as_it_likes(clock: Clock) -> None:
    health = Health(clock)
    clock.now += 10_000
    assert health.report().live


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (State.STARTING, False),
        (State.RUNNING, True),
        (State.RESTORING, False),
        (State.STALLED, False),
        (State.DRAINING, False),
        (State.STOPPED, False),
    ],
)
def test_only_a_running_process_is_ready(clock: Clock, state: State, ready: bool) -> None:
    health = Health(clock)
    health.set(state, "because")
    health.beat()
    report = health.report()
    assert (report.state, report.ready, report.reasons) == (state, ready, ("because",))


def test_a_pump_that_does_not_turn_is_stalled_and_at_last_dead(clock: Clock) -> None:
    health = Health(clock, stalled_seconds=15, dead_seconds=120)
    health.set(State.RUNNING)
    health.beat()
    clock.now += 14.9
    assert health.report().ready
    clock.now += 0.1
    report = health.report()
    assert (report.state, report.live, report.ready) == (State.STALLED, True, False)
    assert report.reasons == ("the pump has not turned for 15 s",)
    clock.now += 105
    assert not health.report().live
    health.beat()
    assert health.report().ready


def test_a_stopped_process_does_not_live_and_is_not_called_stalled(clock: Clock) -> None:
    health = Health(clock)
    health.beat()
    health.set(State.STOPPED)
    clock.now += 1000
    report = health.report()
    assert (report.state, report.live, report.ready) == (State.STOPPED, False, False)


def test_a_process_that_never_reached_the_broker_is_not_ready(clock: Clock) -> None:
    health = Health(clock)
    health.broker_lost("connection refused")
    report = health.report()
    assert (report.state, report.live, report.ready) == (State.WAITING_FOR_BROKER, True, False)
    assert report.reasons == ("the broker does not answer: connection refused",)


def test_a_process_that_lost_the_broker_stays_ready_and_says_why(clock: Clock) -> None:
    health = Health(clock)
    health.broker_found()
    health.broker_lost("connection reset")
    report = health.report()
    assert (report.state, report.ready) == (State.WAITING_FOR_BROKER, True)
    assert report.reasons == ("the broker does not answer: connection reset",)


def test_losing_and_finding_the_broker_is_news_once(clock: Clock) -> None:
    health = Health(clock)
    news = [health.broker_found(), health.broker_found()]
    news += [health.broker_lost("a"), health.broker_lost("b")]
    news += [health.broker_found(), health.broker_found()]
    assert news == [True, False, True, False, True, False]
    assert health.report().state is State.RUNNING


def test_draining_goes_on_while_the_broker_is_away(clock: Clock) -> None:
    health = Health(clock)
    health.broker_found()
    health.set(State.DRAINING, "told to stop")
    health.broker_lost("gone")
    assert health.report().state is State.DRAINING
