"""What `streamd config` prints."""

from __future__ import annotations

import json

import pytest
import yaml

from streamd.cli import main
from streamd.config import Config
from streamd.config_loading import leaves, load

SECRET = "hunter2-is-secret"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv("STREAMD_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("STREAMD_KAFKA__SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("STREAMD_KAFKA__SASL_USERNAME", "me")
    monkeypatch.setenv("STREAMD_KAFKA__SASL_PASSWORD", SECRET)


def printed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["config", *arguments])
    assert not caught.value.code
    return str(capsys.readouterr().out)


def test_what_is_shown_fits_80_columns(capsys, login):
    assert max(map(len, printed(capsys, "show").splitlines())) <= 80


def test_what_is_shown_is_yaml_that_loads_to_the_same_configuration(capsys, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "detectors: {ks: {window_rows: 500}, chi2: null}\n"
        "streams: [{match: 'a*', detectors: {ks: {seed: 1}}}, {match: b, policy: {mode: enforce}}]\n"
    )
    shown = tmp_path / "shown.yaml"
    shown.write_text(printed(capsys, "show", "--config", str(path)))
    assert load(shown, {}).config == load(path, {}).config


def test_each_value_is_shown_with_its_origin(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("log:\n  level: debug\n")
    monkeypatch.setenv("STREAMD_ADMIN__PORT", "0")
    lines = [line.split() for line in printed(capsys, "show", "--config", "s.yaml").splitlines()]
    assert ["level:", "debug", "#", "s.yaml:2"] in lines
    assert ["port:", "0", "#", "env", "STREAMD_ADMIN__PORT"] in lines
    assert ["group_id:", "streamd", "#", "default"] in lines


def test_every_key_is_shown(capsys):
    data = yaml.safe_load(printed(capsys, "show"))
    for key in leaves(Config()):
        value = data
        for part in key:
            value = value[part]


def test_changed_leaves_out_what_has_its_default(capsys, monkeypatch):
    monkeypatch.setenv("STREAMD_DETECTORS__KS__WINDOW_ROWS", "500")
    assert yaml.safe_load(printed(capsys, "show", "--changed")) == {"detectors": {"ks": {"window_rows": 500}}}


@pytest.mark.parametrize("arguments", [("show",), ("show", "--changed"), ("show", "--json")])
def test_a_secret_is_masked(capsys, login, arguments):
    text = printed(capsys, *arguments)
    assert SECRET not in text
    assert "**********" in text


def test_json_has_values_and_origins(capsys, monkeypatch):
    monkeypatch.setenv("STREAMD_CONFIG", "")
    monkeypatch.setenv("STREAMD_ADMIN__PORT", "0")
    document = json.loads(printed(capsys, "show", "--json"))
    assert document["config"]["admin"]["port"] == 0
    assert document["origins"]["admin.port"] == "env STREAMD_ADMIN__PORT"
    assert document["origins"]["kafka.group_id"] == "default"


def test_a_wrong_configuration_is_78_with_its_problems_and_no_traceback(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("log:\n  levle: debug\n")
    with pytest.raises(SystemExit) as caught:
        main(["config", "show", "--config", "s.yaml"])
    assert caught.value.code == 78
    assert capsys.readouterr().err == "s.yaml:2:3 log.levle: no such key; did you mean level?\n"


def test_the_example_is_the_example_file(capsys):
    assert printed(capsys, "example").startswith("# Every key of streamd with its default, and why.")
