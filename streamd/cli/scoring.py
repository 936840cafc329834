"""A bundle's scorer and a file's rows, for the verbs that put them together. What is wrong is said, with its code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.dataset import DataFileError, DataSet, NotReadableError, open_dataset
from streamd.fitting.folder import BundleError, BundleFolder, read
from streamd.scorers.fitted import Fitted, from_bytes
from streamd.scorers.registry import load

if TYPE_CHECKING:
    from streamd.scorers.base import Scorer


@dataclass(frozen=True, eq=False)
class Opened:
    """A bundle that scores.

    Attributes:
        name: of its folder.
    """

    name: str
    folder: BundleFolder
    fitted: Fitted
    scorer: Scorer


def open_scorer(path: Path) -> Opened:
    """The bundle in that folder, on the device that is there."""
    try:
        folder = read(path)
        if folder.weights is None:
            fail(ExitCode.DATA, f"{path} has no scorer: it is a profile alone; `streamd fit` makes one that scores")
        fitted = from_bytes(folder.weights)
        return Opened(path.resolve().name, folder, fitted, load(fitted))
    except BundleError as error:
        fail(ExitCode.DATA if path.exists() else ExitCode.NO_INPUT, str(error))
    except ValueError as error:
        fail(ExitCode.DATA, f"{path}: {error}")


def open_rows(path: Path, scorer: Scorer, others: Sequence[str]) -> DataSet:
    """The file's rows: of its columns those that the scorer reads."""
    try:
        every = open_dataset(path, None, (), others)
        there = [name for name in every.features if name in scorer.features]
        if not there:
            names = ", ".join(scorer.features[:10])
            fail(ExitCode.DATA, f"{path} has none of the columns that the scorer reads: {names}")
        return open_dataset(path, there, (), others)
    except FileNotFoundError:
        fail(ExitCode.NO_INPUT, f"there is no file {path}")
    except NotReadableError as error:
        fail(ExitCode.NO_INPUT, str(error))
    except DataFileError as error:
        fail(ExitCode.DATA, str(error))


def lacking(data: DataSet, scorer: Scorer) -> tuple[str, ...]:
    """A sentence where columns that the scorer reads are not in the data: they are missing in all its rows."""
    gone = [name for name in scorer.features if name not in data.features]
    if not gone:
        return ()
    named = ", ".join(gone[:5]) + (", …" if len(gone) > 5 else "")
    columns = "column" if len(gone) == 1 else "columns"
    return (f"The data lacks {len(gone)} {columns} that the scorer reads ({named}): they count as missing.",)


def write_text(path: Path, text: str) -> None:
    """Write a file that was asked for, and say so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{path} cannot be written: {error.strerror or error}")
    typer.echo(f"written: {path}")
