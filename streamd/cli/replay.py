"""`streamd replay`: what the daemon would have said of a recording, a topic's past or a table."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from streamd.cli import replay_report as report
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar
from streamd.cli.record import From, To, place
from streamd.cli.replay_sources import (
    BadInputError,
    Source,
    TableOptions,
    TableSource,
    is_table,
    is_topic,
    recording,
    topic,
)
from streamd.cli.send import Exclude, FeatureColumns, Ids, Logits, Probabilities, roles
from streamd.config import Config
from streamd.model import Alert, DeadLetter
from streamd.replay import FitOnce, Replay, Tally, compare
from streamd.wiring import engine_factory, trainer, warm_up


@dataclass(slots=True)
class Side:
    """One configuration, and what it came to."""

    name: str
    config: Config
    tally: Tally = field(default_factory=Tally)
    alerts: list[Alert] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Output:
    """Where alerts go, and how: sentences or JSON to stdout, JSON to a file."""

    as_json: bool
    file: BinaryIO | None
    width: int | None

    def line(self, value: bytes) -> None:
        if self.as_json:
            typer.echo(value)
        if self.file is not None:
            self.file.write(value + b"\n")

    def text(self, sentence: str) -> None:
        if not self.as_json:
            typer.echo(sentence)

    def remark(self, sentence: str) -> None:
        """What is no alert: where lines are JSON it goes to stderr."""
        typer.echo(sentence, err=self.as_json)


def command(
    source: Annotated[
        str, typer.Argument(help="A recording of `streamd record`; a Parquet, CSV or Arrow file; else a topic.")
    ],
    config: ConfigOption = None,
    against: Annotated[
        Path | None, typer.Option(help="Another configuration file: show what --config changes from it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The alerts as published, one a line.")] = False,
    out: Annotated[Path | None, typer.Option(help="A file to save the alerts in, as with --json.")] = None,
    start: From = None,
    end: To = None,
    bootstrap_servers: BootstrapServers = None,
    reference: Annotated[
        Path | None, typer.Option(help="Of a table: the file with what is normal. Else its first rows.")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Of a table: the stream's name. Else the file's.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Of a table: rows in a batch.")] = 256,
    columns: FeatureColumns = None,
    exclude: Exclude = None,
    logits: Logits = None,
    probabilities: Probabilities = None,
    ids: Ids = None,
    time_column: Annotated[str | None, typer.Option("--time", help="The column with the rows' time.")] = None,
    every: Annotated[float, typer.Option(min=0.0, help="Without --time: seconds from batch to batch.")] = 60.0,
) -> None:
    """Try detectors and policy on data that has been: show what would have fired.

    The daemon's own engine runs over the same bytes: the alerts are those of a
    daemon that began at the first record, ids included. Nothing is written to
    Kafka, and nobody's place in a topic moves. Silence is not replayed: alerts
    about missing data or acknowledgements come from the clock.

    A table is sent as `streamd send` would: --reference first, then batches
    of --rows. Its rows are counted from 0.
    """
    quiet_client()
    names = _names(config, against)
    sides = [Side(names[0], load_config(bootstrap_servers, config))]
    if against is not None:
        sides.append(Side(names[1], load_config(bootstrap_servers, against)))
    given: dict[str, object] = {"--reference": reference, "--stream": stream, "--columns": columns}
    given |= {"--exclude": exclude, "--logits": logits, "--probabilities": probabilities}
    given |= {"--ids": ids, "--time": time_column}
    chosen = roles(columns, exclude, logits, probabilities, ids, time_column)
    options = TableOptions(stream or Path(source).name.split(".")[0], chosen, reference, rows, every)
    try:
        records = open_source(source, sides[0].config, options, {"--from": start, "--to": end}, given)
        with _file(out) as file:
            # In a JSON stream on a terminal there is no room for a bar.
            _run(records, sides, Output(as_json, file, None if as_json else report.terminal_width()))
    except BadInputError as error:
        fail(error.code, str(error))


def _names(config: Path | None, against: Path | None) -> tuple[str, str]:
    """What the two configurations are called: short, and not the same."""
    paths = [config, against]
    short = [path.name if path is not None else "the defaults" for path in paths]
    if short[0] == short[1]:
        short = [str(path) for path in paths]
    return short[0], short[1]


def open_source(
    name: str, config: Config, options: TableOptions, stretch: dict[str, str | None], given: dict[str, object]
) -> Source:
    """What the name stands for. Options that would have no effect on it are refused."""
    if is_topic(name):
        _refuse(given, f"{name} is taken for a topic, there being no such file")
        return topic(config, name, *(place(*option) for option in stretch.items()))
    if is_table(Path(name)):
        _refuse(dict(stretch), f"{name} is a table")
        table = TableSource(Path(name), options, config.topics.features)
        if table.left_out:
            typer.echo(f"left out, since {name} has no such column: {', '.join(table.left_out)}", err=True)
        return table
    _refuse(given, f"{name} is a recording")
    return recording(Path(name), *(place(*option) for option in stretch.items()))


def _refuse(options: dict[str, object], why: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"{why}: {option} means nothing for it")


@contextlib.contextmanager
def _file(path: Path | None) -> Iterator[BinaryIO | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("wb")
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{path}: {error.strerror or error}")
    with file:
        yield file


def _run(source: Source, sides: list[Side], output: Output) -> None:
    """All records through each side's engines, then what it came to; that much also where the records end badly."""
    for side in sides:
        warm_up(side.config)
    ended: ExitCode | BadInputError | None = None
    started = time.monotonic()
    try:
        _step(source, sides, output)
    except BadInputError as error:
        if not sides[0].tally.rows:
            raise
        ended = error
    except KeyboardInterrupt:
        ended = ExitCode.INTERRUPTED
    seconds = time.monotonic() - started
    letters = list(sides[0].tally.first_dead_letters.values())
    if ended is None and isinstance(source, TableSource) and letters and not sides[0].tally.rows:
        raise BadInputError(ExitCode.DATA, f"no batch of the table can be used: {letters[0].error}")
    if len(sides) > 1:
        _differ(source, sides, output)
    lines = [report.measured(sides[0].tally, seconds)]
    for side in sides:
        lines += [f"with {side.name}:"] * (len(sides) > 1) + report.summary(side.tally)
    for line in ["", *report.folded(lines, output.width)]:
        output.remark(line)
    if isinstance(ended, BadInputError):
        raise ended
    if ended is not None:
        fail(ended, "interrupted")


def _step(source: Source, sides: list[Side], output: Output) -> None:
    fit = FitOnce(trainer()) if len(sides) > 1 else trainer()
    replays = [Replay(engine_factory(side.config), fit, source.envelopes) for side in sides]
    with bar(source.rows, "rows", shown=not output.as_json) as advance:
        for envelope in source.envelopes():
            for side, replay in zip(sides, replays, strict=True):
                effects = replay.step(envelope)
                side.tally.count(effects)
                for effect in effects:
                    if isinstance(effect, DeadLetter):
                        source.refused(effect)
                    elif isinstance(effect, Alert):
                        side.alerts.append(effect)
                        if len(sides) == 1:
                            output.line(report.line(effect, source))
                            output.text(report.sentence(effect, source, output.width))
            advance(sides[0].tally.rows)


def _differ(source: Source, sides: list[Side], output: Output) -> None:
    new, old = sides
    groups = compare(new.alerts, old.alerts)
    for line in report.difference_lines(groups, source):
        output.line(line)
    for sentence in report.difference(groups, (new.name, old.name), source, output.width):
        output.text(sentence)
