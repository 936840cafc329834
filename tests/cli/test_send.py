"""`streamd send`: what arrives, what it says, and how it ends."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, TopicPartition

from streamd.cli import send, verbs
from streamd.cli.exit_codes import ExitCode
from streamd.transport.embedded import EmbeddedBroker


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": [float(i) for i in range(10)], "p": [i / 10 for i in range(10)]}), path)
    return path


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def records(broker: EmbeddedBroker, topic: str, count: int) -> list[Any]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    partitions = consumer.partitions_for_topic(topic)
    consumer.assign([TopicPartition(topic, number) for number in partitions])
    found: list[Any] = []
    for _ in range(30):
        for batch in consumer.poll(timeout_ms=1000).values():
            found.extend(batch)
        if len(found) >= count:
            break
    consumer.close()
    return found


@pytest.mark.broker
@pytest.mark.slow
def test_the_rows_of_the_file_arrive_in_batches_with_two_classes(
    embedded_broker: EmbeddedBroker, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = f"send-{uuid.uuid4().hex[:8]}"
    arguments = ["send", str(file), "--stream", "fraud/7", "--rows", "4", "--probabilities", "p", "--topic", topic]
    code = verbs.run([*arguments, "--bootstrap-servers", embedded_broker.bootstrap_servers])
    output = capsys.readouterr()
    assert (code, output.err) == (ExitCode.OK, "")
    assert output.out.startswith("fraud/7: 10 rows in 3 batches sent in ")
    found = records(embedded_broker, topic, 3)
    assert {record.key for record in found} == {b"fraud/7"}
    payloads = [orjson.loads(record.value) for record in found]
    assert [value for payload in payloads for value in payload["features"]["x"]] == [float(i) for i in range(10)]
    assert payloads[0]["probabilities"][1] == [0.9, 0.1]


@pytest.mark.broker
@pytest.mark.slow
def test_a_reference_arrives_in_numbered_parts(embedded_broker: EmbeddedBroker, file: Path) -> None:
    topic = f"send-{uuid.uuid4().hex[:8]}"
    arguments = ["send", str(file), "--stream", "s", "--rows", "4", "--role", "reference", "--topic", topic]
    assert verbs.run([*arguments, "--bootstrap-servers", embedded_broker.bootstrap_servers]) == ExitCode.OK
    headers = [dict(record.headers) for record in records(embedded_broker, topic, 3)]
    assert [h["streamd-part"] for h in headers] == [b"1/3", b"2/3", b"3/3"]
    assert {h["streamd-role"] for h in headers} == {b"reference"}


@pytest.mark.broker
@pytest.mark.slow
def test_ctrl_c_delivers_what_was_sent_says_how_much_and_exits_130(
    embedded_broker: EmbeddedBroker, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(batches: Any, seconds: float) -> Any:
        yield next(batches)
        raise KeyboardInterrupt

    monkeypatch.setattr(send, "paced", interrupted)
    topic = f"send-{uuid.uuid4().hex[:8]}"
    arguments = ["send", str(file), "--stream", "s", "--rows", "4", "--topic", topic]
    code = verbs.run([*arguments, "--bootstrap-servers", embedded_broker.bootstrap_servers])
    assert code == ExitCode.INTERRUPTED
    assert "interrupted: 1 batch sent to s, 4 of 10 rows" in capsys.readouterr().err
    assert len(records(embedded_broker, topic, 1)) == 1


@pytest.mark.slow
def test_without_a_broker_it_ends_with_69_and_a_sentence(
    file: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["send", str(file), "--stream", "s", "--timeout", "0.3"]
    code = verbs.run([*arguments, "--bootstrap-servers", f"127.0.0.1:{closed_port}"])
    error = capsys.readouterr().err
    assert code == ExitCode.UNAVAILABLE
    assert len(error.splitlines()) == 1
    assert f"no connection to Kafka at 127.0.0.1:{closed_port}" in error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no.parquet", "--stream", "s"], ExitCode.NO_INPUT, "there is no file no.parquet"),
        (["FILE", "--stream", "s", "--columns", "y"], ExitCode.DATA, "no column 'y'"),
        (["FILE", "--stream", "s", "--rate", "fast"], ExitCode.USAGE, "10/s"),
        (["FILE", "--stream", "s", "--logits", "x", "--probabilities", "p"], ExitCode.USAGE, "not both"),
        (["FILE", "--stream", "s", "--rows", "0"], ExitCode.USAGE, "rows"),
        (["FILE"], ExitCode.USAGE, "stream"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_sentence(
    arguments: list[str], code: ExitCode, words: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verbs.run(["send", *(str(file) if word == "FILE" else word for word in arguments)]) == code
    assert words in capsys.readouterr().err


def test_an_empty_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"x": pa.array([], pa.float64())}), tmp_path / "empty.parquet")
    assert verbs.run(["send", str(tmp_path / "empty.parquet"), "--stream", "s"]) == ExitCode.DATA
    assert "no rows" in capsys.readouterr().err
