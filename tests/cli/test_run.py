"""`streamd run`: one process, or a parent and its workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamd import daemon, fleet, parent_line
from streamd.cli import main
from streamd.cli.exit_codes import ExitCode


class Started:
    """What would have been started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alone: list[tuple[int, Any]] = []
        self.fleets: list[tuple[int, list[str]]] = []
        monkeypatch.setattr(daemon, "run", self._alone)
        monkeypatch.setattr(fleet, "run", lambda config, given: self.fleets.append((config.workers, given)) or 0)
        monkeypatch.setattr(parent_line, "ParentLine", lambda number: f"line of {number}")

    def _alone(self, load: Callable[[], Any], parent: Any = None) -> int:
        self.alone.append((load().workers, parent))
        return 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["run", *arguments])
    return int(caught.value.code or 0)


def test_without_workers_there_is_one_process(started: Started) -> None:
    assert run() == 0
    assert (started.alone, started.fleets) == ([(1, None)], [])


def test_workers_come_from_the_option_the_environment_or_the_file(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "streamd.yaml"
    file.write_text("workers: 4\n")
    run("--config", str(file))
    monkeypatch.setenv("STREAMD_WORKERS", "3")
    run("--config", str(file), "--no-create-topics")
    run("--workers", "2", "--create-topics")
    assert started.fleets == [
        (4, ["--config", str(file)]),
        (3, ["--config", str(file), "--no-create-topics"]),
        (2, ["--create-topics"]),
    ]
    run("--workers", "1")
    assert started.alone == [(1, None)]


def test_a_worker_is_one_process_whatever_is_configured(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMD_WORKERS", "3")
    run("--worker", "1")
    assert (started.alone, started.fleets) == ([(3, "line of 1")], [])


def test_a_number_of_workers_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--workers", "0") == ExitCode.USAGE
    monkeypatch.setenv("STREAMD_WORKERS", "0")
    assert run() == ExitCode.CONFIG
