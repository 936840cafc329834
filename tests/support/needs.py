"""What a test needs from outside: skipped with a reason on a developer's machine, a failure in CI."""

from __future__ import annotations

import importlib.util
import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """The test cannot run here. CI must run everything: there it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must not skip this: {reason}")
    pytest.skip(reason, allow_module_level=True)


def package(name: str, how: str) -> None:
    """For the head of a test module: without the package its tests cannot run."""
    if importlib.util.find_spec(name) is None:
        unavailable(f"the package {name} is not installed: {how}")
