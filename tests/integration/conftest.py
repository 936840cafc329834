"""Daemons for the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemons import Daemon


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes and starts daemons; `start=False` makes one without starting it. Arguments are Daemon's."""
    daemons: list[Daemon] = []

    def make(bootstrap_servers: str, *, start: bool = True, **environment: str) -> Daemon:
        daemon = Daemon(bootstrap_servers, tmp_path, **environment)
        daemons.append(daemon)
        if start:
            daemon.start()
        return daemon

    yield make
    for daemon in daemons:
        daemon.close()
