"""What several verbs share: the option that names the configuration, and reading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamd.config_loading import LoadedConfig

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="STREAMD_CONFIG", help="Configuration file. None is needed."),
]


def load_config(path: Path | None) -> LoadedConfig:
    """The configuration from the file, when there is one, and this process's environment. Raises ConfigError."""
    from streamd.config_loading import load

    return load(path, os.environ)
