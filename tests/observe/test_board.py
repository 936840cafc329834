"""What each stream looks like now."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from streamd.model import Severity, StreamChanged
from streamd.observe.board import Board, StreamView

Make = Callable[..., Any]
TOPIC = "streamd.features"


def changed(
    stream: str,
    what: Literal["seen", "reference", "reset", "evicted", "fitted", "not_fitted", "still", "acknowledged"],
    detail: str = "",
) -> StreamChanged:
    return StreamChanged(stream, what, detail)


def view_of(board: Board, stream: str) -> StreamView:
    return next(view for view in board.views() if view.stream == stream)


def test_a_stream_counts_its_rows_and_batches(judged: Make) -> None:
    board = Board()
    board.observe([judged("a", rows=10), judged("a", rows=5, event_time_ms=2_000)], TOPIC, 3)
    view = view_of(board, "a")
    assert (view.rows, view.batches, view.event_time_ms, view.place) == (15, 2, 2_000, (TOPIC, 3))


def test_streams_say_how_much_of_their_false_alarms_is_spent_and_that_their_clock_stands(judged: Make) -> None:
    board = Board()
    board.observe([judged("a"), changed("a", "still", "event time stands still")], TOPIC, 0)
    said = view_of(board, "a").as_json()
    assert said["false_alarms"] == {
        "judgements": 40, "spent": 0.125, "earned": 0.5, "ratio": 0.25, "still_judgements": 3,
    }  # fmt: skip
    assert said["notes"] == ["event time stands still"]


def test_a_stream_learns_then_watches_then_fires_then_watches(judged: Make, verdict: Make, alert: Make) -> None:
    board, states = Board(), []
    for effects in (
        [changed("a", "seen")],
        [judged("a", verdict())],
        [alert("a")],
        [alert("a", status="resolved")],
    ):
        board.observe(effects, TOPIC, 0)
        states.append(view_of(board, "a").state)
    assert states == ["learning", "watching", "firing", "watching"]


def test_the_last_judgement_of_each_test_of_each_detector_stays(judged: Make, verdict: Make, reading: Make) -> None:
    board = Board()
    last = [verdict("ks", effect=0.2), verdict("entropy", test="t"), verdict("entropy", test="ks_2samp")]
    board.observe([judged("a", verdict("ks", effect=0.1)), judged("a", reading(), *last)], TOPIC, 0)
    view = view_of(board, "a")
    assert [judgement.verdict for judgement in view.judgements] == last
    assert len(view.readings) == 1


def test_each_judgement_keeps_its_own_grade_beside_readings(judged: Make, verdict: Make, reading: Make) -> None:
    effect = judged("a", reading("ks"), verdict("ks"), reading("chi2"), verdict("chi2"))
    graded = type(effect)(effect.stream, 0, 1, effect.outcomes, (Severity.INFO, Severity.WARNING))
    board = Board()
    board.observe([graded], TOPIC, 0)
    grades = {j.verdict.detector: j.severity for j in view_of(board, "a").judgements}
    assert grades == {"ks": Severity.INFO, "chi2": Severity.WARNING}


def test_the_severity_is_the_gravest_alert_that_still_fires(alert: Make) -> None:
    board, seen = Board(), []
    for effect in (
        alert("a", Severity.WARNING, detector="ks"),
        alert("a", Severity.CRITICAL, detector="chi2"),
        alert("a", Severity.CRITICAL, "resolved", detector="chi2"),
        alert("a", Severity.WARNING, "resolved", detector="ks"),
    ):
        board.observe([effect], TOPIC, 0)
        seen.append(view_of(board, "a").severity)
    assert seen == [Severity.WARNING, Severity.CRITICAL, Severity.WARNING, Severity.NONE]


def test_two_tests_of_one_detector_fire_and_resolve_apart(alert: Make) -> None:
    board = Board()
    board.observe(
        [alert("a", test="t"), alert("a", test="ks_2samp"), alert("a", test="t", status="resolved")], TOPIC, 0
    )
    assert [firing.test for firing in view_of(board, "a").firing] == ["ks_2samp"]


def test_an_evicted_or_reset_stream_leaves(judged: Make) -> None:
    board = Board()
    board.observe([judged("a"), judged("b"), judged("c")], TOPIC, 0)
    board.observe([changed("a", "evicted"), changed("b", "reset")], TOPIC, 0)
    assert [view.stream for view in board.views()] == ["c"]


def test_nothing_that_is_told_of_an_unknown_stream_makes_it_known(alert: Make) -> None:
    board = Board()
    told = [changed("x", "acknowledged"), changed("x", "reset"), changed("x", "evicted"), alert("x", status="resolved")]
    board.observe(told, TOPIC, 0)
    assert len(board) == 0


def test_streams_of_a_revoked_partition_leave_and_others_stay(judged: Make) -> None:
    board = Board()
    board.observe([judged("a")], TOPIC, 0)
    board.observe([judged("b")], TOPIC, 1)
    board.revoked([(TOPIC, 0)])
    assert [view.stream for view in board.views()] == ["b"]


def test_a_new_reference_is_told_and_forgets_what_was_judged_by_the_old_one(judged: Make, verdict: Make) -> None:
    board = Board()
    board.observe([judged("a", verdict()), changed("a", "not_fitted", "autoencoder could not learn")], TOPIC, 0)
    board.observe([changed("a", "reference", "2000 rows from its own first rows")], TOPIC, 0)
    view = view_of(board, "a")
    assert (view.reference, view.judgements, view.notes) == ("2000 rows from its own first rows", (), ())


def test_notes_keep_the_newest_few(judged: Make) -> None:
    board = Board()
    board.observe([judged("a"), *(changed("a", "not_fitted", f"note {i}") for i in range(9))], TOPIC, 0)
    assert view_of(board, "a").notes == ("note 4", "note 5", "note 6", "note 7", "note 8")


def test_a_view_does_not_change_afterwards(judged: Make, verdict: Make, alert: Make) -> None:
    board = Board()
    board.observe([judged("a", verdict())], TOPIC, 0)
    view = view_of(board, "a")
    board.observe([judged("a", verdict("chi2")), alert("a"), changed("a", "fitted", "note")], TOPIC, 0)
    assert (view.batches, len(view.judgements), view.firing, view.notes, view.state) == (1, 1, (), (), "watching")


def test_a_page_shows_the_worst_first_then_the_most_recent_then_by_name(judged: Make, alert: Make) -> None:
    board = Board()
    board.observe([judged(name, event_time_ms=1_000) for name in ("quiet/b", "quiet/a", "bad", "worst")], TOPIC, 0)
    board.observe([judged("recent", event_time_ms=5_000)], TOPIC, 0)
    board.observe([alert("bad", Severity.WARNING), alert("worst", Severity.CRITICAL)], TOPIC, 0)
    page: Any = board.page(10)
    assert [stream["stream"] for stream in page["streams"]] == ["worst", "bad", "recent", "quiet/a", "quiet/b"]


def test_pages_together_are_all_streams_once(judged: Make) -> None:
    board = Board()
    board.observe([judged(f"s{i}") for i in range(25)], TOPIC, 0)
    pages: list[Any] = [board.page(10, offset) for offset in (0, 10, 20, 30)]
    names = [stream["stream"] for page in pages for stream in page["streams"]]
    assert sorted(names) == sorted(f"s{i}" for i in range(25))
    assert {page["total"] for page in pages} == {25}
    assert [len(page["streams"]) for page in pages] == [10, 10, 5, 0]


def test_a_search_finds_part_of_a_name(judged: Make) -> None:
    board = Board()
    board.observe([judged("fraud/7"), judged("churn/1")], TOPIC, 0)
    page: Any = board.page(10, search="raud")
    assert [stream["stream"] for stream in page["streams"]] == ["fraud/7"]


def test_a_judgement_shows_its_three_worst_columns_and_no_number_that_json_lacks(judged: Make, verdict: Make) -> None:
    effects = np.array([0.1, np.nan, 0.4, np.inf])
    outcome = verdict(columns=("a", "b", "c", "d"), effects=effects, adjusted=np.array([0.5, np.nan, 1e-9, 1e-12]))
    board = Board()
    board.observe([judged("s", outcome)], TOPIC, 0)
    page: Any = board.page(1)
    assert page["streams"][0]["judgements"][0]["columns"] == [
        {"name": "d", "effect": None, "p_value": 1e-12, "direction": "up"},
        {"name": "c", "effect": 0.4, "p_value": 1e-9, "direction": "up"},
        {"name": "a", "effect": 0.1, "p_value": 0.5, "direction": "up"},
    ]
    json.dumps(page, allow_nan=False)


def test_reading_while_the_pump_writes_is_safe(judged: Make, verdict: Make, alert: Make) -> None:
    board = Board()
    done = threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                board.page(1000)
                board.views()
        except BaseException as error:
            problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(2000):
        name = f"s{i % 50}"
        board.observe([judged(name, verdict(f"d{i}")), alert(name, test=f"t{i}")], TOPIC, i % 3)
        if i % 7 == 0:
            board.observe([changed(name, "evicted")], TOPIC, i % 3)
    done.set()
    reader.join(10)
    assert (problems, reader.is_alive()) == ([], False)
