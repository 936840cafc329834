"""`streamd check`, stage by stage."""

from __future__ import annotations

import pytest

from streamd.cli import main
from streamd.transport.kafka_admin import Probe


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def broker(monkeypatch):
    """A function that sets what the broker's probe finds."""

    def finds(*probes: Probe) -> None:
        monkeypatch.setattr("streamd.transport.kafka_admin.probe", lambda kafka, topics: list(probes))

    return finds


def outcome(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["check", *arguments])
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_a_file_by_itself_needs_neither_variables_nor_files_nor_a_broker(capsys, here, monkeypatch):
    monkeypatch.setenv("STREAMD_NONSENSE", "1")
    (here / "s.yaml").write_text("kafka: {client_id: '${env:NOPE}', ssl_cafile: /no/such}\n")
    assert outcome(capsys, "--no-environment", "--config", "s.yaml") == (0, "✓  configuration  s.yaml\n", "")


def test_a_wrong_file_is_78_either_way(capsys, here):
    (here / "s.yaml").write_text("kakfa: {}\n")
    problem = "s.yaml:1:1 kakfa: no such key; did you mean kafka?\n"
    assert outcome(capsys, "--no-environment", "--config", "s.yaml") == (78, "", problem)
    assert outcome(capsys, "--config", "s.yaml") == (78, "", problem)


def test_without_a_file_there_is_nothing_to_check_by_itself(capsys):
    assert outcome(capsys, "--no-environment")[0] == 64


def test_a_file_that_is_named_and_missing_is_66_and_the_broker_is_not_asked(capsys, monkeypatch, broker):
    broker(Probe("reach", False, "should not be asked"))
    monkeypatch.setenv("STREAMD_KAFKA__SSL_CAFILE", "/no/such.pem")
    code, out, _ = outcome(capsys)
    assert code == 66
    assert "✗  files          kafka.ssl_cafile: /no/such.pem is no file" in out
    assert "broker" not in out


def test_a_device_that_is_not_there_is_69(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("STREAMD_DETECTORS__AUTOENCODER__DEVICE", "cuda")
    code, out, _ = outcome(capsys)
    assert code == 69
    assert "detectors.autoencoder.device is cuda" in out


def test_all_stages_in_order_when_all_is_well(capsys, broker):
    broker(Probe("reach", True, "a:1 answers"), Probe("topics", True, "all topics are there"))
    code, out, _ = outcome(capsys)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["configuration", "files", "models", "broker", "broker"]
    assert {line[0] for line in out.splitlines()} == {"✓"}


def test_a_broker_that_does_not_answer_is_69(capsys, broker):
    broker(Probe("reach", False, "no broker answers at a:1"))
    code, out, _ = outcome(capsys)
    assert code == 69
    assert "✗  broker         no broker answers at a:1" in out


def test_a_bundle_that_cannot_be_used_is_said_before_the_broker_is_asked(capsys, here, broker):
    broker(Probe("reach", False, "should not be asked"))
    (here / "s.yaml").write_text("reference: {bundle: monitors/none}\n")
    code, out, _ = outcome(capsys, "--config", "s.yaml")
    assert code == 78
    assert "✗  models" in out
    assert "monitors/none is not there" in " ".join(out.split())
    assert "should not be asked" not in out
