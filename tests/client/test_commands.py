"""Commands to a training: which are obeyed, what they do, and that each is answered."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from torch import nn
from training import WAIT_SECONDS, Commander, Inbox, command, watched

from streamd.client import Refused, TrainingMonitor
from streamd.client.commands import NAMES, Gate, read_command
from streamd.client.training.checkpoints import Checkpoints
from streamd.client.training.learning_rate import scale
from streamd.model import Command


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def commander() -> Commander:
    return Commander()


class Job:
    """A small training with everything in it."""

    def __init__(self, folder: Path, inbox: Inbox, commander: Commander, **arguments: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 100)
        self.monitor: TrainingMonitor = watched(
            inbox,
            commander,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            checkpoints=folder,
            **{"allow": NAMES, **arguments},
        )

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.model(torch.randn(16, 4)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.monitor.step(loss=loss)
        return loss.item()

    def weights(self) -> list[float]:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).tolist()


# --- Which are obeyed -------------------------------------------------------------------------------


def test_without_opting_in_a_command_is_refused_and_with_it_another_is(inbox: Inbox, commander: Commander) -> None:
    with watched(inbox, commander, allow={"pause"}) as monitor:
        commander.send(command("stop"), command("explode"))
        monitor.step()
        assert not monitor.should_stop
    assert inbox.answers == [("stop", "refused"), ("explode", "refused")]
    assert "not allowed here; allowed: pause" in inbox.acks[0].detail
    assert "'explode' is unknown" in inbox.acks[1].detail


def test_a_shadow_command_is_logged_and_neither_obeyed_nor_answered(
    inbox: Inbox, commander: Commander, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(inbox, commander, allow=NAMES) as monitor:
        commander.send(command("stop", mode="shadow"))
        monitor.step()
        assert not monitor.should_stop
    assert inbox.acks == []
    assert "r: stop (shadow, not obeyed): because" in caplog.text


def test_an_expired_command_is_answered_and_not_obeyed(inbox: Inbox, commander: Commander) -> None:
    with watched(inbox, commander, allow=NAMES) as monitor:
        commander.send(command("stop", seconds=-1))
        monitor.step()
        assert not monitor.should_stop
    assert inbox.answers == [("stop", "expired")]


def test_a_command_is_obeyed_once_and_answered_each_time_it_comes(inbox: Inbox, commander: Commander) -> None:
    obeyed: list[str] = []
    with watched(inbox, commander, allow={"mine"}, handlers={"mine": lambda c: obeyed.append(c.id)}) as monitor:
        commander.send(command("mine", id="1"), command("mine", id="1"))
        monitor.step()
        commander.send(command("mine", id="1"))
        monitor.step()
    assert obeyed == ["1"]
    assert set(inbox.answers) == {("1", "done")}


def test_commands_to_others_and_records_that_are_none_are_passed_over(inbox: Inbox, commander: Commander) -> None:
    with watched(inbox, commander, allow=NAMES) as monitor:
        of_a_stream = orjson.loads(command("stop")) | {"target": {"stream": "r"}}
        commander.send(command("stop", run="other"), orjson.dumps(of_a_stream), b"{", b"[]", b"null", b'{"target": 1}')
        monitor.step()
        assert not monitor.should_stop
    assert inbox.acks == []


def test_a_command_without_a_plain_enforce_is_shadow() -> None:
    for mode in ("shadow", "Enforce", None, True):
        found = read_command(command("stop", mode=mode))
        assert found is not None
        assert found.mode == "shadow"


def test_answers_are_remembered_for_a_bounded_number_of_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.client.commands._REMEMBERED", 10)
    gate = Gate(lambda _: True, {"stop"}, lambda *_: None)
    for i in range(100):
        assert gate.admit(Command(str(i), "stop", "run", "r", {}, "enforce", "", "", 0, 10), 5)
    assert len(gate._answers) == 10


def test_a_handler_that_raises_is_answered_failed_and_the_training_goes_on(inbox: Inbox, commander: Commander) -> None:
    def refuse(_: Command) -> str:
        raise Refused("not today")

    with watched(inbox, commander, allow=NAMES, handlers={"checkpoint": refuse, "stop": lambda _: 1 // 0}) as monitor:
        commander.send(command("checkpoint"), command("stop"))
        monitor.step()
    assert inbox.answers == [("checkpoint", "refused"), ("stop", "failed")]
    assert inbox.acks[0].detail == "step 1: not today"
    assert "ZeroDivisionError" in inbox.acks[1].detail


def test_a_job_may_take_its_commands_itself(inbox: Inbox, commander: Commander) -> None:
    with watched(inbox, commander, allow={"stop"}, automatic=False) as monitor:
        commander.send(command("stop"))
        monitor.step()
        assert not monitor.should_stop
        (taken,) = monitor.commands()
        assert taken.command == "stop"
        monitor.obey(taken)
        assert monitor.should_stop
    assert inbox.answers == [("stop", "done")]


# --- What they do -----------------------------------------------------------------------------------


def test_a_pause_waits_until_resume_and_obeys_what_comes_between(inbox: Inbox, commander: Commander) -> None:
    with watched(inbox, commander, allow=NAMES) as monitor:
        commander.send(command("pause"))
        going = threading.Thread(target=monitor.step)
        going.start()
        commander.send(command("skip_batches", args={"count": 2}))
        assert going.is_alive()
        commander.send(command("resume"))
        going.join(WAIT_SECONDS)
        assert not going.is_alive()
    assert inbox.answers == [("pause", "done"), ("skip_batches", "refused"), ("resume", "done")]


def test_a_pause_ends_when_it_expires(inbox: Inbox, commander: Commander, caplog: pytest.LogCaptureFixture) -> None:
    with watched(inbox, commander, allow=NAMES) as monitor:
        commander.send(command("pause", seconds=0.3))
        monitor.step()
        monitor.step()
    assert inbox.answers == [("pause", "done")]
    assert "the pause has expired" in caplog.text
    assert inbox.points[1].metrics["step_seconds"] < 0.2  # the pause is no part of a step


def test_skipped_batches_are_passed_over_and_stop_ends_the_loop(inbox: Inbox, commander: Commander) -> None:
    seen = []
    with watched(inbox, commander, allow=NAMES) as monitor:
        for batch in monitor.batches(range(100)):
            seen.append(batch)
            if batch == 1:
                commander.send(command("skip_batches", args={"count": 3}))
            if batch == 6:
                commander.send(command("stop"))
            monitor.step()
    assert seen == [0, 1, 5, 6]
    assert inbox.answers == [("skip_batches", "done"), ("stop", "done")]


def test_rollback_goes_back_to_the_last_checkpoint_before_the_change_with_everything(
    tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander, checkpoint_every=2)
    with job.monitor:
        for _ in range(4):
            job.step()
        weights, draws = job.weights(), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
        expected = [job.step() for _ in range(3)]
        torch.randn(7), random.random(), np.random.rand()
        with torch.no_grad():
            job.model[0].weight.fill_(1e6)
        commander.send(command("rollback", args={"step": 5}))
        job.step()
        assert job.monitor.step_number == 4
        assert job.weights() == weights
        assert torch.equal(torch.get_rng_state(), draws[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == draws[1:]
        # Dropout, data and Adam's moments: the same three steps again, bit for bit.
        assert [job.step() for _ in range(3)] == expected
    assert inbox.answers == [("rollback", "done")]
    assert [point.step for point in inbox.points] == [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7]


def test_the_answers_after_a_rollback_speak_of_the_step_that_the_run_is_back_at(
    tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander, checkpoint_every=2)
    with job.monitor:
        for _ in range(4):
            job.step()
        commander.send(command("pause"), command("rollback"), command("resume"))
        job.step()
    assert [ack.detail.partition(":")[0] for ack in inbox.acks] == ["step 5", "step 4", "step 4"]
    assert inbox.acks[1].detail.startswith("step 4: back from step 5, by ")


def test_rollback_without_a_checkpoint_before_the_step_is_refused_and_changes_nothing(
    tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander, checkpoint_every=3)
    with job.monitor:
        for _ in range(3):
            job.step()
        commander.send(command("rollback", args={"step": 2}))
        job.step()
        assert job.monitor.step_number == 4
    assert inbox.answers == [("rollback", "refused")]
    assert "at or before step 2" in inbox.acks[0].detail


def test_weights_that_are_not_finite_are_kept_to_look_at_and_never_gone_back_to(
    tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander, checkpoint_every=1, keep_checkpoints=2)
    with job.monitor:
        job.step()
        job.step()
        weights = job.weights()
        for _ in range(3):
            with torch.no_grad():
                job.model[2].bias.fill_(float("nan"))
            job.step()
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["step-000000000001.pt", "step-000000000002.pt", "step-000000000005-nonfinite.pt"]
        commander.send(command("checkpoint"), command("rollback"))
        job.step()
        assert job.weights() == weights
    assert "whose weights are not finite" in inbox.acks[0].detail


def test_the_last_checkpoints_are_kept_and_those_of_an_abandoned_future_go_first(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, keep=3)
    parts = {"model": nn.Linear(2, 2)}
    for step in (10, 20, 30, 40):
        folder.save(step, parts, {})
    assert [saved.step for saved in folder.saved()] == [20, 30, 40]
    folder.save(25, parts, {})
    assert [saved.step for saved in folder.saved()] == [20, 25, 40]


def test_a_checkpoint_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Checkpoints(tmp_path)
    folder.save(1, {"model": nn.Linear(2, 2)}, {})
    content = (tmp_path / "step-000000000001.pt").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.save(1, {"model": nn.Linear(2, 2)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000001.pt"]
    assert (tmp_path / "step-000000000001.pt").read_bytes() == content


def test_a_checkpoint_with_code_in_it_is_not_loaded(tmp_path: Path, inbox: Inbox, commander: Commander) -> None:
    job = Job(tmp_path, inbox, commander)
    torch.save({"version": 1, "step": 1, "parts": {}, "random": [Bomb()]}, tmp_path / "step-000000000001.pt")
    with job.monitor:
        commander.send(command("rollback"))
        job.step()
    assert inbox.answers == [("rollback", "refused")]
    assert not Bomb.exploded


class Bomb:
    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "exploded", True)


def test_the_rate_of_every_group_is_reduced_not_under_the_floor(
    tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander)
    job.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 1e-3})
    job.scheduler.base_lrs.append(1e-3)
    with job.monitor:
        commander.send(command("reduce_lr", args={"factor": 0.5, "min_lr": 1e-3}))
        job.step()
        assert [group["lr"] for group in job.optimizer.param_groups] == [0.05, 1e-3]
        for i in range(100):  # the schedule's own step goes on from there
            job.scheduler.step()
            assert job.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 if i < 98 else 0.005)
    assert inbox.acks[0].detail == "step 1: 0.1 → 0.05; 0.001 → 0.001"


@pytest.mark.parametrize("args", [{"factor": 2}, {"factor": 0}, {"factor": "x"}, {"min_lr": -1}, {"factor": True}])
def test_a_reduction_that_is_none_is_refused(
    args: dict[str, Any], tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander)
    with job.monitor:
        commander.send(command("reduce_lr", args=args))
        job.step()
    assert inbox.answers == [("reduce_lr", "refused")]
    assert job.optimizer.param_groups[0]["lr"] == 0.1


KINDS = torch.optim.lr_scheduler
SCHEDULES: list[Callable[[torch.optim.Optimizer], Any]] = [
    lambda optimizer: KINDS.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    lambda optimizer: KINDS.CosineAnnealingLR(optimizer, 50),
    lambda optimizer: KINDS.OneCycleLR(optimizer, 0.4, total_steps=50),
    lambda optimizer: KINDS.SequentialLR(
        optimizer, [KINDS.ConstantLR(optimizer, 0.5, 5), KINDS.ExponentialLR(optimizer, 0.9)], [5]
    ),
]


@pytest.mark.parametrize("make", SCHEDULES)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step", "ignore:The epoch parameter")
def test_a_schedule_goes_on_from_the_reduced_rate(make: Callable[[torch.optim.Optimizer], Any]) -> None:
    plain, reduced = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1) for _ in range(2))
    plain_schedule, reduced_schedule = make(plain), make(reduced)
    for step in range(40):
        plain_schedule.step()
        reduced_schedule.step()
        if step == 10:
            assert scale(reduced, [reduced_schedule], [0.5]) == [0.5]
        expected = plain.param_groups[0]["lr"] * (0.5 if step >= 10 else 1.0)
        assert reduced.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6)


def test_a_plateau_schedule_keeps_its_floor_and_begins_to_count_anew() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2, min_lr=0.08)
    for _ in range(3):
        schedule.step(1.0)
    assert schedule.num_bad_epochs == 2
    scale(optimizer, [schedule], [0.5])
    assert optimizer.param_groups[0]["lr"] == 0.08
    schedule.step(1.0)  # without a fresh count this would be the third bad epoch
    assert (schedule.num_bad_epochs, optimizer.param_groups[0]["lr"]) == (1, 0.08)


def test_a_reduction_that_came_after_the_checkpoint_holds_after_the_rollback(
    tmp_path: Path, inbox: Inbox, commander: Commander
) -> None:
    job = Job(tmp_path, inbox, commander)
    with job.monitor:
        commander.send(command("checkpoint"))
        job.step()
        job.optimizer.param_groups[0]["lr"] = 50.0  # the accident
        commander.send(command("reduce_lr", args={"factor": 0.5}), command("rollback", args={"step": 1}))
        job.step()
        assert job.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
        commander.send(command("rollback", id="again"))
        job.step()
        assert job.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert [outcome for _, outcome in inbox.answers] == ["done"] * 4


def test_what_the_job_did_not_give_is_said_in_the_refusal(inbox: Inbox, commander: Commander) -> None:
    with watched(inbox, commander, allow=NAMES) as monitor:
        commander.send(command("checkpoint"), command("reduce_lr"), command("skip_batches", args={"count": 1}))
        monitor.step()
    with watched(inbox, commander, allow=NAMES, model=nn.Linear(1, 1)) as monitor:
        commander.send(command("checkpoint", id="2"))
        monitor.step()
    assert {outcome for _, outcome in inbox.answers} == {"refused"}
    details = [ack.detail for ack in inbox.acks]
    assert "monitor.batches(loader)" in details[2]
    assert "checkpoints='folder'" in details[3]


def test_a_broken_reader_is_replaced_and_no_command_is_lost(
    inbox: Inbox, commander: Commander, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamd.client.listener._FIRST_REST_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "streamd.client")
    attempts = iter([PermissionError("no"), PermissionError("no")])

    def connect() -> Commander:
        for error in attempts:
            raise error
        return commander

    with TrainingMonitor("r", connect=lambda: inbox, connect_commands=connect, allow=NAMES) as monitor:
        commander.send(command("stop"))
        monitor.step()
        assert monitor.should_stop
    told = [r.getMessage() for r in caplog.records if "Kafka" in r.getMessage()]
    assert [text.partition(" from ")[0] for text in told] == ["no commands", "commands are read"]
