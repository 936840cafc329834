"""`streamd tail`: alerts as sentences, for people and for machines."""

from __future__ import annotations

import re
import socket
import uuid
from typing import Any

import orjson
import pytest
from kafka import KafkaProducer

from streamd.cli import tail, verbs
from streamd.cli.exit_codes import ExitCode
from streamd.model import Severity
from streamd.transport.embedded import EmbeddedBroker


def alert(**changes: Any) -> dict[str, Any]:
    return {
        "id": "9f2c",
        "status": "firing",
        "severity": "warning",
        "action": "review",
        "mode": "enforce",
        "stream": "fraud/7",
        "event_time": "2026-11-22T00:00:00.123Z",
        "summary": "fraud/7: amount drifted up (KS D=0.31, p=1e-9 over 1000 rows)",
        **changes,
    }


def sentence(message: dict[str, Any], width: int | None = None) -> str:
    value = orjson.dumps(message)
    return tail.as_sentence(tail.parse(value), value, "t/0/1", width)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_an_alert_is_its_time_severity_and_summary() -> None:
    assert sentence(alert()) == (
        "2026-11-22 00:00:00 warning   fraud/7: amount drifted up (KS D=0.31, p=1e-9 over 1000 rows)"
    )


def test_no_line_is_wider_than_the_terminal_and_the_text_is_indented_under_itself() -> None:
    lines = plain(sentence(alert(summary="fraud/7: " + "amount drifted up " * 12), width=80)).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert len(lines) > 2
    assert all(line.startswith(" " * 30) and line[30] != " " for line in lines[1:])


@pytest.mark.parametrize(("severity", "colour"), [("info", "36"), ("warning", "33"), ("critical", "31")])
def test_the_severity_has_its_colour_on_a_terminal_and_none_elsewhere(severity: str, colour: str) -> None:
    assert f"\x1b[{colour}m" in sentence(alert(severity=severity), width=80)
    assert "\x1b" not in sentence(alert(severity=severity))


def test_the_end_of_an_incident_is_called_resolved() -> None:
    assert "00:00:00 resolved  fraud/7" in sentence(alert(status="resolved", severity="critical", action="none"))


def test_an_action_is_named_with_its_mode() -> None:
    assert sentence(alert(severity="critical", action="rollback", mode="shadow")).endswith(" → rollback (shadow)")


def test_the_stream_is_named_where_the_summary_does_not() -> None:
    assert "fraud/7: it drifted" in sentence(alert(summary="it drifted"))


def test_nothing_in_an_alert_can_steer_the_terminal() -> None:
    assert "\x1b" not in sentence(alert(summary="fraud/7: \x1b[2Jgone\nfaked"))
    assert "\n" not in sentence(alert(summary="fraud/7: \x1b[2Jgone\nfaked"))


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xff\xfe", b"[]", b"{}", b'{"severity": "loud"}', b'{"severity": ["info"]}', b'"x"', b"{" * 10_000],
)
def test_a_message_that_is_no_alert_is_shown_as_such(value: bytes | None) -> None:
    assert tail.parse(value) is None
    for width in (None, 80):
        shown = plain(tail.as_sentence(None, value, "t/0/1", width))
        assert shown.startswith("not an alert  t/0/1:")
        assert len(shown) < 1000
    line = tail.as_line(None, value, "t/0/1")
    assert "\n" not in line
    assert set(orjson.loads(line)) == {"not_an_alert", "place"}


def test_an_alert_with_strange_fields_is_no_crash() -> None:
    assert "warning" in sentence(alert(event_time=None, action=["x"], mode=7))


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (tail.Wanted(), True),
        (tail.Wanted(stream="fraud/7"), True),
        (tail.Wanted(stream="fraud/*"), True),
        (tail.Wanted(stream="fraud"), False),
        (tail.Wanted(severity=Severity.WARNING), True),
        (tail.Wanted(severity=Severity.CRITICAL), False),
    ],
)
def test_alerts_are_chosen_by_stream_and_severity(wanted: tail.Wanted, shown: bool) -> None:
    assert wanted.matches(alert()) is shown


def test_what_is_no_alert_is_shown_only_when_nothing_particular_is_asked_for() -> None:
    assert tail.Wanted().matches(None)
    assert not tail.Wanted(stream="*").matches(None)
    assert not tail.Wanted(severity=Severity.WARNING).matches(None)


# --- Against a broker -----------------------------------------------------------------------------


@pytest.fixture
def topic(embedded_broker: EmbeddedBroker) -> str:
    """A topic with three alerts and something else."""
    name = f"alerts-{uuid.uuid4().hex[:8]}"
    producer = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    for value in (alert(), alert(stream="other/1", summary="other/1: it drifted"), alert(severity="critical")):
        producer.send(name, orjson.dumps(value)).get(30)
    producer.send(name, b"something else").get(30)
    producer.close()
    return name


@pytest.mark.broker
@pytest.mark.slow
def test_the_topic_is_shown_from_its_beginning(
    embedded_broker: EmbeddedBroker, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tail", "--topic", topic, "--from", "beginning", "--max", "4", "--timeout", "30"]
    assert verbs.run([*arguments, "--bootstrap-servers", embedded_broker.bootstrap_servers]) == ExitCode.OK
    output = capsys.readouterr().out.splitlines()
    # The topic may have several partitions: there is no order between them.
    assert sorted(line.split()[2] for line in output if line[0] == "2") == ["critical", "warning", "warning"]
    assert sum(line.startswith(f"not an alert  {topic}/") and "something else" in line for line in output) == 1


@pytest.mark.broker
@pytest.mark.slow
def test_json_is_one_value_a_line_and_the_filters_hold(
    embedded_broker: EmbeddedBroker, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tail", "--topic", topic, "--from", "beginning", "--json", "--stream", "fraud/*"]
    arguments += ["--severity", "critical", "--max", "1", "--timeout", "30"]
    assert verbs.run([*arguments, "--bootstrap-servers", embedded_broker.bootstrap_servers]) == ExitCode.OK
    (line,) = capsys.readouterr().out.splitlines()
    assert orjson.loads(line) == alert(severity="critical")


@pytest.mark.broker
@pytest.mark.slow
def test_it_ends_at_its_timeout(embedded_broker: EmbeddedBroker, topic: str) -> None:
    arguments = ["tail", "--topic", topic, "--timeout", "0.2"]
    assert verbs.run([*arguments, "--bootstrap-servers", embedded_broker.bootstrap_servers]) == ExitCode.OK


def test_without_a_broker_it_ends_with_69_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert verbs.run(["tail", "--bootstrap-servers", f"127.0.0.1:{port}"]) == ExitCode.UNAVAILABLE
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"127.0.0.1:{port}" in error
