"""A training run through the engine: order, silence, commands, restarts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from envelopes import T0, Producer
from telemetry import TOPIC, engine, noisy, point, record

from streamd.engine import DetectorCrashError, PartitionEngine
from streamd.kept import Kept
from streamd.model import Alert, Command, DeadLetter, Effect, Envelope, Kind, RunJudged, Severity, StreamChanged
from streamd.policy import PolicySettings
from streamd.rules.nonfinite import Nonfinite
from streamd.run import Run
from streamd.sinks.records import outgoing
from streamd.state import pack, unpack
from streamd.transport.settings import TopicSettings

ENFORCED = PolicySettings(mode="enforce", acknowledge_seconds=30)


def alerts(effects: list[Effect]) -> list[Alert]:
    return [effect for effect in effects if isinstance(effect, Alert)]


def commands(effects: list[Effect]) -> list[Command]:
    return [effect for effect in effects if isinstance(effect, Command)]


def follow(watch: PartitionEngine, points: list[dict[str, Any]], send: Producer | None = None) -> list[Effect]:
    """What is said of points that come one to a record."""
    send = send or Producer(TOPIC)
    return [effect for each in points for effect in watch.step(record(send, each))]


def healthy(steps: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [point(first + i, loss=value, **more) for i, value in enumerate(noisy(steps, seed=first))]


def test_a_loss_that_becomes_nan_is_critical_at_once_and_asks_to_checkpoint_and_pause() -> None:
    told = follow(engine(), [*healthy(3), point(3, loss=math.nan)])
    (alert,) = alerts(told)
    assert (alert.severity, alert.kind, alert.detector) == (Severity.CRITICAL, Kind.TRAINING, "nonfinite")
    assert (alert.step, alert.first_step, alert.action) == (3, 3, "checkpoint+pause")
    assert [(c.command, c.target_kind, c.target, c.mode) for c in commands(told)] == [
        ("checkpoint", "run", "bert", "shadow"),
        ("pause", "run", "bert", "shadow"),
    ]
    assert {c.alert_id for c in commands(told)} == {alert.id}
    assert len({c.id for c in commands(told)}) == 2


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"nan"', '"-inf"', "1e999"])
def test_every_way_to_write_what_is_not_a_number_is_critical(value: str) -> None:
    text = f'{{"run": "bert", "step": 1, "metrics": {{"loss": {value}}}}}'
    assert [a.severity.word for a in alerts(engine().step(Producer(TOPIC).record(text.encode())))] == ["critical"]


def test_null_means_not_measured_and_is_no_finding() -> None:
    text = b'{"run": "bert", "step": 1, "metrics": {"loss": null}}'
    assert alerts(engine().step(Producer(TOPIC).record(text))) == []


def test_a_healthy_run_raises_nothing() -> None:
    assert alerts(follow(engine(), healthy(400, grad_norm=1.0, lr=1e-3, gpu_mem_percent=80.0))) == []


def test_one_hard_batch_is_info_and_no_alert() -> None:
    points = [*healthy(60), point(60, loss=3.5), *healthy(40, first=61)]
    told = follow(engine(), points)
    assert alerts(told) == []
    graded = [s.word for e in told if isinstance(e, RunJudged) for s in e.severities]
    assert graded == ["info"]


def test_a_loss_that_stays_up_is_a_warning_with_its_first_step_and_then_critical() -> None:
    told = follow(engine(), healthy(60) + [point(60 + i, loss=3.0 + 0.1 * i) for i in range(6)])
    assert [(a.detector, a.severity.word, a.step, a.first_step) for a in alerts(told)] == [
        ("loss_spike", "warning", 62, 60),
        ("loss_rise", "critical", 64, 60),
    ]


def test_the_gradient_norm_is_told_before_the_loss() -> None:
    rising = [point(60 + i, loss=2.0, grad_norm=value) for i, value in enumerate((4.0, 16.0, 145.0))]
    told = alerts(follow(engine(), healthy(60, grad_norm=1.0) + rising + [point(63, loss=9.0, grad_norm=900.0)]))
    assert [(a.detector, a.step) for a in told] == [("grad_norm_spike", 61)]


def test_a_loss_too_good_to_be_true_is_a_finding() -> None:
    told = alerts(follow(engine(), healthy(150) + [point(150 + i, loss=0.4) for i in range(6)]))
    assert [(a.detector, a.severity.word, a.features[0].direction) for a in told] == [("loss_drop", "warning", "down")]


@pytest.mark.parametrize("level", [-120.0, 0.0])
def test_a_metric_may_be_negative_or_cross_zero(level: float) -> None:
    values = noisy(100, level, 1.0)
    assert alerts(follow(engine(), [point(i, loss=v) for i, v in enumerate(values)])) == []
    fault = [point(100 + i, loss=level + 60.0) for i in range(5)]
    told = alerts(follow(engine(), [point(i, loss=v) for i, v in enumerate(values)] + fault))
    assert "loss_spike" in {a.detector for a in told}


def test_a_calm_run_ends_its_alert() -> None:
    told = alerts(follow(engine(), [*healthy(3), point(3, loss=math.nan), *healthy(10, first=4)]))
    assert [(a.detector, a.status) for a in told] == [("nonfinite", "firing"), ("nonfinite", "resolved")]
    assert told[1].step == 8


def test_an_evaluation_that_got_worse_asks_for_a_lower_learning_rate() -> None:
    points = [point(i, val__f1=value) for i, value in enumerate((0.80, 0.82, 0.81, 0.70))]
    told = follow(engine(), points)
    assert [(a.detector, a.severity.word) for a in alerts(told)] == [("validation_drop", "warning")]
    assert [(c.command, c.args) for c in commands(told)] == [("reduce_lr", {"factor": 0.5, "min_lr": 1e-6})]


# --- Order ---


def test_a_resume_at_an_earlier_step_is_no_anomaly() -> None:
    """It diverges to 9, and goes on from step 50, where the loss was 2."""
    watch, send = engine(), Producer(TOPIC)
    before = alerts(follow(watch, healthy(60) + [point(60 + i, loss=9.0) for i in range(40)], send))
    assert {a.detector for a in before} == {"loss_spike", "loss_rise"}
    after = alerts(follow(watch, healthy(100, first=50), send))
    assert {(a.detector, a.status) for a in after} == {("loss_spike", "resolved"), ("loss_rise", "resolved")}


def test_a_resume_before_all_that_is_known_begins_with_an_empty_past() -> None:
    watch, send = engine(), Producer(TOPIC)
    follow(watch, healthy(100, first=1000), send)
    high = [point(i, loss=8.0 - 0.01 * i) for i in range(100)]
    assert alerts(follow(watch, high, send)) == []


def test_a_resume_on_a_machine_whose_clock_is_behind_is_understood_at_its_second_step() -> None:
    watch, send = engine(), Producer(TOPIC)
    follow(watch, [point(i, loss=v, ts=T0 - 10**6 + 1000 * i) for i, v in enumerate(noisy(60))], send)
    run = watch._streams["bert"]
    assert isinstance(run, Run)
    follow(watch, [point(50, loss=2.0, ts=T0 - 10**7)], send)
    assert run.step == 59
    follow(watch, [point(51, loss=2.0, ts=T0 - 10**7 + 1000)], send)
    assert run.step == 51


def test_a_late_point_moves_nothing_but_a_nan_in_it_is_told() -> None:
    watch, send = engine(), Producer(TOPIC)
    follow(watch, [point(i, loss=v, ts=T0 + 1000 * i) for i, v in enumerate(noisy(60))], send)
    rules = pack(watch.snapshot()["streams"][0]["rules"])
    assert alerts(follow(watch, [point(40, loss=50.0, ts=T0 + 40_000)], send)) == []
    run = watch._streams["bert"]
    assert isinstance(run, Run)
    assert run.step == 59
    assert pack(watch.snapshot()["streams"][0]["rules"]) == rules
    assert [
        a.detector for a in alerts(follow(watch, [point(60, loss=2.0), point(41, loss=math.nan, ts=T0)], send))
    ] == ["nonfinite"]


def test_a_step_that_comes_twice_is_judged_once() -> None:
    once, twice = engine(), engine()
    points = [*healthy(60), point(60, loss=3.0)]
    assert alerts(follow(once, points)) == []
    told = follow(twice, [each for each in points for _ in range(3)])
    assert alerts(told) == []
    assert pack(once.snapshot()["streams"][0]["rules"]) == pack(twice.snapshot()["streams"][0]["rules"])


def test_an_evaluation_that_follows_its_step_in_a_point_of_its_own_is_judged() -> None:
    points = [each for i, v in enumerate((0.8, 0.8, 0.8, 0.5)) for each in (point(i, loss=1.0), point(i, val__f1=v))]
    assert [a.detector for a in alerts(follow(engine(), points))] == ["validation_drop"]


def test_a_clock_that_is_put_back_does_not_silence_anything() -> None:
    year = 365 * 86_400_000
    watch, send = engine(), Producer(TOPIC)
    spiky = [point(i, val__f1=v, ts=T0 + 1000 * i) for i, v in enumerate([0.8] * 5 + [0.5] + [0.5] * 12)]
    assert [a.status for a in alerts(follow(watch, spiky, send))] == ["firing", "resolved"]
    back = [point(18 + i, val__f1=v, ts=T0 - year + i) for i, v in enumerate([0.9] * 4 + [0.4])]
    told = follow(watch, back, send)
    assert [a.status for a in alerts(told)] == ["firing"]
    assert [c.command for c in commands(told)] == ["reduce_lr"]


def test_the_same_points_in_other_records_give_the_same_alerts() -> None:
    points = healthy(60, grad_norm=1.0) + [point(60 + i, loss=4.0, grad_norm=20.0 + i) for i in range(20)]
    told = []
    for size in (1, 7, 80):
        watch, send = engine(), Producer(TOPIC)
        effects: list[Effect] = []
        for first in range(0, len(points), size):
            stamped = [each | {"ts": T0 + each["step"]} for each in points[first : first + size]]
            effects += watch.step(record(send, *stamped))
        told.append([(a.detector, a.status, a.severity, a.step, a.first_step, a.statistic) for a in alerts(effects)])
    assert told[0] == told[1] == told[2]
    assert told[0]


# --- Silence ---


def test_telemetry_that_stops_is_told_once_and_ends_with_the_next_point() -> None:
    watch, send = engine({"silence_seconds": 60}), Producer(TOPIC)
    follow(watch, healthy(3), send)
    assert watch.tick(T0 + 62_000) is None
    (alert,) = alerts(watch.tick(T0 + 63_000) or [])
    assert (alert.detector, alert.kind, alert.step) == ("stalled_training", Kind.TRAINING, 2)
    assert alert.summary == "bert: no telemetry for 61 s (limit 60 s), the last step was 2"
    assert watch.tick(T0 + 99_000) is None
    assert [a.status for a in alerts(follow(watch, healthy(1, first=3), send))] == ["resolved"]


# --- The end ---


def end(send: Producer, **fields: Any) -> Envelope:
    return send.record(json.dumps({"run": "bert", "role": "end", **fields}).encode())


def test_a_run_that_said_that_it_is_over_is_never_silent_and_one_that_did_not_is() -> None:
    over, silent = (engine({"silence_seconds": 60}) for _ in range(2))
    send = Producer(TOPIC)
    for each in healthy(3):
        envelope = record(send, each)
        over.step(envelope), silent.step(envelope)
    over.step(end(send, step=2))
    assert over.tick(T0 + 10**9) is None
    assert [a.detector for a in alerts(silent.tick(T0 + 10**9) or [])] == ["stalled_training"]


def test_what_fires_when_a_run_ends_is_resolved_with_that_reason() -> None:
    watch, send = engine(), Producer(TOPIC)
    follow(watch, [*healthy(3), point(3, loss=math.nan)], send)
    told = watch.step(end(send, step=3, outcome="failed"))
    (alert,) = alerts(told)
    assert (alert.detector, alert.status, alert.step, alert.first_step) == ("nonfinite", "resolved", 3, 3)
    assert alert.summary == "bert: nonfinite ended: the run is over (failed at step 3)"
    assert [(e.what, e.detail) for e in told if isinstance(e, StreamChanged)] == [("ended", "failed")]


def test_nobody_waits_for_the_answers_of_a_run_that_is_over() -> None:
    watch, send = engine(policy=ENFORCED), Producer(TOPIC)
    assert commands(follow(watch, [*healthy(3), point(3, loss=math.nan)], send))
    watch.step(end(send))
    assert watch.tick(T0 + 10**9) is None


def test_telemetry_after_the_end_begins_the_run_again_with_its_rules_and_its_silence() -> None:
    watch, send = engine({"silence_seconds": 60}), Producer(TOPIC)
    follow(watch, healthy(60), send)
    watch.step(end(send))
    told = follow(watch, [point(60 + i, loss=3.0) for i in range(3)], send)
    assert [(a.detector, a.status) for a in alerts(told)] == [("loss_spike", "firing")]
    assert [a.detector for a in alerts(watch.tick(T0 + 10**9) or [])] == ["stalled_training"]


def test_a_run_that_ends_and_begins_again_is_not_rolled_back_more_often() -> None:
    rules = {"rollbacks_max": 1, "changes": {"loss_spike": {"actions": ["rollback"]}, "loss_rise": None}}
    watch, send, points = engine(rules), Producer(TOPIC), faults(2)
    assert len(commands(follow(watch, points[:45], send))) == 1
    watch.step(end(send, outcome="failed"))
    told = follow(watch, points[45:], send)
    assert [a.status for a in alerts(told)] == ["firing"]
    assert commands(told) == []


def test_the_end_of_a_run_that_nobody_knows_makes_none() -> None:
    watch = engine()
    (change,) = watch.step(end(Producer(TOPIC)))
    assert isinstance(change, StreamChanged)
    assert (change.what, change.detail, watch.streams) == ("ended", "nothing was known of it", 0)


def test_a_run_that_was_over_before_a_restart_is_over_after_it() -> None:
    watch, send = engine({"silence_seconds": 60}, ENFORCED), Producer(TOPIC)
    follow(watch, [*healthy(3), point(3, loss=math.nan)], send)
    watch.step(end(send))
    watch.begin_snapshot()
    watch.saved(10)
    watch.step(end(send))
    watch.begin_snapshot()
    assert [saved.name for saved in watch.saved(10)] == ["bert"]  # it changed, and is written again
    after = engine({"silence_seconds": 60}, ENFORCED)
    after.restore(unpack(pack(watch.snapshot())), Kept({}, {}))
    assert after.tick(T0 + 10**9) is None
    again = record(send, point(4, loss=2.0))
    assert [repr(e) for e in after.step(again)] == [repr(e) for e in watch.step(again)]
    assert pack(after.snapshot()) == pack(watch.snapshot())


# --- The closed loop ---


def test_commands_say_what_to_do_and_when_they_expire() -> None:
    rules = {"changes": {"loss_spike": {"actions": ["reduce_lr", "rollback", "skip_batches"], "back_steps": 20}}}
    told = follow(engine(rules, ENFORCED), healthy(60) + [point(60 + i, loss=3.0) for i in range(3)])
    assert [(c.command, c.args, c.mode) for c in commands(told)] == [
        ("reduce_lr", {"factor": 0.5, "min_lr": 1e-6}, "enforce"),
        ("rollback", {"step": 40}, "enforce"),
        ("skip_batches", {"count": 1}, "enforce"),
    ]
    assert all(c.expires_at_ms - c.issued_at_ms == 600_000 for c in commands(told))


def faults(times: int, gap: int = 40, seconds: int = 1000) -> list[dict[str, Any]]:
    """A run that jumps up for five steps, again and again, `gap` calm steps apart."""
    values: list[float] = []
    for i in range(times):
        values += noisy(gap, seed=i) + [4.0] * 5
    return [point(i, loss=v, ts=T0 - 10**9 + 1000 * seconds * i) for i, v in enumerate(values)]


def test_a_run_is_rolled_back_only_so_often() -> None:
    rules = {"rollbacks_max": 2, "changes": {"loss_spike": {"actions": ["rollback"]}, "loss_rise": None}}
    told = follow(engine(rules), faults(5))
    assert len([a for a in alerts(told) if a.status == "firing"]) == 5
    assert [c.command for c in commands(told)] == ["rollback", "rollback"]


def test_what_changes_the_run_is_asked_for_once_a_cooldown() -> None:
    rules = {"changes": {"loss_spike": {"actions": ["reduce_lr"], "severity": "critical"}, "loss_rise": None}}
    quick = follow(engine(rules), faults(3, seconds=1))
    assert len([a for a in alerts(quick) if a.status == "firing"]) == 3
    assert len(commands(quick)) == 1
    assert len(commands(follow(engine(rules), faults(3, seconds=1000)))) == 3


def test_a_command_without_an_answer_raises_an_alert_and_one_with_an_answer_none() -> None:
    watch, send = engine(policy=ENFORCED), Producer(TOPIC)
    checkpoint, pause = commands(follow(watch, [*healthy(3), point(3, loss=math.nan)], send))
    text = f'{{"run": "bert", "role": "ack", "ack": {{"command_id": "{pause.id}", "outcome": "done"}}}}'
    watch.step(send.record(text.encode()))
    overdue = alerts(watch.tick(T0 + 60_000) or [])
    assert [a.summary for a in overdue] == [
        f"bert: no acknowledgement of checkpoint (alert {checkpoint.alert_id}) in time"
    ]
    assert watch.tick(T0 + 120_000) is None


# --- Bounds, crashes, restarts ---


def test_beyond_the_limit_the_run_seen_longest_ago_is_forgotten() -> None:
    watch, send = engine(streams_max=2), Producer(TOPIC)
    told = follow(watch, [point(i, run=run, loss=1.0) for i, run in enumerate("abac")], send)
    assert [e.stream for e in told if isinstance(e, StreamChanged) and e.what == "evicted"] == ["b"]
    assert watch.streams == 2


def test_memory_of_a_run_stops_growing() -> None:
    watch, send = engine(), Producer(TOPIC)
    sizes = []
    for first in (0, 400, 800):
        follow(watch, healthy(400, first=first, grad_norm=1.0, val__loss=2.0), send)
        sizes.append(len(pack(watch.snapshot())) // 200)
    assert sizes[1] == pytest.approx(sizes[2], abs=2)
    assert 0 < watch.nbytes < 100_000


def test_a_rule_that_raises_is_named_and_its_record_can_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, send = engine(), Producer(TOPIC)
    follow(watch, healthy(2), send)
    monkeypatch.setattr(Nonfinite, "update", lambda *_: 1 // 0)
    bad = record(send, point(2, loss=1.0))
    with pytest.raises(DetectorCrashError, match="nonfinite of bert") as caught:
        watch.step(bad)
    after = engine()
    after.restore(unpack(pack(watch.snapshot())), Kept({}, {}))
    told = after.skip(bad, caught.value)
    assert [type(effect) for effect in told if isinstance(effect, DeadLetter | Alert)] == [DeadLetter, Alert]


def incidents() -> list[Envelope]:
    """Records of two runs with a spike, a NaN, a resume, an evaluation, twice sent and late points."""
    send = Producer(TOPIC)
    other = noisy(200, seed=5)
    points = healthy(40, grad_norm=1.0) + [point(40 + i, loss=5.0, grad_norm=30.0) for i in range(8)]
    points += [point(30 + i, loss=v, grad_norm=1.0, val__f1=0.8 - 0.3 * (i > 8)) for i, v in enumerate(noisy(12))]
    points += [point(41, loss=9.0), point(20, loss=1.0, ts=T0), point(42, loss=math.inf), point(43, loss=2.0)]
    records = [record(send, each, point(i, run="other", loss=other[i])) for i, each in enumerate(points)]
    records += [end(send, step=43), record(send, point(44, loss=math.nan)), end(send, outcome="failed")]
    return records


@pytest.mark.parametrize("preset", ["streamd", "palm", "sagemaker-debugger", "olmo"])
def test_a_restart_after_any_record_changes_nothing(preset: str) -> None:
    records = incidents()
    whole = engine({"preset": preset}, ENFORCED)
    expected = [[repr(e) for e in whole.step(envelope) if not isinstance(e, RunJudged)] for envelope in records]
    assert "Alert" in repr(expected) or preset == "olmo"
    final = pack(whole.snapshot())
    before = engine({"preset": preset}, ENFORCED)
    for cut, envelope in enumerate(records, 1):
        before.step(envelope)
        if cut % 3:  # each third is as good as each
            continue
        after = engine({"preset": preset}, ENFORCED)
        after.restore(unpack(pack(before.snapshot())), Kept({}, {}))
        rest = [[repr(e) for e in after.step(each) if not isinstance(e, RunJudged)] for each in records[cut:]]
        assert rest == expected[cut:]
        assert pack(after.snapshot()) == final


def test_a_rule_whose_configuration_changed_starts_anew_and_the_others_go_on() -> None:
    watch, send = engine(), Producer(TOPIC)
    follow(watch, healthy(60), send)
    changed = engine({"changes": {"loss_spike": {"departures": 8.0}}})
    changed.restore(unpack(pack(watch.snapshot())), Kept({}, {}))
    old, new = (e.snapshot()["streams"][0]["rules"] for e in (watch, changed))
    assert new["loss_spike"]["state"] == {"tracks": []}
    assert new["loss_rise"] == old["loss_rise"]


def test_a_restart_does_not_forget_how_often_a_run_was_rolled_back() -> None:
    rules = {"rollbacks_max": 1, "changes": {"loss_spike": {"actions": ["rollback"]}, "loss_rise": None}}
    watch, send, points = engine(rules), Producer(TOPIC), faults(2)
    assert len(commands(follow(watch, points[:45], send))) == 1
    after = engine(rules)
    after.restore(unpack(pack(watch.snapshot())), Kept({}, {}))
    told = follow(after, points[45:], send)
    assert [a.status for a in alerts(told)] == ["resolved", "firing"]
    assert commands(told) == []


def test_an_alert_about_a_run_carries_its_steps_over_the_wire() -> None:
    told = follow(engine(), healthy(60) + [point(60 + i, loss=3.0) for i in range(3)])
    (sent,) = outgoing(told, TopicSettings(), "group")
    assert sent.value is not None
    value = json.loads(sent.value)
    assert (value["kind"], value["step"], value["first_step"]) == ("training", 62, 60)
