"""`streamd screen`: what is wrong with a data set, before a model learns it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streamd import __version__
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar
from streamd.cli.text import counted
from streamd.errors import StreamdError

if TYPE_CHECKING:
    from streamd.screening.model import Screening

_FOUND = 1  # the exit code of --fail-on: the data is as bad as was asked about


@dataclass(frozen=True)
class Subject:
    """What is screened: a path or an Arrow table, and what to call it."""

    data: Any
    name: str | None = None


# readable=False: typer does not ask whether a file may be read. It would end as a wrong command line, with 64.
Data = Annotated[
    Path | None, typer.Argument(readable=False, help="Parquet, CSV, Arrow or npz file, or a folder of them.")
]
Reference = Annotated[
    Path | None, typer.Option(readable=False, help="Another data set to compare with: what was trained on, last month.")
]
RulesFile = Annotated[Path | None, typer.Option(readable=False, help="rules.yaml: ranges, sets, patterns, relations.")]
Html = Annotated[Path | None, typer.Option(help="Write one page with pictures to this file.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write all findings to this file; - is stdout.")]
Profile = Annotated[Path | None, typer.Option(help="Write a bundle: what the daemon compares with. A folder.")]
Split = Annotated[Path | None, typer.Option(help="Write clean.parquet and suspicious.parquet to this folder.")]
Exclude = Annotated[str | None, typer.Option(help="Not in --profile and --publish, as label and time are not: a,b.")]
FailOn = Annotated[
    Literal["warning", "critical"] | None, typer.Option(help="Exit with 1 where a finding is that grave.")
]


def command(
    data: Data = None,
    label: Annotated[str | None, typer.Option(help="The column that a model is to predict.")] = None,
    time_column: Annotated[str | None, typer.Option("--time", help="The column that orders the rows.")] = None,
    reference: Reference = None,
    rules: RulesFile = None,
    window_hours: Annotated[float, typer.Option(min=1e-6, help="Of the moving mean over --time.")] = 24.0,
    factor: Annotated[float, typer.Option(min=0, help="Deviations about it that are usual.")] = 2.5,
    forest: Annotated[bool, typer.Option(help="Name the strangest rows.")] = True,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Where the work is done.")] = "local",
    html: Html = None,
    json_: Json = None,
    profile: Profile = None,
    replace_: Annotated[bool, typer.Option("--replace", help="Put --profile in place of the one there.")] = False,
    split: Split = None,
    publish: Annotated[str | None, typer.Option(help="Send the rows as the reference of this stream.")] = None,
    exclude: Exclude = None,
    fail_on: FailOn = None,
    top: Annotated[int, typer.Option(min=0, help="Findings to show here.")] = 25,
    topic: Annotated[str | None, typer.Option("--from-topic", help="Screen a topic in place of a file.")] = None,
    stream: Annotated[str | None, typer.Option(help="With --from-topic: the stream.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --from-topic: an offset or a time.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --from-topic: an offset or a time.")] = None,
    rows_max: Annotated[int, typer.Option(min=1, help="With --from-topic: rows, the last ones.")] = 1_000_000,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Say what is wrong with a data set before a model learns it.

    streamd screen train.parquet --label churned --time at --html train.html
    """
    if (data is None) == (topic is None):
        raise typer.BadParameter("name a file, or --from-topic TOPIC")
    subject = Subject(data)
    if topic is not None:
        if stream is None:
            raise typer.BadParameter("--from-topic needs --stream: a topic holds many")
        subject = _slice(topic, stream, start, end, rows_max, bootstrap_servers, config)
    options = {"reference": reference, "label": label, "time": time_column, "rules": rules, "engine": engine,
               "window_seconds": window_hours * 3600, "factor": factor, "forest": forest}  # fmt: skip
    found = _screened(subject, options)
    left_out = {name for name in (label, time_column, *_names(exclude)) if name is not None}
    if str(json_) == "-":
        typer.echo(_json(found), nl=False)
    else:
        _tell(found, top)
    with redirect_stdout(sys.stderr) if str(json_) == "-" else nullcontext():  # the JSON stands alone
        _write(found, html, json_)
        if profile is not None:
            _write_profile(found, left_out, profile, replace_)
        if split is not None:
            _write_split(subject, found, split)
        if publish is not None:
            _publish(subject, found, left_out, publish, bootstrap_servers, config)
    if fail_on is not None and found.severity is not None and found.severity >= _severity(fail_on):
        sys.stdout.flush()
        raise typer.Exit(_FOUND)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _severity(word: str) -> Any:
    from streamd.screening.model import Severity

    return Severity[word.upper()]


def _slice(
    topic: str, stream: str, start: str | None, end: str | None, rows_max: int, servers: str | None, config: Path | None
) -> Subject:
    """The rows of a stream in a slice of a topic."""
    from streamd.cli.training_rows import from_topic
    from streamd.fitting.folder import arrow_table
    from streamd.transport.kafka_range import parse_place

    quiet_client()
    places = [None if place is None else parse_place(place) for place in (start, end)]
    rows = from_topic(load_config(servers, config), topic, stream, places[0], places[1], rows_max)
    return Subject(arrow_table(rows.table), rows.source)


def _screened(subject: Subject, options: dict[str, Any]) -> Screening:
    """The screening; says what is wrong and exits where the data cannot be used."""
    from streamd.screening import screen

    started = time.monotonic()
    with _sentences(), _progress() as progress:
        found: Screening = screen(subject.data, progress=progress, **options)
    name = found.source if subject.name is None else subject.name
    return replace(found, source=name, seconds=time.monotonic() - started)


@contextmanager
def _sentences() -> Iterator[None]:
    """What is wrong with the data as a sentence and an exit code."""
    from streamd.dataset import DataFileError, NotReadableError
    from streamd.screening.engine_ray import NoRayError

    try:
        yield
    except FileNotFoundError as error:
        fail(ExitCode.NO_INPUT, f"there is no file {error.filename or error}")
    except PermissionError as error:
        fail(ExitCode.NO_INPUT, f"{error.filename} may not be read")
    except NotReadableError as error:
        fail(ExitCode.NO_INPUT, str(error))
    except DataFileError as error:
        fail(ExitCode.DATA, str(error))
    except NoRayError as error:
        fail(ExitCode.UNAVAILABLE, str(error))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with an estimate, once it is known how much there is to read."""
    with ExitStack() as stack:
        advance: list[Callable[[int], None]] = []

        def progress(done: int, total: int) -> None:
            if not advance:
                advance.append(stack.enter_context(bar(total, "rows read")))
            advance[0](done)

        yield progress


# --- What is told ---------------------------------------------------------------------------------


def _tell(found: Screening, top: int) -> None:
    from rich.console import Console

    from streamd.cli.screen_report import report

    report(Console(highlight=False, markup=False), found, top)


def _json(found: Screening) -> str:
    return json.dumps(found.to_json(), allow_nan=False, indent=2, ensure_ascii=False) + "\n"


def _write(found: Screening, html: Path | None, json_: Path | None) -> None:
    from streamd.cli.scoring import write_text

    if json_ is not None and str(json_) != "-":
        write_text(json_, _json(found))
    if html is not None:
        from streamd.screening.page import page

        write_text(html, page(found))


def _write_profile(found: Screening, left_out: set[str], out: Path, replaced: bool) -> None:
    from streamd.fitting.folder import BundleError, write
    from streamd.screening.profile import profile

    bundle = profile(found, left_out)
    if not bundle.reference.numeric and not bundle.reference.categorical:
        fail(ExitCode.DATA, "there is no column of numbers or categories to make a profile of")
    made = {"streamd": __version__, "made": datetime.now(UTC).isoformat(timespec="seconds"), **bundle.description}
    try:
        write(out, replace(bundle, description=made), replace=replaced)
    except BundleError as error:
        fail(ExitCode.CANNOT_CREATE, str(error))
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{out} cannot be written: {error.strerror or error}")
    typer.echo(f"written: {out}, for streamd.yaml: reference: {{bundle: {out.resolve()}}}")


def _write_split(subject: Subject, found: Screening, folder: Path) -> None:
    from streamd.screening.source import open_source
    from streamd.screening.split import split

    try:
        with _sentences():
            clean, odd = split(open_source(subject.data), found.suspicious, folder)
    except StreamdError:
        raise
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{folder} cannot be written: {error.strerror or error}")
    typer.echo(f"written: {folder}: {counted(clean, 'clean row')}, {counted(odd, 'suspicious row')}")


def _publish(
    subject: Subject, found: Screening, left_out: set[str], stream: str, servers: str | None, config: Path | None
) -> None:
    """The rows that are not suspicious as reference batches; waits until Kafka has them."""
    from streamd.cli.batches import Batch
    from streamd.cli.send import send_all
    from streamd.screening.profile import features
    from streamd.screening.publish import reference
    from streamd.screening.source import open_source

    columns = features(found, left_out)
    if not columns:
        fail(ExitCode.DATA, "there is no column of numbers or categories to publish")
    quiet_client()
    with _sentences():
        rows = reference(open_source(subject.data), found, columns)
    batches = (Batch(batch.num_rows, batch, None, None, None, None) for batch in rows.batches)
    send_all(load_config(servers, config), stream, batches, rows.rows, rows.parts)
