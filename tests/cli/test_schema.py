"""What `streamd schema` and `streamd asyncapi` print."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from streamd.cli import main
from streamd.cli.schema import Subject


def printed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert not caught.value.code
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("subject", list(Subject))
def test_each_subject_has_a_json_schema(capsys, subject):
    Draft202012Validator.check_schema(json.loads(printed(capsys, "schema", subject)))


def test_a_schema_that_is_not_installed_is_69(capsys, monkeypatch, tmp_path):
    (tmp_path / "schemas").mkdir()
    monkeypatch.setattr("streamd.cli.schema.files", lambda package: tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["schema", "alert"])
    assert caught.value.code == 69
    assert "the schema of alert is not part of this installation" in capsys.readouterr().err


def test_asyncapi_has_the_topics_as_configured(capsys, monkeypatch):
    monkeypatch.setenv("STREAMD_TOPICS__ALERTS", "our.alerts")
    document = json.loads(printed(capsys, "asyncapi"))
    assert str(document["asyncapi"]).startswith("3.")
    assert "our.alerts" in json.dumps(document)
