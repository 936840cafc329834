"""`streamd config`: what is in force and where each value comes from; the example file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamd.cli.common import ConfigOption, load_config

if TYPE_CHECKING:
    from streamd.config_loading import LoadedConfig

ORIGIN_COLUMN = 44
"""Where the origins start; what is longer has its origin in a line of its own."""

WIDTH = 80

command = typer.Typer(add_completion=False, no_args_is_help=True)


@command.callback()
def config() -> None:
    """Show the configuration, and where each value comes from."""


@command.command()
def show(
    config: ConfigOption = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Print the configuration in force, as YAML. Secrets are masked.

    The comment behind each value is its origin: file:line, the environment variable, or default.
    """
    loaded = load_config(config)
    if as_json:
        print(json.dumps({"config": loaded.config.model_dump(mode="json"), "origins": dict(loaded.origins)}, indent=2))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for line in rendered(loaded, changed):
        text = Text(line)
        text.highlight_regex(r" # default$", "dim")
        text.highlight_regex(r" # (env .*|.*:\d+)$", "cyan")
        console.print(text)


@command.command()
def example() -> None:
    """Print a configuration file with every key, its default and why."""
    from streamd.configuration.documents import example

    print(example(), end="")


def rendered(loaded: LoadedConfig, changed: bool) -> list[str]:
    """Lines of YAML, at most 80 columns where that can be, each value with its origin in a comment."""
    origins = {key: origin for key, origin in loaded.origins.items() if not changed or origin != "default"}
    return list(_mapping(dict(loaded.config), (), origins))


def _mapping(values: Mapping[str, Any], path: tuple[str, ...], origins: Mapping[str, str]) -> Iterator[str]:
    from streamd.configuration.documents import flow

    indent = "  " * len(path)
    for name, value in values.items():
        key = ".".join((*path, name))
        if key in origins:
            yield from _line(f"{indent}{name}: {flow(value)}", origins[key])
        elif any(known.startswith(f"{key}.") for known in origins):
            yield f"{indent}{name}:"
            if isinstance(value, tuple):  # the rules of streams
                for i, rule in enumerate(value):
                    first, *rest = _mapping(dict(rule), (*path, name, str(i)), origins)
                    yield from (f"{indent}  - {first.lstrip()}", *rest)
            else:
                yield from _mapping(dict(value), (*path, name), origins)


def _line(text: str, origin: str) -> Iterator[str]:
    """One line, or two when the origin does not fit behind the value."""
    comment = f"# {origin}"
    column = max(0, min(ORIGIN_COLUMN, WIDTH - len(comment)))
    if len(text) + 1 <= column:
        yield f"{text:<{column}}{comment}"
    else:
        yield from (text, f"{'':<{column}}{comment}")
