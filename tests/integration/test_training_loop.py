"""Trainings that go wrong and are brought back over a broker: the broker, the daemon and the job are processes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import digits_job
import pytest
from brokers import RealKafka, free_port
from daemons import Daemon
from training import Commander, Inbox

from streamd.cli import verbs
from streamd.cli.exit_codes import ExitCode
from streamd.client.commands import read_command
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.demo.digits import Digits
from streamd.model import Acknowledgement, Envelope, Telemetry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STEPS = 300
CLOSED_LOOP = ["checkpoint", "pause", "rollback", "skip_batches", "resume"]
SLOW_SECONDS = 0.4  # a step in which a command certainly comes over a busy machine's broker


@pytest.fixture(scope="module")
def daemon(kafka_broker: RealKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """In force, with the default rules; only what is done about a NaN is left to the daemon alone."""
    daemon = Daemon(
        kafka_broker.bootstrap_servers,
        tmp_path_factory.mktemp("loop"),
        STREAMD_POLICY__MODE="enforce",
        STREAMD_RULES__CHANGES__NONFINITE__ACTIONS=json.dumps(CLOSED_LOOP),
        STREAMD_RULES__CHANGES__NONFINITE__BACK_STEPS="5",
    )
    daemon.start()
    daemon.wait_until_ready()
    yield daemon
    assert daemon.stop() == 0
    daemon.close()


@pytest.fixture
def start_job(daemon: Daemon, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    jobs: list[subprocess.Popen[str]] = []

    def start(run: str, *options: object) -> subprocess.Popen[str]:
        arguments = ["--run", run, "--checkpoints", tmp_path / run.replace("/", "-"), *options]
        arguments += ["--topic", daemon.topics["telemetry"], "--control-topic", daemon.topics["control"]]
        jobs.append(
            subprocess.Popen(
                [sys.executable, digits_job.__file__, *map(str, arguments)],
                env={**os.environ, "STREAMD_KAFKA__BOOTSTRAP_SERVERS": daemon.bootstrap_servers},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def result(job: subprocess.Popen[str]) -> dict[str, Any]:
    """What the job printed when it had ended well."""
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    return dict(json.loads(output))


class Said(NamedTuple):
    """What went over the topics about one run."""

    answers: list[tuple[str, int, str]]  # command, step at the answer, outcome
    authors: list[str | None]  # of the commands
    alerts: list[dict[str, Any]]  # that fired
    steps: list[int]


def said(daemon: Daemon, run: str) -> Said:
    telemetry = daemon.read("telemetry", 0.5)  # first: what is answered here was commanded before
    commands = [read_command(record.value) for record in daemon.read("control", 0.5)]
    ours = [command for command in commands if command is not None and command.target == run]
    names = {command.id: command.command for command in ours}
    answers: list[tuple[str, int, str]] = []
    steps: list[int] = []
    for r in telemetry:
        envelope = Envelope(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
        match decode(envelope, Limits(), "telemetry"):
            case Acknowledgement(stream=name) as ack if name == run:
                answers.append((names[ack.command_id], int(ack.detail.split()[1].rstrip(":")), ack.outcome))
            case Telemetry(points=points):
                steps += [point.step for point in points if point.run == run and "loss" in point.metrics]
    alerts = [json.loads(record.value) for record in daemon.read("alerts", 0.5)]
    firing = [alert for alert in alerts if alert["stream"] == run and alert["status"] == "firing"]
    return Said(answers, [command.author for command in ours], firing, steps)


@pytest.mark.kafka
def test_a_run_whose_learning_rate_jumps_is_paused_at_the_next_step_and_a_person_brings_it_back(
    daemon: Daemon, start_job: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = start_job("undisturbed")
    job = start_job("jumps", "--jump-at", 171, "--slow", 172, 185, SLOW_SECONDS)
    so_far = said(daemon, "jumps")
    deadline = time.monotonic() + 120
    while len(so_far.answers) < 2:
        assert time.monotonic() < deadline, daemon.tail()
        so_far = said(daemon, "jumps")
    (cause,) = [alert for alert in so_far.alerts if alert["severity"] == "critical"]
    for name, value in daemon.environment.items():
        if name.startswith("STREAMD_"):
            monkeypatch.setenv(name, value)
    for words in (["reduce-lr"], ["rollback", "--step", str(cause["first_step"] - 1)], ["resume"]):
        assert verbs.run(["ctl", *words, "--run", "jumps", "--author", "ada"]) == ExitCode.OK
    recovered, calm = result(job), result(undisturbed)

    found = said(daemon, "jumps")
    next_step = cause["step"] + 1
    assert found.answers == [
        ("checkpoint", next_step, "done"),
        ("pause", next_step, "done"),
        ("reduce_lr", next_step, "done"),
        ("rollback", 160, "done"),
        ("resume", 160, "done"),
    ]
    assert found.authors == [None, None, "ada", "ada", "ada"]
    assert found.steps == [*range(1, next_step + 1), *range(161, STEPS + 1)]
    assert (cause["detector"], cause["first_step"] > 171) == ("loss_rise", True)
    assert recovered["accuracy"] >= calm["accuracy"] - 0.01
    assert said(daemon, "undisturbed").alerts == []


@pytest.mark.kafka
def test_a_run_with_a_planted_nan_is_brought_back_by_the_daemon_alone(
    daemon: Daemon, start_job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    finished = result(start_job("nan", "--nan-at", 110, "--slow", 110, 113, SLOW_SECONDS))
    found = said(daemon, "nan")
    assert [(a["detector"], a["severity"], a["step"]) for a in found.alerts] == [("nonfinite", "critical", 110)]
    assert found.answers == [
        ("checkpoint", 111, "done"),
        ("pause", 111, "done"),
        *((name, 100, "done") for name in CLOSED_LOOP[2:]),
    ]
    assert found.steps == [*range(1, 112), *range(101, STEPS + 1)]
    assert (tmp_path / "nan/step-000000000111-nonfinite.pt").exists()
    assert finished["accuracy"] > 0.95


@pytest.mark.kafka
def test_two_ranks_obey_the_same_commands_at_the_same_step(
    daemon: Daemon, start_job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The NaN is the second rank's, and reaches the first by the average of the gradients."""
    options = ["--steps", 100, "--nan-at", 50, "--slow", 50, 54, SLOW_SECONDS, "--store", tmp_path / "store"]
    first, second = (result(job) for job in [start_job("ranks", "--rank", rank, *options) for rank in range(2)])
    assert first["seen"] == second["seen"]  # step, rate and weights, after every step
    found = said(daemon, "ranks")
    assert [name for name, _, _ in found.answers] == CLOSED_LOOP
    assert {outcome for _, _, outcome in found.answers} == {"done"}
    assert [(before, after) for before, after, *_ in first["seen"] if before != after] == [(52, 40)]
    assert found.steps == [*range(1, 53), *range(41, 101)]


def test_a_training_without_a_broker_makes_the_same_steps_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def trained(folder: str, **reach: Any) -> tuple[list[tuple[int, float]], float]:
        digits = Digits(steps=100)
        seconds = 0.0
        losses: list[tuple[int, float]] = []
        with digits.monitor("r", str(tmp_path / folder), **reach) as monitor:
            step = monitor.step

            def timed(**metrics: Any) -> None:
                nonlocal seconds
                began = time.perf_counter()
                step(**metrics)
                seconds += time.perf_counter() - began
                losses.append((monitor.step_number, float(metrics["loss"].detach())))

            monitor.step = timed  # type: ignore[method-assign,assignment]
            digits.train(monitor, lambda _: None, lambda _: None)
        return losses, seconds

    live, with_broker = trained("live", connect=Inbox, connect_commands=Commander)
    with caplog.at_level(logging.INFO, "streamd.client"):
        dead, without = trained("dead", bootstrap_servers=f"127.0.0.1:{free_port()}")
    assert dead == live
    assert without < 3 * with_broker + 1.0  # one attempt to connect that was waited for takes longer
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["cannot send to Kafka" in record.getMessage() for record in warnings] == [True]
