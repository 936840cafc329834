"""`streamd check`: what would keep `streamd run` from working, stage by stage, without watching anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli.common import ConfigOption, load_config
from streamd.cli.exit_codes import ExitCode
from streamd.errors import ConfigError

if TYPE_CHECKING:
    from streamd.config import Config


@dataclass(frozen=True)
class Finding:
    """How one thing went; `failure` is the exit code when it went wrong."""

    stage: str
    sentence: str
    failure: ExitCode | None = None


def command(
    config: ConfigOption = None,
    environment: Annotated[
        bool,
        typer.Option(
            "--environment/--no-environment",
            help="Look at variables, files, models and the broker too, or at the configuration file by itself.",
        ),
    ] = True,
) -> None:
    """Check configuration, files, models and broker in turn; stop after the first stage that fails.

    Nothing is written anywhere, and no topic is made.
    """
    if not environment:
        _check_file(config)
        return
    loaded = load_config(config)
    set_here = sum(origin != "default" for origin in loaded.origins.values())
    _print(Finding("configuration", f"{config or 'no file'}, {_count(set_here, 'key')} set"))
    for stage in (_files, _models, _broker):
        findings = list(stage(loaded.config))
        for finding in findings:
            _print(finding)
        _exit_on_failure(findings)


def _check_file(path: Path | None) -> None:
    """The file by itself: no variable is read and no `${…}` looked up, so that it works where it was written."""
    if path is None:
        typer.echo("streamd: name a file with --config: there is nothing else to check", err=True)
        raise typer.Exit(ExitCode.USAGE)
    from streamd.config_loading import problems_of_file

    problems = problems_of_file(path)
    if problems:
        raise ConfigError(*problems)
    _print(Finding("configuration", str(path)))


def _files(config: Config) -> Iterator[Finding]:
    """Every file that the configuration names can be read."""
    kafka = config.kafka
    named = {
        "kafka.ssl_cafile": kafka.ssl_cafile,
        "kafka.ssl_certfile": kafka.ssl_certfile,
        "kafka.ssl_keyfile": kafka.ssl_keyfile,
        "kafka.oauth.token_file": kafka.oauth.token_file,
    }
    paths = {key: path for key, path in named.items() if path is not None}
    for key, path in paths.items():
        if not os.access(path, os.R_OK) or path.is_dir():
            reason = "cannot be read by this user" if path.is_file() else "is no file"
            yield Finding("files", f"{key}: {path} {reason}", ExitCode.NO_INPUT)
            return
    yield Finding("files", f"{_count(len(paths), 'file')} named")


def _models(config: Config) -> Iterator[Finding]:
    """What computes the models is there, on the device that is asked for, and the bundles that are named are whole."""
    import torch

    from streamd.bundles import with_bundles

    cuda = torch.cuda.is_available()
    rules = [settings for _, settings in config.settings_by_rule]
    for name, detector in {n: d for settings in rules for n, d in settings.detectors.items()}.items():
        if getattr(detector, "device", "auto") == "cuda" and not cuda:
            yield Finding(
                "models",
                f"detectors.{name}.device is cuda, and torch {torch.__version__} sees none",
                ExitCode.UNAVAILABLE,
            )
    try:
        with_bundles(config)
    except ConfigError as error:
        yield Finding("models", str(error), ExitCode.CONFIG)
        return
    device = torch.cuda.get_device_name() if cuda else "the processor"
    yield Finding("models", f"torch {torch.__version__} on {device}")


def _broker(config: Config) -> Iterator[Finding]:
    """The broker answers, lets us in, and has the topics or may get them."""
    from streamd.transport.kafka_admin import probe

    for found in probe(config.kafka, config.topics):
        yield Finding("broker", found.detail, None if found.ok else ExitCode.UNAVAILABLE)


def _exit_on_failure(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.failure is not None:
            raise typer.Exit(finding.failure)
    return None


def _print(finding: Finding) -> None:
    from rich.console import Console
    from rich.table import Table

    mark = "[green]✓[/green]" if finding.failure is None else "[red]✗[/red]"
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(mark, f"{finding.stage:<13}", finding.sentence)
    Console(highlight=False).print(line)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
