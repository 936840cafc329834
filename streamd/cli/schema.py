"""`streamd schema`: the JSON Schemas of what goes over the wire, and of the configuration."""

from __future__ import annotations

import json
from enum import StrEnum
from importlib.resources import files
from typing import Annotated

import typer

from streamd.cli.exit_codes import ExitCode


class Subject(StrEnum):
    """What a schema describes."""

    FEATURES = "features"
    TELEMETRY = "telemetry"
    RESET = "reset"
    ACK = "ack"
    END = "end"
    ALERT = "alert"
    COMMAND = "command"
    SCREENING = "screening"
    CONFIG = "config"


FILES = {Subject.FEATURES: "feature_batch"}
"""Where a file is not called what its subject is."""


def command(
    subject: Annotated[Subject, typer.Argument(help="What the schema describes.")],
) -> None:
    """Print the JSON Schema of a message or of the configuration."""
    print(schema_text(subject))


def schema_text(subject: Subject) -> str:
    """The schema as JSON, indented."""
    if subject is Subject.CONFIG:
        from streamd.configuration.documents import json_schema

        return json.dumps(json_schema(), indent=2, ensure_ascii=False)
    file = files("streamd").joinpath("schemas", f"{FILES.get(subject, subject)}.json")
    if file.is_file():
        return file.read_text(encoding="utf-8").rstrip()
    typer.echo(f"streamd: the schema of {subject} is not part of this installation", err=True)
    raise typer.Exit(ExitCode.UNAVAILABLE)
