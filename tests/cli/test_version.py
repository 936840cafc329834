"""What `streamd version` prints."""

from __future__ import annotations

import json

import pytest

import streamd
from streamd.cli import main
from streamd.cli.version import PACKAGES


def printed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["version", *arguments])
    assert not caught.value.code
    return str(capsys.readouterr().out)


def test_the_first_line_is_the_version_of_streamd(capsys):
    assert printed(capsys).splitlines()[0].split() == ["streamd", streamd.__version__]


def test_short_is_the_version_alone(capsys):
    assert printed(capsys, "--short") == f"{streamd.__version__}\n"


def test_json_has_python_and_every_package(capsys):
    assert set(json.loads(printed(capsys, "--json"))) == {"streamd", "python", *PACKAGES}


def test_a_package_that_is_not_there_is_named_as_that(capsys, monkeypatch):
    monkeypatch.setattr("streamd.cli.version.PACKAGES", ("no-such-package",))
    assert "no-such-package not installed" in printed(capsys)
