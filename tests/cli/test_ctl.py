"""`streamd ctl`: a person's commands reach the run, and its answer is shown."""

from __future__ import annotations

import getpass
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema.validators import validator_for
from kafka import KafkaConsumer, TopicPartition
from training import WAIT_SECONDS, Commander, Inbox, watched
from training import command as a_command

import streamd
from streamd.cli import verbs
from streamd.cli.exit_codes import ExitCode
from streamd.client import TrainingMonitor
from streamd.client.commands import NAMES, read_command
from streamd.transport.embedded import EmbeddedBroker


class Running:
    """A run that steps in the background until it is stopped."""

    def __init__(self, servers: str) -> None:
        self.name = f"run/{uuid.uuid4().hex[:8]}"
        self.monitor = TrainingMonitor(self.name, bootstrap_servers=servers, allow={"stop", "reduce_lr"})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self.monitor.step(loss=1.0)

    def __enter__(self) -> Running:
        self.monitor.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.monitor.close()


@pytest.fixture
def running(embedded_broker: EmbeddedBroker) -> Iterator[Running]:
    with Running(embedded_broker.bootstrap_servers) as running:
        yield running


def on_the_topic(servers: str, run: str) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
    consumer.assign([TopicPartition("streamd.control", n) for n in consumer.partitions_for_topic("streamd.control")])
    found: list[Any] = []
    for _ in range(int(WAIT_SECONDS)):
        for batch in consumer.poll(timeout_ms=1000).values():
            found += [record for record in batch if record.key == run.encode()]
        if found:
            break
    consumer.close()
    return found


@pytest.mark.broker
@pytest.mark.slow
def test_what_the_run_answers_is_shown_and_is_the_exit_code(
    embedded_broker: EmbeddedBroker, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", running.name, "--bootstrap-servers", embedded_broker.bootstrap_servers]
    assert verbs.run(["ctl", "stop", *arguments, "--reason", "enough"]) == ExitCode.OK
    assert f"{running.name}: stop done: step " in capsys.readouterr().out
    assert running.monitor.should_stop
    assert verbs.run(["ctl", "pause", *arguments]) == ExitCode.DATA
    assert "pause refused: step " in capsys.readouterr().err
    assert verbs.run(["ctl", "reduce-lr", *arguments]) == ExitCode.DATA
    assert "nothing here knows how to reduce_lr" in capsys.readouterr().err


@pytest.mark.broker
@pytest.mark.slow
def test_the_command_is_the_contracts_with_its_author(
    embedded_broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"run/{uuid.uuid4().hex[:8]}"
    servers = embedded_broker.bootstrap_servers
    arguments = ["--run", run, "--bootstrap-servers", servers, "--step", "120", "--mode", "shadow"]
    assert verbs.run(["ctl", "rollback", *arguments]) == ExitCode.OK
    assert capsys.readouterr().out == f"{run}: rollback sent (shadow)\n"
    (record,) = on_the_topic(servers, run)
    value = json.loads(record.value)
    schema = json.loads((Path(streamd.__file__).parent / "schemas/command.json").read_text())
    validator_for(schema)(schema, format_checker=validator_for(schema).FORMAT_CHECKER).validate(value)
    assert (value["author"], value["args"], value["target"]) == (getpass.getuser(), {"step": 120}, {"run": run})
    assert dict(record.headers)["ce_type"] == b"io.streamd.command.v1"
    command = read_command(record.value)
    assert command is not None
    assert (command.mode, command.expires_at_ms - command.issued_at_ms) == ("shadow", 600_000)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "command", "args"),
    [
        (["checkpoint"], "checkpoint", {}),
        (["pause"], "pause", {}),
        (["resume"], "resume", {}),
        (["reduce-lr"], "reduce_lr", {"factor": 0.5, "min_lr": 0.0}),
        (["reduce-lr", "--factor", "0.1", "--min-lr", "1e-6"], "reduce_lr", {"factor": 0.1, "min_lr": 1e-6}),
        (["rollback"], "rollback", {"to": "previous"}),
        (["rollback", "--step", "0"], "rollback", {"step": 0}),
        (["skip-batches", "--count", "200"], "skip_batches", {"count": 200}),
        (["stop"], "stop", {}),
    ],
)
def test_every_command_is_on_the_topic_with_its_author_and_the_job_does_it(
    embedded_broker: EmbeddedBroker, tmp_path: Path, arguments: list[str], command: str, args: dict[str, Any]
) -> None:
    name, servers = f"run/{uuid.uuid4().hex[:8]}", embedded_broker.bootstrap_servers
    own = ["--run", name, "--author", "Ada", "--wait", "0", "--bootstrap-servers", servers]
    assert verbs.run(["ctl", *arguments, *own]) == ExitCode.OK
    (record,) = on_the_topic(servers, name)
    value = json.loads(record.value)
    assert (value["command"], value["args"], value["author"]) == (command, args, "Ada")
    inbox, commander = Inbox(), Commander()
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.0)
    job = {"optimizer": optimizer, "checkpoints": tmp_path, "allow": NAMES, "first_step": 0}
    with watched(inbox, commander, name, **job) as monitor:
        for batch in monitor.batches(range(2)):
            if batch == 0:
                commander.send(a_command("checkpoint", name))  # something to go back to
            else:
                commander.send(record.value, a_command("resume", name))
            monitor.step(loss=1.0)
    assert (value["id"], "done") in inbox.answers


@pytest.mark.broker
@pytest.mark.slow
def test_a_run_that_does_not_answer_ends_it_with_69(
    embedded_broker: EmbeddedBroker, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", "nobody", "--wait", "0.5", "--bootstrap-servers", embedded_broker.bootstrap_servers]
    assert verbs.run(["ctl", "stop", *arguments]) == ExitCode.UNAVAILABLE
    assert "nobody: stop was sent, and nobody answered within 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explode", "--run", "r"], "explode"),
        (["stop"], "--run"),
        (["stop", "--run", "\n"], "printable"),
        (["stop", "--run", "r", "--factor", "0.5"], "--factor says nothing to stop"),
        (["reduce-lr", "--run", "r", "--factor", "2"], "between 0 and 1"),
        (["reduce-lr", "--run", "r", "--factor", "0"], "between 0 and 1"),
        (["skip-batches", "--run", "r"], "--count"),
        (["pause", "--run", "r", "--expires", "soon"], "90s"),
        (["pause", "--run", "r", "--column", "a"], "--column says nothing to pause"),
        (["pause", "r"], "--run r"),
        (["accept"], "STREAM is missing"),
        (["accept", "\n"], "printable"),
        (["accept", "s", "--run", "r"], "--run says nothing to accept"),
        (["accept", "s", "--mode", "shadow"], "--mode says nothing to accept"),
        (["undo", "s", "--column", "a"], "--column says nothing to undo"),
        (["undo", "s", "--reason", "oops"], "--reason says nothing to undo"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verbs.run(["ctl", *arguments]) == ExitCode.USAGE
    assert words in " ".join(capsys.readouterr().err.split())
