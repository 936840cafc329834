"""`streamd fit`: learn what normal rows look like, and write it down as a bundle."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from streamd import __version__
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar
from streamd.cli.training_rows import TrainingRows, from_file, from_topic
from streamd.fitting.base import Epoch, FitError, Progress, ScorerSettings
from streamd.fitting.folder import BundleError, BundleFolder, write
from streamd.fitting.learning import Fit, FitOptions, fit
from streamd.fitting.registry import SCORERS
from streamd.fitting.thresholds import AnyThreshold
from streamd.scorers.fitted import to_bytes
from streamd.transport.kafka_range import parse_place

_REFERENCE_ROWS = 20_000  # kept in the bundle for the detectors that compare columns: the judges keep 2,000 of them

# readable=False: typer does not ask whether a file may be read. It would end as a wrong command line, with 64.
Data = Annotated[
    Path | None,
    typer.Argument(readable=False, help="Parquet, CSV, Arrow or npz file, a folder of them, or of images."),
]
Option = Annotated[list[str] | None, typer.Option("--set", help="An option of the scorer: hidden=[16,8]. Repeatable.")]
Out = Annotated[Path, typer.Option(help="The folder to write, such as monitors/fraud-7.")]


def command(
    data: Data = None,
    scorer: Annotated[str, typer.Option(help="Which: " + ", ".join(SCORERS))] = "autoencoder",
    out: Out = Path("bundle"),
    replace: Annotated[bool, typer.Option("--replace", help="Put it in place of the bundle that is there.")] = False,
    labels: Annotated[
        str | None, typer.Option(help="A column of 0 and 1; 1 is abnormal: not learned from, used for the threshold.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="The feature columns: a,b,c. Else all.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Columns that are not looked at: a,b.")] = None,
    threshold: Annotated[
        str, typer.Option(help="How the row threshold is chosen: quantile:level=0.99, evt:rate=1e-4, best_f1, …")
    ] = "quantile",
    trim: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the worst rows that a second fit leaves out: 0.05.")
    ] = 0.0,
    set_: Option = None,
    search: Annotated[
        bool, typer.Option("--search", help="Try several architectures by cross-validation; take the best.")
    ] = False,
    rows_max: Annotated[
        int, typer.Option(min=20, help="Rows of a long file that are learned from, from all of it.")
    ] = (200_000),
    topic: Annotated[str | None, typer.Option("--from-topic", help="Learn from a topic in place of a file.")] = None,
    stream: Annotated[str | None, typer.Option(help="With --from-topic: the stream.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --from-topic: an offset or a time.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --from-topic: an offset or a time.")] = None,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Fit a scorer to rows that are mostly normal, and write a bundle.

    streamd fit normal.parquet --scorer isolation --out monitors/fraud-7

    The daemon runs it with `reference: {bundle: monitors/fraud-7}`; `streamd evaluate` says how good it is.
    """
    settings = settings_of(scorer, set_ or [])
    chosen = threshold_of(threshold)
    if (data is None) == (topic is None):
        raise typer.BadParameter("name a file, or --from-topic TOPIC")
    if topic is None:
        assert data is not None
        rows = from_file(data, _names(columns), _names(exclude) or (), labels, rows_max)
    elif stream is None:
        raise typer.BadParameter("--from-topic needs --stream: a topic holds many")
    else:
        quiet_client()
        first, last = (None if place is None else parse_place(place) for place in (start, end))
        rows = from_topic(load_config(bootstrap_servers, config), topic, stream, first, last, rows_max)
    try:
        if search:
            settings = _searched(settings, rows)
        with bar(None, "epochs") as advance:
            losses: list[Epoch] = []
            fitted = fit(settings, rows.table, rows.labels, FitOptions(chosen, trim), _watching(losses, advance))
    except FitError as error:
        fail(ExitCode.DATA, f"{rows.source}: {error}")
    _write(out, replace, settings, rows, fitted, losses)
    _told(out, rows, fitted)


def settings_of(scorer: str, options: list[str]) -> ScorerSettings:
    """The settings of that type with `key=value` laid over them. BadParameter for what does not exist."""
    if scorer not in SCORERS:
        raise typer.BadParameter(f"--scorer is one of {', '.join(SCORERS)}, not {scorer!r}")
    given: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set wants key=value, not {option!r}")
        given[key.strip()] = yaml.safe_load(value)
    try:
        return SCORERS[scorer].model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        known = ", ".join(name for name in SCORERS[scorer].model_fields if name != "type")
        raise typer.BadParameter(f"--set {where}: {problem['msg']}; {scorer} has {known}") from error


def threshold_of(text: str) -> AnyThreshold:
    """`evt:rate=1e-4,depth_rows=100` as settings. BadParameter for what does not exist."""
    method, _, options = text.partition(":")
    given: dict[str, Any] = {"method": method.strip()}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        given[key.strip()] = value.strip()
    try:
        found: AnyThreshold = TypeAdapter(AnyThreshold).validate_python(given)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise typer.BadParameter(f"--threshold {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    return found


def _searched(settings: ScorerSettings, rows: TrainingRows) -> ScorerSettings:
    from streamd.cli.search_table import show
    from streamd.fitting.search import search

    tried = search(settings, rows.table, rows.labels)
    show(tried)
    return tried[0].settings


def _watching(losses: list[Epoch], advance: Any) -> Progress:
    def progress(epoch: Epoch) -> None:
        losses.append(epoch)
        advance(epoch.number)

    return progress


def _write(
    out: Path, replace: bool, settings: ScorerSettings, rows: TrainingRows, found: Fit, losses: list[Epoch]
) -> None:
    from streamd.fitting.losses import loss_curve

    fitted, parts = found.fitted, found.split
    description = {
        "streamd": __version__,
        "python": platform.python_version(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "scorer": settings.model_dump(mode="json"),
        "note": fitted.note,
        "source": rows.source,
        "columns": {
            "numeric": list(rows.table.numeric),
            "categorical": list(rows.table.categorical),
            "arrays": {name: list(array.shape[1:]) for name, array in rows.table.arrays.items()},
        },
        "rows": {
            "there": rows.rows_there,
            "learned": len(parts.learned) - found.trimmed,
            "validating": len(parts.validating),
            "held_out": len(parts.held_out),
            "trimmed": found.trimmed,
        },
        "threshold": found.threshold.to_json(),
        "calibration": {"rows": len(fitted.calibration), "mean": float(fitted.calibration.mean())},
    }
    pictures = {"loss.svg": loss_curve(losses)} if losses else {}
    reference = reference_rows(rows)
    try:
        write(out, BundleFolder(description, to_bytes(fitted), reference, pictures), replace=replace)
    except BundleError as error:
        fail(ExitCode.CANNOT_CREATE, str(error))
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{out} cannot be written: {error.strerror or error}")


def reference_rows(rows: TrainingRows) -> Any:
    """What the bundle keeps of them: those not labelled abnormal, at most 20,000, evenly from all."""
    import numpy as np

    normal = np.arange(rows.table.rows) if rows.labels is None else np.flatnonzero(~rows.labels)
    if len(normal) > _REFERENCE_ROWS:
        normal = normal[np.arange(_REFERENCE_ROWS) * len(normal) // _REFERENCE_ROWS]
    return rows.table.take(normal)


def _told(out: Path, rows: TrainingRows, found: Fit) -> None:
    typer.echo(f"{rows.source}: {rows.table.rows:,} of {rows.rows_there:,} rows")
    typer.echo(f"  {found.fitted.note}")
    typer.echo(f"  threshold {found.threshold.sentence}")
    typer.echo(f"{out} is written. Next:")
    typer.echo(f"  streamd evaluate {out} labelled.parquet --labels COLUMN")
    typer.echo(f"  reference: {{bundle: {out.resolve()}}}     in streamd.yaml")


def _names(text: str | None) -> tuple[str, ...] | None:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return names or None
