"""`streamd calibrate`: a healthy past through the daemon's own engine, and what it says of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from streamd.calibration import Calibration
from streamd.cli import calibrate_report as report
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar
from streamd.cli.record import From, To
from streamd.cli.replay import open_source
from streamd.cli.replay_sources import BadInputError, Source, TableOptions
from streamd.cli.send import Exclude, FeatureColumns, Ids, Logits, Probabilities, roles
from streamd.codec.decode import decode
from streamd.config import Config
from streamd.errors import InvalidRecord
from streamd.model import DeadLetter, Envelope, FeatureBatch
from streamd.replay import Replay, Tally
from streamd.wiring import engine_factory, trainer, warm_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASSES_MAX = 32  # of a model with many, so many are looked at: their seasons are those of its entropy


def command(
    source: Annotated[
        str, typer.Argument(help="A recording of `streamd record`; a Parquet, CSV or Arrow file; else a topic.")
    ],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write what is proposed to this file: `streamd run -c` takes it.")
    ] = (None),
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
    """Count the false alarms of a past in which all was well, beside what the budget allows.

    The past goes through the daemon's own engine, as with `streamd replay`.
    Where it shows that a threshold is too tight or too loose, or that the data
    have a season, it is said, and --out writes a configuration that mends it.
    """
    quiet_client()
    settings = load_config(bootstrap_servers, config)
    given: dict[str, object] = {"--reference": reference, "--stream": stream, "--columns": columns}
    given |= {"--exclude": exclude, "--logits": logits, "--probabilities": probabilities}
    given |= {"--ids": ids, "--time": time_column}
    chosen = roles(columns, exclude, logits, probabilities, ids, time_column)
    options = TableOptions(stream or Path(source).name.split(".")[0], chosen, reference, rows, every)
    try:
        records = open_source(source, settings, options, {"--from": start, "--to": end}, given)
        found = _found(records, settings, shown=not as_json)
    except BadInputError as error:
        fail(error.code, str(error))
    if as_json:
        typer.echo(
            orjson.dumps([each.as_json() for each in found], option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        )
    else:
        report.show(found)
    if out is not None:
        _write(out, [each.rule() for each in found if each.rule() is not None], shown=not as_json)


class Means:
    """The batch means of one stream's numeric columns and predictions, for its season."""

    def __init__(self) -> None:
        self.times_ms: list[int] = []
        self.columns: dict[str, list[float]] = {}

    def add(self, batch: FeatureBatch) -> None:
        import numpy as np

        for name, values in _columns(batch).items():
            known = values[np.isfinite(values)]
            before = self.columns.setdefault(name, [float("nan")] * len(self.times_ms))
            before.append(float(known.mean()) if len(known) else float("nan"))
        self.times_ms.append(batch.event_time_ms)
        for each in self.columns.values():
            if len(each) < len(self.times_ms):
                each.append(float("nan"))


def _columns(batch: FeatureBatch) -> dict[str, NDArray[Any]]:
    """What may have a season: numbers, predictions by class, and how sure the model is."""
    table, columns = batch.table, dict(batch.table.numeric)
    if table.predictions is not None:
        from streamd.scorers.entropy import softmax_entropy

        columns["the predictions' entropy"] = softmax_entropy(table.predictions.values, table.predictions.kind)
        columns |= dict(zip(table.prediction_names()[:_CLASSES_MAX], table.predictions.values.T, strict=False))
    return columns


def _found(source: Source, config: Config, *, shown: bool) -> list[report.Found]:
    """What the past comes to, by stream."""
    warm_up(config)
    replay = Replay(engine_factory(config), trainer(), source.envelopes)
    calibration, tally = Calibration(), Tally()
    means: dict[str, Means] = {}
    with bar(source.rows, "rows", shown=shown) as advance:
        for envelope in source.envelopes():
            effects = replay.step(envelope)
            tally.count(effects)
            for effect in effects:
                if isinstance(effect, DeadLetter):
                    source.refused(effect)
            calibration.observe(effects, config.policy.warning_p_value)
            _add_means(means, envelope, config)
            advance(tally.rows)
    if not calibration.pasts:
        letters = list(tally.first_dead_letters.values())
        why = f": {letters[0].error}" if letters else ""
        raise BadInputError(ExitCode.DATA, f"there is no feature batch in it{why}")
    return [
        report.Found.of(past, config.for_stream(past.name), means.get(past.name), source.dated)
        for past in calibration.pasts.values()
    ]


def _add_means(means: dict[str, Means], envelope: Envelope, config: Config) -> None:
    if envelope.topic == config.topics.telemetry:
        return
    try:
        batch = decode(envelope, config.limits, "features")
    except InvalidRecord:
        return  # counted by the engine
    if isinstance(batch, FeatureBatch):
        means.setdefault(batch.stream, Means()).add(batch)


def _write(path: Path, rules: list[Any], *, shown: bool) -> None:
    import yaml

    if not rules:
        typer.echo(f"nothing is proposed: {path} is not written", err=True)
        return
    text = "# What `streamd calibrate` found in a healthy past. In another configuration these rules stand first\n"
    text += "# under `streams`: the first that matches a stream is the one that applies.\n"
    text += yaml.safe_dump({"streams": rules}, sort_keys=False, allow_unicode=True)
    try:
        path.write_text(text)
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{path}: {error.strerror or error}")
    if shown:
        typer.echo(f"\n{path} written: streamd run -c {path}")
