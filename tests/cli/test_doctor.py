"""`streamd doctor`: a line for each thing, an exit code, and the guarantee at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest
from brokers import RealKafka

from streamd.cli import verbs
from streamd.cli.exit_codes import ExitCode
from streamd.transport import kafka_probe
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka_probe import Finding, Guarantee, Outcome, Verdict

Captured = pytest.CaptureFixture[str]
FINE = Finding("reach", Outcome.OK, "a:1 answers")
LONG = Finding("topics", Outcome.PROBLEM, "t: cleanup.policy is [delete], " + "and so on " * 20)
EXACTLY = Verdict(Guarantee.EXACTLY_ONCE, Finding("guarantee", Outcome.OK, "exactly once"))


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the examination finds."""
    monkeypatch.setenv("COLUMNS", "80")

    def set_findings(*findings: Finding | Verdict) -> None:
        def examine(kafka: object, topics: object, write: bool) -> Iterator[Finding | Verdict]:
            yield from findings

        monkeypatch.setattr(kafka_probe, "examine", examine)

    return set_findings


def test_each_finding_is_a_line_in_80_columns_with_its_mark(finds: Callable[..., None], capsys: Captured) -> None:
    finds(FINE, Finding("clock", Outcome.WARNING, "5 s ahead"), LONG, EXACTLY)
    assert verbs.run(["doctor"]) == ExitCode.CONFIG
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == "✓  reach         a:1 answers"
    assert [line[0] for line in lines if line[0] != " "] == ["✓", "!", "✗", "✓"]
    assert max(map(len, lines)) <= 80
    assert any("[delete]" in line for line in lines)
    assert lines[-1].rstrip() == "✓  guarantee     exactly once"


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ((FINE, EXACTLY), ExitCode.OK),
        ((FINE, Finding("clock", Outcome.WARNING, "5 s ahead"), EXACTLY), ExitCode.OK),
        ((FINE, LONG, EXACTLY), ExitCode.CONFIG),
        ((FINE, Finding("login", Outcome.PROBLEM, "refused")), ExitCode.CONFIG),
        ((Finding("reach", Outcome.PROBLEM, "nobody"),), ExitCode.UNAVAILABLE),
        ((FINE, LONG, Finding("reach", Outcome.PROBLEM, "went away")), ExitCode.UNAVAILABLE),
    ],
)
def test_the_exit_code_says_whether_to_wait_or_to_mend(
    finds: Callable[..., None], capsys: Captured, findings: tuple[Finding | Verdict, ...], code: ExitCode
) -> None:
    finds(*findings)
    assert verbs.run(["doctor", "--json"]) == code
    assert orjson.loads(capsys.readouterr().out)["exit_code"] == code


def test_an_absent_broker_is_69_with_one_line(capsys: Captured) -> None:
    assert verbs.run(["doctor", "--bootstrap-servers", "127.0.0.1:9"]) == ExitCode.UNAVAILABLE
    out, err = capsys.readouterr()
    assert out.startswith("✗  reach         no broker answers at 127.0.0.1:9")
    assert err == ""


@pytest.mark.broker
@pytest.mark.slow
def test_the_embedded_broker_is_78_since_it_is_not_exactly_once(
    embedded_broker: EmbeddedBroker, capsys: Captured
) -> None:
    assert verbs.run(["doctor", "--bootstrap-servers", embedded_broker.bootstrap_servers]) == ExitCode.CONFIG
    said = " ".join(capsys.readouterr().out.split())
    assert "✗ guarantee at least once only: records of aborted transactions are visible to read_committed" in said


@pytest.mark.kafka
@pytest.mark.slow
def test_a_real_kafka_is_0_and_exactly_once_in_json(kafka_broker: RealKafka, capsys: Captured) -> None:
    assert verbs.run(["doctor", "--json", "--bootstrap-servers", kafka_broker.bootstrap_servers]) == ExitCode.OK
    told = orjson.loads(capsys.readouterr().out)
    assert (told["guarantee"], told["exit_code"]) == ("exactly_once", 0)
    assert told["findings"][0].keys() == {"subject", "outcome", "sentence"}
    assert {finding["outcome"] for finding in told["findings"]} <= {"ok", "warning"}
