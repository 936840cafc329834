"""`streamd record`: a stretch of a topic as a file, for `streamd replay` and for tests."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.transport.kafka_range import Place, parse_place, read_range
from streamd.transport.recording import write_recording

From = Annotated[str | None, typer.Option("--from", help="An offset, or a time. Else the beginning.")]
To = Annotated[str | None, typer.Option("--to", help="An offset, or a time; exclusive. Else now's end.")]


def command(
    topic: Annotated[str, typer.Argument(help="The topic to read.")],
    out: Annotated[Path, typer.Option(help="The file to write: an Arrow IPC stream.")],
    start: From = None,
    end: To = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="End after so many records.")] = None,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Write a topic's records to a file, to be replayed. Ctrl-C keeps what has been read."""
    quiet_client()
    first, last = place("--from", start), place("--to", end)
    kafka = load_config(bootstrap_servers, config).kafka
    if not out.parent.is_dir():
        fail(ExitCode.CANNOT_CREATE, f"{out}: there is no folder {out.parent}")
    try:
        written = write_recording(out, itertools.islice(read_range(kafka, topic, first, last), most))
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{out}: {error.strerror or error}")
    typer.echo(f"{written} record{'' if written == 1 else 's'} of {topic} in {out}")


def place(option: str, text: str | None) -> Place | None:
    """What the option `--from` or `--to` says; a sentence and exit code 64 where it says nothing."""
    try:
        return None if text is None else parse_place(text)
    except ValueError as error:
        fail(ExitCode.USAGE, f"{option}: {error}")
