"""`streamd version`: what runs here, for a bug report."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

import streamd

PACKAGES = ("kafka-python", "numpy", "scipy", "numba", "torch", "river", "pyarrow", "pydantic", "orjson")
"""What decides about results and about what goes over the wire."""


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
    short: Annotated[bool, typer.Option("--short", help="Print the version of streamd alone.")] = False,
) -> None:
    """Print the version, and those of what streamd stands on."""
    versions = {"streamd": streamd.__version__}
    if not short:
        versions |= {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    if as_json:
        print(json.dumps(versions, indent=2))
    elif short:
        print(streamd.__version__)
    else:
        for name, number in versions.items():
            print(f"{name:<13} {number}")


def _version(package: str) -> str:
    """From the package's metadata: importing torch to ask it takes seconds."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
