"""What the training demo says of its run."""

from __future__ import annotations

import math

from streamd.demo.course import Course
from streamd.model import Acknowledgement, Command, TelemetryPoint


def point(step: int, loss: float = 1.0, lr: float = 0.1, **metrics: float) -> TelemetryPoint:
    return TelemetryPoint("digits", 100 * step, step, None, {"loss": loss, "lr": lr, **metrics}, {})


def command(name: str, alert_id: str = "", author: str | None = None) -> Command:
    return Command(name, name, "run", "digits", {}, "enforce", alert_id, "", 0, 1, author)


def ack(name: str, at_ms: int, detail: str) -> Acknowledgement:
    return Acknowledgement("digits", at_ms, name, "done", detail)


def brought_back() -> Course:
    course = Course("digits")
    for step in range(1, 6):
        course.take(point(step))
    for step in range(6, 9):
        course.take(point(step, 100.0, lr=4.0))
    alert = {"id": "a", "stream": "digits", "status": "firing", "detector": "loss_rise", "step": 8, "first_step": 7}
    course.take(alert)
    course.take(command("pause", "a"))
    course.take(ack("pause", 950, "step 9: paused"))
    return course


def test_a_learning_rate_that_doubles_at_once_is_the_mishap_until_the_run_is_rolled_back() -> None:
    course = brought_back()
    assert course.jump == (6, 0.1, 4.0)
    assert course.wild
    course.take(command("rollback", author="ada"))
    course.take(ack("rollback", 2000, "step 5: back"))
    assert not course.wild


def test_a_person_rolls_back_to_the_step_before_the_change_that_the_alert_names() -> None:
    assert brought_back().remedy() == [
        ["reduce-lr", "--run", "digits", "--factor", "0.5"],
        ["rollback", "--run", "digits", "--step", "6"],
        ["resume", "--run", "digits"],
    ]


def test_every_step_is_news_while_the_rate_is_wrong_and_so_is_the_first_after_a_rollback() -> None:
    course = Course("digits")
    shown = []
    for step, lr in [*((s, 0.1) for s in range(1, 12)), (12, 4.0), (13, 4.0)]:
        course.take(point(step, lr=lr))
        if course.is_news(course.points[-1], every=10):
            shown.append(step)
    assert shown == [10, 12, 13]
    course.take(command("rollback"))
    course.take(ack("rollback", 2000, "step 5: back"))
    for step in (6, 7):
        course.take(point(step))
        assert course.is_news(course.points[-1], every=10) == (step == 6)


def test_what_is_about_another_run_is_passed_over() -> None:
    course = Course("digits/undisturbed")
    course.take(point(1))
    course.take({"id": "a", "stream": "digits", "status": "firing"})
    course.take(command("pause"))
    course.take(ack("pause", 1, "step 1: paused"))
    assert (course.points, course.alerts, course.commands, course.answers) == ([], [], {}, [])


def test_the_summary_tells_the_steps_the_delay_and_both_accuracies_within_80_columns() -> None:
    course, calm = brought_back(), Course("digits")
    course.take(command("rollback", author="ada"))
    course.take(ack("rollback", 2000, "step 5: back"))
    for step in range(6, 400):
        course.take(point(step, 0.01, **{"val/accuracy": 0.961}))
    calm.take(point(1, **{"val/accuracy": 0.965}))
    summary = course.summary(calm)
    assert "step 6    the learning rate jumped from 0.1 to 4\n" in summary
    assert "step 9    both were obeyed, 150 ms after that step was measured\n" in summary
    assert "step 5    ada went back to here, with half the rate\n" in summary
    assert summary.endswith(
        "step 399  96.1 % of the unseen pictures are read correctly\n          96.5 % in the undisturbed run"
    )
    assert max(map(len, summary.splitlines())) <= 80


def test_the_curve_is_highest_where_the_loss_was_whatever_it_was() -> None:
    course = Course("digits")
    for step, loss in enumerate([1.0, 0.1, 0.01, math.nan, math.inf, 0.01]):
        course.take(point(step, loss))
    assert course.curve()[3:5] == "██"
    assert course.curve()[2] == course.curve()[5] == "▁"
    assert Course("digits").curve() == ""


def test_a_demo_that_is_ended_early_claims_no_accuracy() -> None:
    course = Course("digits")
    assert course.summary(Course("digits")) == "It was ended before the training began."
    course.take(point(1))
    assert "%" not in course.summary(Course("digits"))
