"""What is sent to people who look: worst first, what changed, and never more than is bounded."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from live import TOPIC, Live
from starlette.datastructures import QueryParams

from streamd.model import RunJudged, Severity, StreamChanged
from streamd.observe import admin
from streamd.observe.board import Board
from streamd.observe.health import Health, State
from streamd.observe.live import feed as feed_module
from streamd.observe.live import wire
from streamd.observe.live.feed import Feed, Looker
from streamd.observe.live.looks import Looks, Question

Make = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A board and its feed, whose clock stands still."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.board = Board(self.clock)
        self.health = Health()
        self.feed = Feed(self.board, self.health, self.clock)

    def see(self, looker: Looker) -> Any:
        """The next frame, of the board as it is now."""
        self.feed._rank_again = 0.0
        return self.feed.frame(looker)

    def states(self) -> list[tuple[str, str]]:
        frame = self.see(Looker())
        return [(frame["rows"][key]["stream"], frame["rows"][key]["state"]) for key in frame["order"]]

    def observe(self, *effects: Any) -> None:
        self.board.observe(effects, TOPIC, 0)


def run(**metrics: float) -> RunJudged:
    return RunJudged("bert", 1_000, 1200, metrics, (), ())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def live() -> Iterator[Live]:
    with Live() as live:
        yield live


# --- Order and states ---


def test_streams_come_worst_first_each_with_its_state(
    world: World, judged: Make, verdict: Make, reading: Make, alert: Make
) -> None:
    world.observe(StreamChanged("restored", "reference", "2000 rows"), judged("silent", verdict()))
    world.clock.now += 301
    world.observe(judged("calm", verdict(), reading(value=0.02)), judged("near", verdict(), reading(value=0.19)))
    world.observe(judged("new"), judged("worst", verdict()), judged("bad", verdict()))
    world.observe(alert("bad", Severity.WARNING), alert("worst", Severity.CRITICAL))
    assert world.states() == [
        ("worst", "critical"),
        ("bad", "warning"),
        ("silent", "stale"),
        ("near", "quiet"),
        ("calm", "quiet"),
        ("new", "learning"),
        ("restored", "unknown"),
    ]


def test_a_stream_that_always_speaks_seldom_is_not_stale(world: World, judged: Make, verdict: Make) -> None:
    for _ in range(5):
        world.clock.now += 3600
        world.observe(judged("hourly", verdict()))
    world.clock.now += 3600 * 3
    assert world.states() == [("hourly", "quiet")]
    world.clock.now += 3600 * 2
    assert world.states() == [("hourly", "stale")]


def test_a_run_that_is_over_is_not_stale_however_long_it_is_silent(world: World) -> None:
    world.observe(run(), StreamChanged("bert", "ended", "done"))
    world.clock.now += 10_000
    assert world.states() == [("bert", "ended")]
    world.observe(run())
    assert world.states() == [("bert", "quiet")]


def test_a_row_of_a_run_shows_step_loss_and_the_loss_so_far(world: World) -> None:
    for loss in (3.0, math.nan, 2.0, 1.0, math.inf):
        world.observe(run(loss=loss))
    (row,) = world.see(Looker())["rows"].values()
    assert (row["step"], row["loss"], row["loss_name"]) == (1200, "Infinity", "loss")
    assert row["trace"] == [128, None, 64, 0, None]
    assert row["sentence"] == "nothing found up to step 1,200"
    detail = world.see(Looker(open=f"{TOPIC}/0/bert"))["detail"]
    assert detail["losses"] == [3.0, "NaN", 2.0, 1.0, "Infinity"]


def test_a_row_of_a_run_without_a_loss_shows_its_step(world: World) -> None:
    world.observe(run(lr=0.1))
    (row,) = world.see(Looker())["rows"].values()
    assert (row["step"], row["loss"], row["trace"]) == (1200, None, [])


def test_small_changes_of_a_statistic_do_not_change_the_order(
    world: World, judged: Make, verdict: Make, reading: Make
) -> None:
    for value in (0.020, 0.024):
        world.observe(*(judged(name, verdict(), reading(value=value)) for name in ("a", "b")))
        value += 0.001
        world.clock.now += 10
        assert [name for name, _ in world.states()] == ["a", "b"]


def test_a_row_shows_the_sentence_of_the_gravest_alert_else_of_the_nearest_judgement(
    world: World, judged: Make, verdict: Make, alert: Make
) -> None:
    world.observe(judged("a", verdict("ks", effect=0.01), verdict("chi2", effect=0.04, finding="nearest")))
    (row,) = world.see(Looker())["rows"].values()
    assert (row["sentence"], row["detector"], row["effect"], row["threshold"]) == ("nearest", "chi2", 0.04, 0.2)
    world.observe(alert("a", Severity.WARNING, detector="chi2"), alert("a", Severity.CRITICAL))
    (row,) = world.see(Looker())["rows"].values()
    assert (row["sentence"], row["detector"], row["firing"]) == ("amount drifted up", "ks", 2)


# --- Only what is news ---


def test_a_second_frame_has_only_what_changed(world: World, judged: Make) -> None:
    looker = Looker()
    world.observe(judged("a"), judged("b"))
    assert set(world.see(looker)) == {"now_ms", "health", "counts", "found", "offset", "order", "rows"}
    assert world.see(looker) == {}
    world.observe(judged("b"))
    second = world.see(looker)
    assert (set(second), list(second["rows"])) == ({"now_ms", "rows"}, [f"{TOPIC}/0/b"])
    world.health.set(State.DRAINING, "told to stop")
    assert world.see(looker)["health"] == {"state": "draining", "ready": False, "reasons": ["told to stop"]}


def test_becoming_stale_is_news_although_nothing_was_heard(world: World, judged: Make, verdict: Make) -> None:
    looker = Looker()
    world.observe(judged("a", verdict()))
    world.see(looker)
    world.clock.now += 301
    assert world.see(looker)["rows"][f"{TOPIC}/0/a"]["state"] == "stale"


@pytest.mark.slow
def test_ten_thousand_streams_are_sent_a_page_at_a_time(world: World, judged: Make) -> None:
    world.observe(*(judged(f"s{i:05d}") for i in range(10_000)))
    first = world.see(Looker())
    assert (first["counts"], first["found"], len(first["order"])) == ({"learning": 10_000}, 10_000, 50)
    assert len(orjson.dumps(first)) < 30_000
    last = world.see(Looker.of(QueryParams("offset=99999&limit=100")))
    assert (last["offset"], list(last["rows"])[-1]) == (9900, f"{TOPIC}/0/s09999")
    found = world.see(Looker.of(QueryParams("search=S0123")))
    assert (found["found"], len(found["rows"])) == (10, 10)
    assert world.see(Looker.of(QueryParams("state=critical")))["order"] == []


def test_all_who_look_share_one_ordering_a_second(world: World, judged: Make) -> None:
    world.observe(judged("a"))
    assert world.see(Looker())["found"] == 1
    world.observe(judged("b"))
    assert world.feed.frame(Looker())["found"] == 1  # not before a second is over


@pytest.mark.parametrize("query", ["offset=-1", "limit=x", "limit=", "state=angry", "offset=1e3"])
def test_a_query_that_makes_no_sense_is_refused_with_a_sentence(live: Live, query: str) -> None:
    answer = httpx.get(f"{live.url}/events?{query}")
    assert answer.status_code == 400
    assert "must be" in answer.json()["error"]


def test_a_key_names_its_stream_whatever_is_in_the_name() -> None:
    for stream in ("a", "a/b/0/c", "/", "ü ?&#"):
        assert wire.place_of(wire.key_of(("topic", 7), stream)) == (("topic", 7), stream)
    for nonsense in ("", "topic", "topic/x/a", "topic/-1/a", "topic/99999999999/a"):
        assert wire.place_of(nonsense) is None


# --- One stream ---


@pytest.mark.slow
def test_a_stream_that_is_open_comes_with_its_histogram(live: Live) -> None:
    live.watched("a")
    looker = Looker(open=f"{TOPIC}/0/a")
    first: Any = live.feed.frame(looker)
    assert first["detail"]["stream"] == "a"
    until = time.monotonic() + 10
    while (frame := live.feed.frame(looker)).get("detail") is None:
        assert time.monotonic() < until
    histogram: Any = frame["detail"]["histogram"]  # type: ignore[call-overload,index]
    assert histogram["reference_rows"] == 2000
    assert histogram["window_rows"] == 1000
    assert sum(histogram["window"]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_the_histogram_is_of_the_column_that_the_alert_names(live: Live) -> None:
    live.watched("a")
    live.send("a", shift=2.0)
    view = live.board.view((TOPIC, 0), "a")
    assert view is not None
    assert wire.question(view).columns[0] == "amount"
    shown = live.engine.histogram("a", wire.question(view).columns)
    assert shown is not None
    assert shown.column == "amount"


def test_a_stream_that_is_gone_is_told_so(world: World, judged: Make) -> None:
    looker = Looker(open=f"{TOPIC}/0/a")
    world.observe(judged("a"))
    assert world.see(looker)["detail"]["stream"] == "a"
    world.observe(StreamChanged("a", "reset", ""))
    assert world.see(looker)["detail"] is None


# --- Looks ---


class Engine:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def histogram(self, stream: str, _columns: tuple[str, ...]) -> str:
        self.asked.append(stream)
        if stream == "broken":
            raise RuntimeError("a bug")
        return f"of {stream}"


def test_looks_answer_one_question_a_turn_and_ten_a_second() -> None:
    clock, engine = Clock(), Engine()
    looks = Looks(clock)
    seats: Any = {("t", 0): SimpleNamespace(live=True, engine=engine)}
    questions = [Question("t", 0, name, ("x",)) for name in "abc"]
    for question in questions:
        assert looks.ask(question) is None
    for _ in range(5):
        looks.answer(seats)
    assert engine.asked == ["a"]
    for _ in range(3):
        clock.now += 0.11
        looks.answer(seats)
    assert engine.asked == ["a", "b", "c", "a"]
    assert looks.ask(questions[1]) == "of b"


def test_the_last_answer_stands_while_another_column_becomes_the_worst() -> None:
    looks = Looks(Clock())
    looks.ask(Question("t", 0, "a", ("x",)))
    looks.answer({("t", 0): SimpleNamespace(live=True, engine=Engine())})  # type: ignore[dict-item]
    assert looks.ask(Question("t", 0, "a", ("y", "x"))) == "of a"
    assert [question.columns for question in looks._asked] == [("y", "x")]


def test_what_nobody_asks_for_any_more_is_forgotten_and_no_more_than_a_few_are_kept() -> None:
    clock, engine = Clock(), Engine()
    looks = Looks(clock)
    seats: Any = {("t", 0): SimpleNamespace(live=True, engine=engine)}
    for i in range(1000):
        looks.ask(Question("t", 0, f"s{i}", ()))
    assert len(looks._asked) == 16
    clock.now += 6.0
    looks.answer(seats)
    assert (looks._asked, engine.asked) == ({}, [])


def test_a_picture_that_cannot_be_drawn_does_not_stop_the_pump() -> None:
    looks = Looks(Clock())
    broken = Question("t", 0, "broken", ())
    looks.ask(broken)
    looks.answer({("t", 0): SimpleNamespace(live=True, engine=Engine())})  # type: ignore[dict-item]
    assert looks.ask(broken) is None


def test_a_partition_that_is_gone_or_restoring_gives_no_picture() -> None:
    clock, engine = Clock(), Engine()
    looks = Looks(clock)
    for seats in ({}, {("t", 0): SimpleNamespace(live=False, engine=engine)}):
        looks.ask(Question("t", 0, "a", ()))
        looks.answer(seats)  # type: ignore[arg-type]
        clock.now += 1.0
    assert engine.asked == []


# --- Over HTTP ---


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The server-sent events of an answer, by the rules of the specification."""
    name, data = "", ""
    for line in answer.iter_lines():
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and name:
            yield name, orjson.loads(data) if data else None
            name, data = "", ""


@pytest.mark.slow
def test_events_come_as_they_happen_and_the_server_beats_meanwhile(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_TICK_SECONDS", 0.05)
    monkeypatch.setattr(feed_module, "_BEAT_SECONDS", 0.1)
    live.watched("a")
    with httpx.stream("GET", f"{live.url}/events", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        told = events(answer)
        name, frame = next(told)
        assert (name, [row["state"] for row in frame["rows"].values()]) == ("frame", ["quiet"])
        assert next(told) == ("beat", None)
        for _ in range(3):
            live.send("a", shift=3.0)
        assert next(frame for name, frame in told if frame and "counts" in frame)["counts"] == {"critical": 1}


def test_clients_are_bounded_and_their_places_are_given_back(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "CLIENTS_MAX", 2)
    with httpx.Client(timeout=10) as client:
        with client.stream("GET", f"{live.url}/events") as one, client.stream("GET", f"{live.url}/events") as two:
            told = [events(one), events(two)]
            assert [next(each)[0] for each in told] == ["frame", "frame"]
            refused = client.get(f"{live.url}/events")
            assert (refused.status_code, "2 live views are open" in refused.json()["error"]) == (503, True)
            assert client.get(f"{live.url}/livez").status_code == 200
        until = time.monotonic() + 10
        while live.feed.clients:
            assert time.monotonic() < until
        with client.stream("GET", f"{live.url}/events") as again:
            assert next(events(again))[0] == "frame"


@pytest.mark.slow
def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch, judged: Make, verdict: Make) -> None:
    monkeypatch.setattr(admin, "_UNREAD_SECONDS", 1.0)
    monkeypatch.setattr(feed_module, "_TICK_SECONDS", 0.001)
    with Live() as live, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(live.server.address)
        client.sendall(b"GET /events?limit=200 HTTP/1.1\r\nHost: x\r\n\r\n")
        until = time.monotonic() + 60
        while not live.feed.clients:
            assert time.monotonic() < until
        while live.feed.clients:
            assert time.monotonic() < until, "it holds its place"
            live.board.observe([judged(f"s{i}", verdict()) for i in range(200)], TOPIC, 0)
            live.feed._rank_again = 0.0


def test_an_open_view_does_not_hold_the_stop(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    with httpx.stream("GET", f"{live.url}/events", timeout=10) as answer:
        told = events(answer)
        next(told)
        started = time.monotonic()
        live.server.stop()
        assert time.monotonic() - started < 1.0
        assert list(told) == []  # the answer has a proper end
    assert not [thread for thread in threading.enumerate() if thread.name == "admin"]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]
