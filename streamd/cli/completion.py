"""`streamd completion`: verbs and options by the tab key."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


ShellArgument = Annotated[Shell, typer.Argument(help="The shell.")]

command = typer.Typer(add_completion=False, no_args_is_help=True)


@command.callback()
def completion() -> None:
    """Set up completion in the shell."""


@command.command()
def show(shell: ShellArgument) -> None:
    """Print the script: for bash, `eval "$(streamd completion show bash)"` in ~/.bashrc."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="streamd", complete_var="_STREAMD_COMPLETE", shell=shell.value))


@command.command()
def install(shell: ShellArgument) -> None:
    """Write the script to where the shell looks for it."""
    from typer.completion import install as write  # type: ignore[attr-defined]

    _, path = write(shell=shell.value, prog_name="streamd", complete_var="_STREAMD_COMPLETE")
    print(f"Written to {path}; it works in shells that are started from now on.")
