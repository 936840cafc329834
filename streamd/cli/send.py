"""`streamd send`: the rows of a file as feature batches, or as a reference."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import typer

from streamd.cli.batches import Batch, Columns, DataFile
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar, interval, paced
from streamd.client import FeatureProducer
from streamd.config import Config
from streamd.dataset import DataFileError, NotReadableError
from streamd.errors import TransientError
from streamd.transport.kafka_auth import client_options

_CLOSE_SECONDS = 5.0

FeatureColumns = Annotated[
    str | None, typer.Option("--columns", help="The feature columns: a,b,c. Else all that are not below.")
]
Exclude = Annotated[str | None, typer.Option(help="Columns that are not looked at: a,b.")]
Logits = Annotated[str | None, typer.Option(help="The columns of the logits, one a class: a,b.")]
Probabilities = Annotated[
    str | None, typer.Option(help="The columns of the probabilities; one p alone becomes 1 - p, p.")
]
Ids = Annotated[str | None, typer.Option(help="The column that names the rows in alerts.")]


class Target(Protocol):
    """What `deliver` needs of a FeatureProducer."""

    def send(
        self,
        stream: str,
        features: object,
        *,
        logits: object = None,
        probabilities: object = None,
        ids: list[str] | None = None,
        ts: int | None = None,
        part: tuple[int, int] | None = None,
        wait_seconds: float = 0.0,
    ) -> bool: ...


@dataclass(slots=True)
class Progressed:
    """How far it got; `interrupted` by Ctrl-C."""

    rows: int = 0
    interrupted: bool = False


def command(
    file: Annotated[Path, typer.Argument(readable=False, help="Parquet, CSV, or Arrow (Feather) file.")],
    stream: Annotated[str, typer.Option(help="The stream's name, by habit model/version.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows in a batch.")] = 256,
    role: Annotated[Literal["data", "reference"], typer.Option(help="What was served, or what normal looks like.")] = (
        "data"
    ),
    rate: Annotated[str | None, typer.Option(help="Batches a second (10/s), minute (10/m) or hour. Else at once.")] = (
        None
    ),
    columns: FeatureColumns = None,
    exclude: Exclude = None,
    logits: Logits = None,
    probabilities: Probabilities = None,
    ids: Ids = None,
    time_column: Annotated[
        str | None, typer.Option("--time", help="The column with the rows' time. Else they happen now.")
    ] = None,
    format: Annotated[Literal["json", "arrow"], typer.Option(help="How the batches are written.")] = "json",
    topic: Annotated[str | None, typer.Option(help="Else the configured topic of the features.")] = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds without progress after which to give up.")] = 15.0,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Send the rows of a file as feature batches."""
    seconds_per_batch = interval(rate, "batches")
    data, total = open_file(file, roles(columns, exclude, logits, probabilities, ids, time_column))
    quiet_client()
    parts, batches = reference_parts(data, rows) if role == "reference" else (None, data.batches(rows))
    settings = load_config(bootstrap_servers, config)
    send_all(settings, stream, paced(batches, seconds_per_batch), total, parts, format, topic, timeout)


def send_all(
    config: Config,
    stream: str,
    batches: Iterator[Batch],
    total: int,
    parts: int | None,
    format: Literal["json", "arrow"] = "arrow",
    topic: str | None = None,
    timeout: float = 15.0,
) -> None:
    """Send the batches, wait until Kafka has them all, and say so; or say what is wrong and exit.

    Args:
        total: rows of all batches.
        parts: how many batches make one reference; None: they are data.
        topic: None: the configured one.
        timeout: seconds without progress after which to give up.
    """
    producer = _producer(config, topic, format)
    progress = Progressed()
    started = time.monotonic()
    try:
        with bar(total, "rows") as advance:
            producer.connect(timeout)
            deliver(producer, stream, batches, progress, parts, timeout, advance)
        _settle(producer, timeout)
    except KeyboardInterrupt:
        progress.interrupted = True
        producer.flush(_CLOSE_SECONDS)
    except (DataFileError, ValueError, TypeError) as error:
        producer.close(_CLOSE_SECONDS)
        fail(ExitCode.DATA, f"{error} ({_count(producer)} sent before that)")
    except TransientError:
        producer.close(0.0)
        raise
    producer.close(0.0)
    _summary(producer, progress, total, stream, "data" if parts is None else "reference", time.monotonic() - started)


def deliver(
    target: Target,
    stream: str,
    batches: Iterator[Batch],
    progress: Progressed,
    parts: int | None,
    timeout: float,
    advance: Callable[[int], None],
) -> None:
    """Queue the batches one by one, as `parts` parts of a reference or as data. Nothing is dropped."""
    for number, batch in enumerate(batches, start=1):
        target.send(
            stream,
            batch.features,
            logits=batch.logits,
            probabilities=batch.probabilities,
            ids=batch.ids,
            ts=batch.ts,
            part=None if parts is None else (number, parts),
            wait_seconds=max(timeout, 0.001),
        )
        progress.rows += batch.rows
        advance(progress.rows)


def roles(
    columns: str | None,
    exclude: str | None,
    logits: str | None,
    probabilities: str | None,
    ids: str | None,
    time_column: str | None,
) -> Columns:
    """What the options of the same names say. BadParameter when they contradict each other."""
    if logits and probabilities:
        raise typer.BadParameter("give --logits or --probabilities, not both")
    if columns and exclude:
        raise typer.BadParameter("give --columns or --exclude, not both")
    return Columns(_names(columns) or None, _names(exclude), _names(logits), _names(probabilities), ids, time_column)


def open_file(file: Path, columns: Columns) -> tuple[DataFile, int]:
    """The file and how many rows it has."""
    try:
        data = DataFile(file, columns)
        total = data.count()
    except FileNotFoundError:
        fail(ExitCode.NO_INPUT, f"there is no file {file}")
    except NotReadableError as error:
        fail(ExitCode.NO_INPUT, str(error))
    except DataFileError as error:
        fail(ExitCode.DATA, str(error))
    if total == 0:
        fail(ExitCode.DATA, f"{file} has no rows")
    return data, total


def reference_parts(data: DataFile, rows: int) -> tuple[int, Iterator[Batch]]:
    """See `DataFile.parts`."""
    try:
        return data.parts(rows)
    except (DataFileError, ValueError) as error:
        fail(ExitCode.DATA, str(error))


def _producer(config: Config, topic: str | None, format: Literal["json", "arrow"]) -> FeatureProducer:
    options = client_options(config.kafka)
    servers = options.pop("bootstrap_servers")
    try:
        return FeatureProducer(servers, topic or config.topics.features, format=format, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _settle(producer: FeatureProducer, timeout: float) -> None:
    """Wait until all is acknowledged. Raises TransientError after `timeout` seconds in which nothing was."""
    before = -1
    while producer.stats.sent != before:
        before = producer.stats.sent
        if producer.flush(timeout):
            return
    left = producer.stats.queued
    raise TransientError(f"Kafka stopped answering: {before} batches were sent, {left} were not acknowledged")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _count(producer: FeatureProducer) -> str:
    sent = producer.stats.sent
    return f"{sent:,} batch{'' if sent == 1 else 'es'}"


def _summary(
    producer: FeatureProducer, progress: Progressed, total: int, stream: str, role: str, seconds: float
) -> None:
    """One line that says what became of it, and the exit code that goes with it."""
    stats = producer.stats
    what = f"reference of {stream}" if role == "reference" else stream
    if progress.interrupted:
        rows = f"{progress.rows:,}" if stats.queued + stats.dropped == 0 else f"fewer than {progress.rows:,}"
        incomplete = "; the reference is not complete and has no effect" if role == "reference" else ""
        fail(
            ExitCode.INTERRUPTED,
            f"interrupted: {_count(producer)} sent to {what}, {rows} of {total:,} rows{incomplete}",
        )
    if stats.failed or stats.dropped:
        lost = stats.failed + stats.dropped
        fail(ExitCode.UNAVAILABLE, f"{_count(producer)} sent to {what}, {lost} not: {producer.last_error}")
    speed = progress.rows / max(seconds, 1e-9)
    typer.echo(f"{what}: {progress.rows:,} rows in {_count(producer)} sent in {seconds:.1f} s ({speed:,.0f} rows/s)")
    sys.stdout.flush()
