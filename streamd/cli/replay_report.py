"""What `streamd replay` says: alerts as they come, the difference of two configurations, and what it came to."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

import orjson
import typer

from streamd.cli import tail
from streamd.cli.replay_sources import Source
from streamd.cli.text import counted, printable
from streamd.model import Alert
from streamd.replay import Both, Incident, Tally
from streamd.sinks.records import alert_record

_STREAMS_NAMED = 3


def line(alert: Alert, source: Source) -> bytes:
    """The alert as JSON: what the daemon publishes."""
    value = alert_record(alert, "", "").value
    assert value is not None
    return source.line(alert, value)


def sentence(alert: Alert, source: Source, width: int | None, more: str = "") -> str:
    """The alert as `streamd tail` shows it, with its place. Without times that mean anything the place stands first."""
    when, word, summary = tail.pieces(orjson.loads(line(alert, source)))
    place = source.place(alert)
    if not source.dated:
        return tail.laid_out(place.removeprefix("rows "), word, summary + more, width)
    return tail.laid_out(when, word, f"{summary} · {place}{more}", width)


def terminal_width() -> int | None:
    """None where the output is no terminal: then an alert is one line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def measured(tally: Tally, seconds: float) -> str:
    """How much was read, and how fast."""
    speed = tally.rows / max(seconds, 1e-9)
    read = f"{counted(tally.records, 'record')}, {counted(tally.rows, 'row')} judged"
    return f"{read} in {seconds:.1f} s ({speed:,.0f} rows/s)"


def summary(tally: Tally) -> list[str]:
    """What one configuration came to, in a few lines."""
    lines = [f"alerts: {_alerts(tally)}"]
    if tally.commands:
        lines.append(f"commands: {_listed(tally.commands)}")
    lines.append(f"references: {_references(tally)}")
    if tally.not_fitted:
        lines.append(f"not trained: {_named(tally.not_fitted)}")
    lines.append(f"dead letters: {_listed(tally.dead_letters) or 'none'}")
    for reason, letter in tally.first_dead_letters.items():
        envelope = letter.envelope
        place = f"{envelope.topic}/{envelope.partition}/{envelope.offset}"
        lines.append(f"  first {reason}: {place}: {letter.error}")
    return [printable(each) for each in lines]


def folded(lines: Iterable[str], width: int | None) -> list[str]:
    """The lines, none of them wider than the terminal."""
    if width is None:
        return list(lines)
    return [
        part
        for each in lines
        for part in textwrap.wrap(each, width, subsequent_indent="    ", break_on_hyphens=False) or [""]
    ]


def _alerts(tally: Tally) -> str:
    if not tally.severities:
        return "none"
    order = [word for word in ("critical", "warning", "info", "resolved") if tally.severities[word]]
    severities = ", ".join(f"{tally.severities[word]:,} {word}" for word in order)
    return f"{severities} ({_listed(tally.detectors)})"


def _references(tally: Tally) -> str:
    if not tally.references:
        return "none, so that nothing was compared with one"
    return _named(tally.references)


def _named(told: dict[str, str]) -> str:
    first = [f"{stream} {detail}" for stream, detail in list(told.items())[:_STREAMS_NAMED]]
    left = len(told) - len(first)
    return "; ".join(first) + (f"; {counted(left, 'stream')} more" if left else "")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in counts.most_common())


# --- Two configurations ---------------------------------------------------------------------------


def difference(groups: Sequence[Both], names: tuple[str, str], source: Source, width: int | None) -> list[str]:
    """The incidents that only the new configuration saw, only the old one, and both; each by its first alert."""
    new, old = names
    only_new = [group for group in groups if not group.old]
    only_old = [group for group in groups if not group.new]
    both = [group for group in groups if group.new and group.old]
    lines = []
    for title, chosen in ((f"only with {new}", only_new), (f"only with {old}", only_old), ("with both", both)):
        lines.append(typer.style(f"{title}: {counted(len(chosen), 'incident')}", bold=width is not None))
        lines += [_group(group, old, source, width) for group in chosen]
    return lines


def _group(group: Both, old: str, source: Source, width: int | None) -> str:
    shown = group.new or group.old
    more = _course(group.new or group.old)
    if group.new and group.old and not _alike(group):
        first = group.old[0].first
        when = tail.pieces(orjson.loads(line(first, source)))[0] + " · " if source.dated else ""
        more += f"; with {old} {first.severity.word} at {when}{source.place(first)}{_course(group.old)}"
    return sentence(shown[0].first, source, width, more)


def _alike(group: Both) -> bool:
    """Whether both configurations began at the same place, and went on alike."""
    new, old = group.new[0].first, group.old[0].first
    same_place = (new.window, new.severity) == (old.window, old.severity)
    return same_place and _course(group.new) == _course(group.old)


def _course(found: Sequence[Incident]) -> str:
    """What it grew into, and how often it came back."""
    worst = max(incident.severity for incident in found)
    grown = f", later {worst.word}" if worst > found[0].first.severity else ""
    return grown + (f", {len(found)} times" if len(found) > 1 else "")


def difference_lines(groups: Sequence[Both], source: Source) -> list[bytes]:
    """The same for machines: an incident a line, with every alert that each configuration gave."""
    lines = []
    for group in groups:
        sides = {"new": group.new, "old": group.old}
        alerts = {
            side: b"[" + b",".join(line(alert, source) for incident in found for alert in incident.alerts) + b"]"
            for side, found in sides.items()
        }
        where = "both" if group.new and group.old else "new" if group.new else "old"
        lines.append(b'{"in":"%b","new":%b,"old":%b}' % (where.encode(), alerts["new"], alerts["old"]))
    return lines
