"""What the demo shows: where to look, a live table of the streams, alerts as they fire, and a summary."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_SUMMARY_COLUMN = 18  # behind the time and the word
_COLORS = {"none": "green", "info": "cyan", "warning": "yellow", "critical": "bold red"}


class Screen:
    """A table that stays at the bottom of a terminal while alerts scroll above it; plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._states: dict[str, str] = {}

    def addresses(self, admin_url: str, bootstrap_servers: str, tail: str, log: str) -> None:
        """Where to look. Lines that a person copies stand alone."""
        print_ = self._console.print
        print_()
        print_(f"  Live page   [bold]{admin_url}/[/]", highlight=False)
        print_(f"  Metrics     {admin_url}/metrics", highlight=False)
        print_(f"  Admin       {admin_url}/streams", highlight=False)
        print_(f"  Kafka       {bootstrap_servers}, alerts on the topic streamd.alerts", highlight=False)
        print_(f"  Daemon log  {log}", highlight=False)
        print_("\n  Read the alerts in another terminal:", highlight=False)
        print_(f"  [bold]{tail}[/]\n", highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def start(self) -> None:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def streams(self, streams: Sequence[Mapping[str, Any]], note: str) -> None:
        """Draw the table anew. Where there is no terminal, say only which stream changed its state."""
        if self._live is not None:
            self._live.update(_table(streams, note))
            return
        for stream in streams:
            if self._states.get(stream["stream"]) != stream["state"]:
                self._states[stream["stream"]] = stream["state"]
                self.say(f"{stream['stream']}: {stream['state']}")

    def alert(self, time: str, status: str, severity: str, summary: str) -> None:
        """One alert, as a sentence."""
        color = "green" if status == "resolved" else _COLORS.get(severity, "white")
        self.event(time, "resolved" if status == "resolved" else severity, color, summary)

    def event(self, time: str, word: str, color: str, text: str) -> None:
        """What happened: when, what it is in a word, and a sentence, wrapped under itself."""
        first, *rest = textwrap.wrap(
            text, max(40, self._console.width - _SUMMARY_COLUMN), break_on_hyphens=False, break_long_words=False
        )
        self._console.print(Text.assemble((f"{time} ", "dim"), (f"{word:<9}", color), first), highlight=False)
        for more in rest:
            self._console.print(" " * _SUMMARY_COLUMN + more, highlight=False)

    def typed(self, line: str) -> None:
        """A command as a person types it."""
        self._console.print(Text.assemble(("$ ", "dim"), (line, "bold")), highlight=False, soft_wrap=True)


def _table(streams: Sequence[Mapping[str, Any]], note: str) -> Table:
    table = Table(expand=True, caption=note, caption_justify="left", pad_edge=False)
    table.add_column("stream", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("last judgements", no_wrap=True, overflow="ellipsis", ratio=1)
    for stream in streams:
        state = stream["severity"] if stream["state"] == "firing" else stream["state"]
        color = _COLORS[stream["severity"]] if stream["state"] == "firing" else "green"
        table.add_row(stream["stream"], f"{stream['rows']:,}", Text(state, color), _judgements(stream))
    return table


def _judgements(stream: Mapping[str, Any]) -> Text:
    """The detectors with their grade, gravest first."""
    order = list(_COLORS)
    grades: dict[str, str] = {}
    for judgement in stream["judgements"]:
        detector, severity = judgement["detector"], judgement["severity"]
        if order.index(severity) >= order.index(grades.get(detector, "none")):
            grades[detector] = severity
    text = Text()
    for detector, severity in sorted(grades.items(), key=lambda item: -order.index(item[1])):
        text.append(f"{detector} ", _COLORS[severity])
    return text
