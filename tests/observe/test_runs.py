"""What is shown of one training run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import telemetry
from envelopes import T0, Producer
from hypothesis import given
from hypothesis import strategies as st
from telemetry import point, record

from streamd.model import Alert, Command, Kind, RunJudged, Severity, StreamChanged, Verdict
from streamd.observe import runs
from streamd.observe.board import Board, StreamView
from streamd.observe.curve import POINTS, Curve
from streamd.policy import PolicySettings

TOPIC = "streamd.telemetry"
COMMAND = Command("c", "pause", "run", "bert", {}, "shadow", "a", "because", 1_000, 9_000)


def judged(step: int, *verdicts: Verdict, nonfinite: int = 0, **metrics: float) -> RunJudged:
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return RunJudged("bert", 1_000 * step, step, named, verdicts, (Severity.WARNING,) * len(verdicts), nonfinite)


def after(*effects: Any) -> StreamView:
    board = Board()
    board.observe(effects, TOPIC, 0)
    (view,) = board.views()
    return view


def test_a_run_shows_its_step_and_the_last_value_of_each_metric() -> None:
    view = after(judged(1, loss=2.0, val__f1=0.7), judged(2, loss=1.5))
    assert view.run is not None
    assert (view.state, view.event_time_ms, view.run.step) == ("watching", 2_000, 2)
    assert view.run.metrics == {"loss": 1.5, "val/f1": 0.7}
    assert (view.run.loss, view.run.last_loss, view.run.losses) == ("loss", 1.5, (2.0, 1.5))


def test_a_loss_that_is_no_number_is_a_word_in_json_and_counted() -> None:
    view = after(judged(1, loss=math.nan, grad_norm=-math.inf, nonfinite=2), judged(2, nonfinite=1))
    shown: Any = json.loads(json.dumps(view.as_json(), allow_nan=False))["run"]
    assert shown["metrics"] == {"loss": "NaN", "grad_norm": "-Infinity"}
    assert shown["nonfinite"] == 3


def test_commands_and_answers_are_counted_by_what_they_are() -> None:
    view = after(
        COMMAND,
        replace(COMMAND, issued_at_ms=5_000),
        replace(COMMAND, mode="enforce"),
        StreamChanged("bert", "acknowledged", "", "done"),
        StreamChanged("bert", "unanswered", "", "none"),
    )
    assert view.run is not None
    assert view.run.commands == {("pause", "shadow"): (2, 5_000), ("pause", "enforce"): (1, 1_000)}
    assert view.run.answers == {"done": 1, "none": 1}


def test_a_command_to_a_served_model_makes_no_run_of_it() -> None:
    board = Board()
    board.observe([replace(COMMAND, target_kind="stream")], TOPIC, 0)
    assert board.views() == []


def test_a_run_that_is_over_says_so_until_it_speaks_again() -> None:
    ended = StreamChanged("bert", "ended", "done")
    assert (after(judged(1), ended).state, after(judged(1), ended, judged(2)).state) == ("ended", "watching")


def test_a_finding_stays_until_its_alert_is_resolved(verdict: Any, alert: Any) -> None:
    found = verdict("loss_spike", test="rule", kind=Kind.TRAINING)
    told: Alert = replace(alert("bert", detector="loss_spike", test="rule"), kind=Kind.TRAINING)
    assert [j.verdict.detector for j in after(told, judged(1, found)).judgements] == ["loss_spike"]
    assert after(told, judged(1, found), replace(told, status="resolved")).judgements == ()


def test_a_run_that_is_forgotten_is_gone() -> None:
    board = Board()
    board.observe([judged(1), StreamChanged("bert", "evicted", "")], TOPIC, 0)
    assert board.views() == []


def test_a_job_that_invents_names_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_METRICS_MAX", 3)
    view = after(*(judged(step, loss=1.0, **{f"m{step}": 1.0}) for step in range(10)))
    assert view.run is not None
    assert set(view.run.metrics) == {"loss", "m8", "m9"}
    view = after(judged(1, a=1, b=1, c=1, d=1))
    assert view.run is not None
    assert set(view.run.metrics) == {"b", "c", "d"}


@given(st.lists(st.floats(), min_size=POINTS, max_size=10 * POINTS))
def test_a_curve_keeps_its_length_its_largest_and_every_stretch_that_was_no_number(values: list[float]) -> None:
    curve = Curve()
    for value in values:
        curve.add(value)
    assert len(curve.points) <= POINTS
    each = next(2**k for k in range(9) if 2**k * POINTS >= len(values))
    stretches = [values[i : i + each] for i in range(0, len(values), each)]
    assert len(curve.points) == len(stretches)
    for kept, stretch in zip(curve.points, stretches, strict=True):
        if any(map(math.isnan, stretch)):
            assert math.isnan(kept)
        elif any(map(math.isinf, stretch)):
            assert math.isinf(kept)
        else:
            assert kept == max(stretch)


# --- What the engine says of it ---


def test_values_that_are_no_numbers_are_counted_in_every_point_of_a_record() -> None:
    points = [point(1, loss=math.nan, lr=math.inf), point(2, loss=math.nan), point(3, loss=1.0, lr=0.1)]
    told = telemetry.engine().step(record(Producer(TOPIC), *points))
    (seen,) = [effect for effect in told if isinstance(effect, RunJudged)]
    assert (seen.nonfinite, seen.metrics) == (3, {"loss": 1.0, "lr": 0.1})


def test_an_answer_and_its_absence_are_told_by_their_outcome() -> None:
    watch, send, board = telemetry.engine(policy=PolicySettings(mode="enforce")), Producer(TOPIC), Board()
    told = watch.step(record(send, point(1, loss=math.nan)))
    board.observe(told, TOPIC, 0)
    (pause,) = [effect for effect in told if isinstance(effect, Command) and effect.command == "pause"]
    ack = {"run": "bert", "role": "ack", "ack": {"command_id": pause.id, "outcome": "refused"}}
    board.observe(watch.step(send.record(json.dumps(ack).encode())), TOPIC, 0)
    board.observe(watch.tick(T0 + 120_000) or [], TOPIC, 0)
    (view,) = board.views()
    assert view.run is not None
    assert view.run.answers == {"refused": 1, "none": 1}
    assert view.notes[-1].startswith("no acknowledgement of checkpoint")
