"""A model server's side of `rollback`: a function of yours, or an alias in a real MLflow registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import orjson
import pytest
from training import WAIT_SECONDS, Commander, Inbox, command

from streamd.client.commands import Refused
from streamd.client.rollback import RollbackHandler
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.model import Acknowledgement, Command, Envelope


def rollback(stream: str, id: str = "1", **fields: Any) -> bytes:
    value = orjson.loads(command("rollback", id=id, args={"to": "previous"}, **fields))
    return orjson.dumps(value | {"target": {"stream": stream}})


def answers(roll_back: Callable[[Command], str | None], *commands: bytes) -> list[tuple[str, str, str, str]]:
    """Key, id, outcome and detail of the answers to some commands, as the daemon reads them."""
    inbox, commander = Inbox(), Commander()
    with RollbackHandler("fraud/*", roll_back, connect=lambda: inbox, connect_commands=lambda: commander) as handler:
        commander.send(*commands)
        while handler._listener._queue.qsize():
            handler._stop.wait(0.01)
        handler._stop.set()
        handler._thread.join(WAIT_SECONDS)
    found = []
    for i, m in enumerate(inbox.messages):
        ack = decode(
            Envelope("streamd.features", 0, i, m.timestamp_ms, m.key, m.value, m.headers), Limits(), "features"
        )
        assert isinstance(ack, Acknowledgement)
        assert ack.stream == m.key.decode()
        found.append((ack.stream, ack.command_id, ack.outcome, ack.detail))
    return found


def test_a_function_is_called_for_commands_to_matching_streams_alone_and_the_answer_is_the_streams() -> None:
    called: list[str] = []

    def roll_back(command: Command) -> str:
        called.append(command.target)
        return "done it"

    values = [rollback("fraud/7"), rollback("other/7", "2"), command("rollback", run="fraud/7", id="3")]
    assert answers(roll_back, *values) == [("fraud/7", "1", "done", "done it")]
    assert called == ["fraud/7"]


def test_shadow_expired_and_other_commands_do_not_reach_the_function() -> None:
    stop = orjson.dumps(orjson.loads(rollback("fraud/7", "3")) | {"command": "stop"})
    values = [rollback("fraud/7", mode="shadow"), rollback("fraud/7", "2", seconds=-1), stop]
    found = answers(lambda _: pytest.fail("called"), *values)
    assert [(id, outcome) for _, id, outcome, _ in found] == [("2", "expired"), ("3", "refused")]


def test_a_function_that_refuses_or_fails_is_answered_so() -> None:
    def roll_back(command: Command) -> str:
        if command.id == "1":
            raise Refused("nothing to go back to")
        raise OSError("registry away")

    found = answers(roll_back, rollback("fraud/7"), rollback("fraud/7", "2"))
    assert [entry[2:] for entry in found] == [
        ("refused", "nothing to go back to"),
        ("failed", "OSError: registry away"),
    ]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    needs.package("mlflow", "pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # else mlflow wants a database
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=str(tmp_path), registry_uri=str(tmp_path))
    client.create_registered_model("fraud")
    for _ in range(4):
        client.create_model_version("fraud", source=str(tmp_path / "model"))
    client.set_registered_model_alias("fraud", "champion", "4")
    client.delete_model_version("fraud", "3")
    return client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_alias_moves_to_the_version_before_and_a_late_command_moves_nothing(client: Any) -> None:
    from streamd.client.mlflow import AliasMover

    mover = AliasMover("fraud", "champion", client)
    found = answers(
        mover, rollback("fraud/4"), rollback("fraud/4", "2"), rollback("fraud/2", "3"), rollback("fraud/1", "4")
    )
    assert [outcome for _, _, outcome, _ in found] == ["done", "refused", "done", "refused"]
    assert found[0][3] == "champion of fraud: version 4 → 2"  # 3 was deleted
    assert int(client.get_model_version_by_alias("fraud", "champion").version) == 1
    assert [entry[2:] for entry in answers(mover, rollback("fraud/1"))] == [
        ("refused", "fraud has no version before 1")
    ]
