"""Where Kafka is, for the verbs that talk to it themselves, and how a verb ends when something is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from streamd.cli.exit_codes import ExitCode
from streamd.config import Config
from streamd.config_loading import load

BootstrapServers = Annotated[
    str | None, typer.Option(help="Kafka, host:port. Else STREAMD_KAFKA__BOOTSTRAP_SERVERS, else the configuration.")
]


def load_config(bootstrap_servers: str | None, path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The option, else STREAMD_KAFKA__BOOTSTRAP_SERVERS, else the file, else the default. Raises ConfigError."""
    if bootstrap_servers is not None:
        environ = {**environ, "STREAMD_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers}
    return load(path, environ).config


def fail(code: ExitCode, sentence: str) -> NoReturn:
    """Say it on stderr and exit."""
    typer.echo(f"streamd: {sentence}", err=True)
    raise typer.Exit(code)


def quiet_client() -> None:
    """The Kafka client writes ten lines for each failed connection; a verb says it in one sentence."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("streamd.client").setLevel(logging.ERROR)
