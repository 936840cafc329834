"""`streamd dlq`: look at the records that could not be used, and send them back once the cause is gone."""

from __future__ import annotations

import datetime
import difflib
import heapq
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from streamd.cli import resending
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.letters import Row, as_line, by_reason, row, table, whole
from streamd.cli.pace import interval
from streamd.cli.text import counted
from streamd.config import Config
from streamd.dead_letters import Letter, Wanted, read_letter
from streamd.errors import Reason
from streamd.model import Envelope
from streamd.transport.kafka_range import parse_place, read_range

_SHOWN = 50  # of the table, unless --max says otherwise: a screen or two
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

command = typer.Typer(add_completion=False, no_args_is_help=True)

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="Only this reason, such as not_json. May be repeated.")
]
Topic = Annotated[str | None, typer.Option(help="Only records that came from this topic.")]
Stage = Annotated[Literal["decode", "validate", "process"] | None, typer.Option(help="Only those that got so far.")]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only records of the last 30m, 1h, 7d, or since a time. It is the record's own time that counts."
    ),
]


@command.callback()
def dlq() -> None:
    """Look at the records that could not be used, and send them back once the cause is gone."""


@command.command()
def ls(
    reason: Reasons = None,
    topic: Topic = None,
    stage: Stage = None,
    since: Since = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help=f"So many, the newest. Else {_SHOWN}; with --json all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """List dead letters, oldest first, and count them by reason."""
    quiet_client()
    wanted = _wanted(reason, topic, stage, since)
    settings = load_config(bootstrap_servers, config)
    counts: Counter[str] = Counter()
    strangers = 0

    def chosen() -> Iterator[Letter]:
        nonlocal strangers
        for _, letter in read(settings, wanted):
            if letter is None:
                strangers += 1
            else:
                counts[letter.reason] += 1
                yield letter

    if as_json:
        _print_json(chosen(), most)
        return
    rows = sorted(heapq.nlargest(most or _SHOWN, (row(letter) for letter in chosen())))
    for line in table(rows, _terminal_width()):
        typer.echo(line)
    typer.echo(_total(rows, counts, wanted))
    if strangers:
        typer.echo(f"{counted(strangers, 'record')} of {settings.topics.dlq} that streamd did not write: left out")


@command.command()
def show(
    place: Annotated[str, typer.Argument(help="topic/partition/offset: the original's, or the dead letter's own.")],
    raw: Annotated[bool, typer.Option("--raw", help="The value alone, byte for byte: --raw > file.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Show one dead letter: what is wrong with it, its headers, and how its value begins."""
    quiet_client()
    topic, partition, offset = _place(place)
    settings = load_config(bootstrap_servers, config)
    letter = _find(settings, topic, partition, offset)
    if letter is None:
        what = "no dead letter" if topic == settings.topics.dlq else f"no dead letter of it in {settings.topics.dlq}"
        fail(ExitCode.NO_INPUT, f"{place}: there is {what}; `streamd dlq ls` shows what is there")
    if not raw:
        for line in whole(letter, shutil.get_terminal_size().columns):
            typer.echo(line)
        return
    if letter.original.value is None:
        typer.echo("streamd: the value is null: nothing is written", err=True)
    sys.stdout.buffer.write(letter.original.value or b"")
    sys.stdout.buffer.flush()


@command.command()
def replay(
    reason: Reasons = None,
    topic: Topic = None,
    stage: Stage = None,
    since: Since = None,
    to: Annotated[str | None, typer.Option(help="Another topic than the one that they came from.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    rate: Annotated[str | None, typer.Option(help="Records a second (10/s), minute (10/m) or hour. Else at once.")] = (
        None
    ),
    again: Annotated[
        bool, typer.Option("--again", help="Also those that came back from an earlier replay. Else they are left.")
    ] = False,
    after: Annotated[
        str | None, typer.Option(help="Go on where a replay was interrupted; it says with what, such as 0:41,1:7.")
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Send the originals back to where they came from: the same key, value, headers and time.

    Each carries one header more, dlq.replayed, so that one that fails again is known and is not sent for ever.
    Those that were sent back once stay in the dead letters: bound a second replay with --since or --reason.
    """
    quiet_client()
    seconds_each = interval(rate, "records")
    wanted = _wanted(reason, topic, stage, since)
    skipped = resending.parse_after(after)
    settings = load_config(bootstrap_servers, config)
    plan = resending.Plan(lambda: read(settings, wanted), to, again, skipped)
    resending.run(settings, plan, named=topic, dry_run=dry_run, seconds_each=seconds_each)


def read(config: Config, wanted: Wanted) -> Iterator[tuple[Envelope, Letter | None]]:
    """The records of the dead-letter topic that are there now, with the dead letters among them that are wanted.

    A record that streamd did not write comes as None, unless something particular is wanted.
    """
    start = None if wanted.since_ms is None else datetime.datetime.fromtimestamp(wanted.since_ms / 1000, datetime.UTC)
    for record in read_range(config.kafka, config.topics.dlq, start, None):
        letter = read_letter(record)
        if (letter is None and wanted == Wanted()) or (letter is not None and wanted.matches(letter)):
            yield record, letter


def _find(config: Config, topic: str, partition: int, offset: int) -> Letter | None:
    """The dead letter at this place of the dead-letter topic, else the newest one of the original at this place."""
    dlq = config.topics.dlq
    if topic == dlq:
        for record in read_range(config.kafka, dlq, offset, None, partitions_only=[partition]):
            return read_letter(record) if record.offset == offset else None
        return None
    found = None
    for _, letter in read(config, Wanted(topic=topic)):
        if letter is not None and (letter.original.partition, letter.original.offset) == (partition, offset):
            found = letter
    return found


def _wanted(reasons: list[str] | None, topic: str | None, stage: str | None, since: str | None) -> Wanted:
    for reason in reasons or []:
        if reason not in set(Reason):
            close = difflib.get_close_matches(reason, list(Reason), 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(Reason)}"
            fail(ExitCode.USAGE, f"--reason: {reason!r} is none; {hint}")
    return Wanted(frozenset(reasons) if reasons else None, topic, stage, _since(since))


def _since(text: str | None) -> int | None:
    """`90s`, `30m`, `1h`, `7d` ago, or a time; epoch milliseconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if match:
        return int((time.time() - int(match[1]) * _UNIT_SECONDS[match[2]]) * 1000)
    try:
        moment = parse_place(text)
    except ValueError:
        moment = 0
    if not isinstance(moment, datetime.datetime):
        fail(ExitCode.USAGE, f"--since: {text!r} is neither a while (30m, 1h, 7d) nor a time (2026-11-22T08:00:00Z)")
    return int(moment.timestamp() * 1000)


def _place(text: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)/(\d+)/(\d+)", text)
    if match is None:
        fail(ExitCode.USAGE, f"{text!r} is no place: topic/partition/offset, such as streamd.features/3/1042")
    return match[1], int(match[2]), int(match[3])


def _print_json(letters: Iterator[Letter], most: int | None) -> None:
    if most is None:
        for letter in letters:
            typer.echo(as_line(letter))
        return
    newest = heapq.nlargest(most, ((letter.original.timestamp_ms, as_line(letter)) for letter in letters))
    for _, line in sorted(newest):
        typer.echo(line)


def _total(rows: list[Row], counts: Counter[str], wanted: Wanted) -> str:
    total = sum(counts.values())
    if total == 0:
        return "no dead letters" if wanted == Wanted() else "no dead letter matches"
    shown = f"the newest {len(rows):,} of " if len(rows) < total else ""
    return f"{shown}{counted(total, 'dead letter')}: {by_reason(counts)}"


def _terminal_width() -> int | None:
    """A file or a pipe gets everything; a terminal what fits."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
