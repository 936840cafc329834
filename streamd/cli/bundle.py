"""`streamd bundle`: show, verify and compare what `streamd fit` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.fitting.folder import BundleError, BundleFolder, describe, read
from streamd.scorers.fitted import from_bytes
from streamd.scorers.registry import load

command = typer.Typer(add_completion=False, no_args_is_help=True, help="Show, verify and compare bundles.")

Folder = Annotated[Path, typer.Argument(help="The bundle's folder.")]


@command.command()
def show(folder: Folder, json: Annotated[bool, typer.Option("--json", help="bundle.json as it is.")] = False) -> None:
    """Say what a bundle is: its scorer, its columns, its threshold, what it was learned from."""
    try:
        description = describe(folder)
    except BundleError as error:
        fail(ExitCode.DATA, str(error))
    if json:
        typer.echo(orjson.dumps(description, option=orjson.OPT_INDENT_2).decode())
        return
    for key, value in _leaves(description):
        typer.echo(f"{key:<28} {value}")


@command.command()
def verify(folder: Folder) -> None:
    """Check every file against its hash, and that the scorer can be loaded; exit 65 where not."""
    bundle = _read(folder)
    if bundle.weights is not None:
        try:
            load(from_bytes(bundle.weights), "cpu")
        except ValueError as error:
            fail(ExitCode.DATA, f"{folder}: {error}")
    what = "a scorer and " if bundle.weights is not None else ""
    typer.echo(f"{folder} is whole: {what}{bundle.reference.rows:,} rows of reference, sha256 {bundle.sha256}")


@command.command()
def diff(old: Folder, new: Folder) -> None:
    """Say in what two bundles differ, line by line; exit 1 where they do."""
    before, after = dict(_leaves(_read(old).description)), dict(_leaves(_read(new).description))
    differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    for key in differing:
        typer.echo(f"{key:<28} {before.get(key, 'nothing')}  →  {after.get(key, 'nothing')}")
    if not differing:
        typer.echo("they are the same")
    raise typer.Exit(1 if differing else 0)


def _read(folder: Path) -> BundleFolder:
    try:
        return read(folder)
    except BundleError as error:
        fail(ExitCode.DATA, str(error))


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`rows.learned` and its value, for everything; a list is one value."""
    for name, child in value.items():
        key = f"{prefix}{name}"
        if isinstance(child, Mapping):
            yield from _leaves(child, f"{key}.")
        else:
            yield key, ", ".join(map(str, child)) if isinstance(child, list) else child
