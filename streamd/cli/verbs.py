"""Finds a verb's module, runs it, and turns what it raises into sentences and exit codes."""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from streamd.cli import VERBS, Verb
from streamd.cli.exit_codes import ExitCode
from streamd.errors import ConfigError, InvalidRecord, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXTRAS = {"sklearn": "fit", "PIL": "fit", "onnxruntime": "onnx", "datasketches": "screen", "ray": "ray"}
"""Package -> the extra that brings it, where that is not `daemon`."""

EPILOG = "Exit codes: 0 done, 64 usage, 65 data, 69 unavailable, 70 bug, 78 configuration."


class VerbGroup(TyperGroup):
    """A group that knows its verbs from the table, and imports only the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [verb.name for verb in VERBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb for the list in `--help`: its name and its line, nothing else."""
        verb = _verb(cmd_name)
        return verb and TyperCommand(verb.name, help=verb.help, rich_help_panel=verb.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb as it is, for running it."""
        self.commands = {verb.name: self.get_command(ctx, verb.name) for verb in VERBS}  # for "did you mean"
        name, command, rest = super().resolve_command(ctx, args)
        verb = name and _verb(name)
        return (name, _import(verb), rest) if verb else (name, command, rest)


def _verb(name: str) -> Verb | None:
    return next((verb for verb in VERBS if verb.name == name), None)


def _import(verb: Verb) -> Any:
    """The verb's real command."""
    command = importlib.import_module(verb.module).command
    if not isinstance(command, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(verb.name)(command)
        command = app
    built = typer.main.get_command(command)
    built.name = verb.name
    return built


def root() -> Any:
    """The whole command line as one object."""
    app = typer.Typer(cls=VerbGroup, add_completion=True, no_args_is_help=True)

    @app.callback(epilog=EPILOG)
    def streamd() -> None:
        """Watches machine-learning models over Kafka: their data, their training and their service."""

    built = typer.main.get_command(app)
    for parameter in built.params:
        if parameter.name in ("install_completion", "show_completion"):
            parameter.hidden = True  # type: ignore[attr-defined]  # `streamd completion` does it
    return built


def run(arguments: Sequence[str] | None) -> int:
    """Run one verb and return its exit code. What is known to go wrong is a sentence; the rest has a traceback."""
    try:
        root().main(args=None if arguments is None else list(arguments), prog_name="streamd")
    except SystemExit as end:
        return _exit_code(end.code)
    except ConfigError as error:
        return _report(ExitCode.CONFIG, *error.problems)
    except TransientError as error:
        return _report(ExitCode.UNAVAILABLE, f"streamd: {error}")
    except ModuleNotFoundError as error:
        return _report(ExitCode.UNAVAILABLE, f"streamd: {_missing(error)}")
    except InvalidRecord as error:
        return _report(ExitCode.DATA, f"streamd: {error}")
    except Exception:
        traceback.print_exc()
        return _report(ExitCode.INTERNAL, "streamd: this is a bug in streamd; nothing more was committed.")
    return ExitCode.OK


def _missing(error: ModuleNotFoundError) -> str:
    """What is not installed: a part of streamd, or what this part of it stands on."""
    if error.name is not None and error.name.split(".")[0] == "streamd":
        return f"{error.name} is not part of this installation"
    package = (error.name or "").split(".")[0]
    return f"this needs the package {package}: pip install 'streamd[{_EXTRAS.get(package, 'daemon')}]'"


def _exit_code(code: Any) -> int:
    """typer's exit code as ours: it says 2 for a wrong command line, and no verb does."""
    if code is None:
        return ExitCode.OK
    if isinstance(code, str):
        return _report(ExitCode.UNAVAILABLE, code)
    return ExitCode.USAGE if code == 2 else int(code)


def _report(code: ExitCode, *lines: str) -> ExitCode:
    """Say what went wrong: one line each for machines, folded for people."""
    for line in lines:
        if sys.stderr.isatty():
            width = max(40, shutil.get_terminal_size().columns)
            line = textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        print(line, file=sys.stderr)
    return code
