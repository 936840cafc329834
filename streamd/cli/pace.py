"""How fast a verb sends, and how far it is: `--rate` and the progress bar."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

_T = TypeVar("_T")


def interval(rate: str | None, nouns: str) -> float:
    """`10/s` -> 0.1 seconds between two; None -> 0. Raises typer.BadParameter."""
    if rate is None:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/([smh]))?", rate.strip())
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"--rate is {nouns} a second, minute or hour, such as 10/s or 30/m, not {rate!r}")
    return _UNIT_SECONDS[match[2] or "s"] / float(match[1])


def paced(items: Iterator[_T], seconds_each: float) -> Iterator[_T]:
    """The same, none before its time. What was late is made up for, so that the rate holds on average."""
    started = time.monotonic()
    for number, item in enumerate(items):
        ahead = started + number * seconds_each - time.monotonic()
        if seconds_each and ahead > 0:
            time.sleep(ahead)
        yield item


@contextmanager
def bar(total: int | None, nouns: str, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, to be told how many are done; elsewhere nothing.

    Args:
        total: how many there are; None: nobody knows.
        nouns: of what.
        shown: False: no bar after all.
    """

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} {nouns}/s")

    console = Console(stderr=True)
    columns = (TextColumn(nouns), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    disabled = not (shown and console.is_terminal)
    # rich sends what is printed meanwhile to the bar's console, stderr: right for a terminal, wrong for a pipe.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=console, disable=disabled, transient=True, redirect_stdout=redirect) as progress:
        task = progress.add_task(nouns, total=total)
        yield lambda done: progress.update(task, completed=done)
