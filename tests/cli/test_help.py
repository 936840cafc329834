"""The command line as a whole: fast, lazy, and with exit codes that mean something."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from streamd.cli import VERBS, main, verbs
from streamd.cli.exit_codes import ExitCode

HEAVY = (
    "torch",
    "scipy",
    "sklearn",
    "numpy",
    "numba",
    "pyarrow",
    "river",
    "pydantic",
    "kafka",
    "starlette",
    "matplotlib",
)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


def test_help_lists_every_verb_with_its_line_in_80_columns(capsys):
    assert exit_code("--help") == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    for verb in VERBS:
        assert any(f" {verb.name} " in line and verb.help in line for line in lines), verb.name
    assert max(map(len, lines)) <= 80


def test_without_a_verb_there_is_help(capsys):
    assert exit_code() == ExitCode.USAGE
    assert "Usage: streamd" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom streamd.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow
def test_help_costs_less_than_300_milliseconds_of_the_processor():
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "streamd", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time, since on an idle machine it is the wall's, and on a busy one the wall's says nothing.
    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize("arguments", [("rnu",), ("version", "--nope"), ("schema", "nope"), ("schema",)])
def test_a_wrong_command_line_is_64(arguments):
    assert exit_code(*arguments) == ExitCode.USAGE == 64


def test_an_unknown_verb_has_a_suggestion(capsys):
    exit_code("chekc")
    assert "'check'" in capsys.readouterr().err


def test_a_verb_whose_module_is_missing_is_69_and_says_so(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "streamd.cli.version", None)  # what Python does for a module that is not there
    assert exit_code("version") == ExitCode.UNAVAILABLE == 69
    assert capsys.readouterr().err == "streamd: streamd.cli.version is not part of this installation\n"


def test_a_verb_that_lacks_a_package_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    for name in [name for name in sys.modules if name.startswith("streamd.config")]:
        monkeypatch.delitem(sys.modules, name)
    assert exit_code("config", "show") == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err == "streamd: this needs the package pydantic: pip install 'streamd[daemon]'\n"


def test_with_the_client_alone_one_sentence_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert exit_code("run") == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err == (
        "streamd: the commands need more than the client: pip install 'streamd[daemon]'\n"
    )


def test_a_bug_is_70_with_its_traceback(capsys, monkeypatch):
    monkeypatch.setattr("streamd.cli.version.version", lambda name: 1 / 0)
    assert exit_code("version") == ExitCode.INTERNAL == 70
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error
    assert "this is a bug in streamd" in error


def test_ctrl_c_is_130(monkeypatch):
    def interrupt(name: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("streamd.cli.version.version", interrupt)
    assert exit_code("version") == ExitCode.INTERRUPTED == 130


def test_completion_prints_a_script(capsys):
    assert exit_code("completion", "show", "bash") == ExitCode.OK
    assert "_STREAMD_COMPLETE" in capsys.readouterr().out


def test_verbs_and_their_options_are_completed():
    def completed(words: str, index: int) -> str:
        environ = {"_STREAMD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        code = "from streamd.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True).stdout

    assert "version" in completed("streamd ver", 1)
    assert "--json" in completed("streamd version --j", 2)


@pytest.mark.parametrize(
    ("module", "extra"), [("sklearn.ensemble", "fit"), ("datasketches", "screen"), ("numba", "daemon")]
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(verbs, "root", missing)
    assert verbs.run(["version"]) == 69
    assert f"needs the package {module.split('.')[0]}: pip install 'streamd[{extra}]'" in capsys.readouterr().err
