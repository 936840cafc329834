"""The systemd unit: what systemd says of it, and that what it names is there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile import ROOT
from needs import unavailable

from streamd.cli import VERBS
from streamd.cli.exit_codes import ExitCode

UNIT = ROOT / "deploy/systemd/streamd.service"


def values(name: str) -> list[str]:
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        unavailable("no systemd-analyze: Debian's package systemd has it")
    return program


def test_systemd_finds_nothing_wrong(analyze, tmp_path):
    (command,) = values("ExecStart")
    unit = tmp_path / UNIT.name
    # The program has to be where the unit says: here that is this interpreter's folder.
    here = UNIT.read_text().replace(shlex.split(command)[0], str(Path(sys.executable).parent / "streamd"))
    unit.write_text(here)
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_rates_its_exposure_as_ok(analyze):
    command = [analyze, "security", "--offline=true", "--threshold=20", UNIT]  # 2.0 of 10
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_runs_the_verb_that_runs():
    (command,) = values("ExecStart")
    assert shlex.split(command)[1:] == ["run"]
    assert "run" in {verb.name for verb in VERBS}


def test_a_wrong_configuration_is_not_tried_again():
    assert values("RestartPreventExitStatus") == [str(int(ExitCode.CONFIG))]
