"""`streamd evaluate`: how good a bundle is on labelled rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamd import __version__
from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar
from streamd.cli.scoring import Opened, lacking, open_rows, open_scorer, write_text
from streamd.cli.text import printable

if TYPE_CHECKING:
    from streamd.fitting.evaluation import Evaluation


def command(
    bundle: Annotated[Path, typer.Argument(help="A folder that `streamd fit` wrote.")],
    data: Annotated[
        Path, typer.Argument(readable=False, help="Labelled rows: a Parquet, CSV, Arrow or npz file, or a folder.")
    ],
    labels: Annotated[str, typer.Option(help="The column of 0 and 1; 1 is abnormal.")] = "label",
    json_: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file; - is stdout.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with pictures to this file.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Judge at this threshold in place of the bundle's.")] = None,
) -> None:
    """Say how good a bundle is on labelled rows, at its threshold and over all thresholds.

    streamd evaluate monitors/fraud-7 labelled.parquet --labels label --html fraud-7.html
    """
    opened = open_scorer(bundle)
    evaluation = _evaluated(opened, data, labels, opened.fitted.row_threshold if threshold is None else threshold)
    title = printable(f"{opened.name}: {opened.fitted.kind} on {data.name}")
    lead = f"{evaluation.rows:,} labelled rows, {evaluation.abnormal:,} of them abnormal"
    if json_ is None or str(json_) != "-":
        _show(evaluation, title, lead)
    if json_ is not None:
        told = {"bundle": opened.name, "sha256": opened.folder.sha256, "data": str(data), **evaluation.to_json()}
        text = json.dumps(_finite(told), indent=2, ensure_ascii=False) + "\n"
        typer.echo(text, nl=False) if str(json_) == "-" else write_text(json_, text)
    if html is not None:
        from streamd.fitting.page_evaluation import evaluation_page

        footer = f"{opened.fitted.note} · bundle {opened.folder.sha256} · streamd {__version__}"
        write_text(html, evaluation_page(evaluation, title, lead, footer))


def _evaluated(opened: Opened, path: Path, label: str, threshold: float) -> Evaluation:
    import numpy as np

    from streamd.cli.training_rows import labels_of
    from streamd.dataset import DataFileError
    from streamd.fitting.base import FitError
    from streamd.fitting.evaluation import evaluate

    data = open_rows(path, opened.scorer, (label,))
    scores, labels = [], []
    try:
        with bar(data.count, "rows") as advance:
            done = 0
            for piece in data.tables():
                labels.append(labels_of(piece, label, path))
                scores.append(opened.scorer.score(piece.table).values.copy())
                advance(done := done + piece.table.rows)
        if not scores:
            fail(ExitCode.DATA, f"{path} has no rows")
        evaluation = evaluate(np.concatenate(scores), np.concatenate(labels), threshold)
    except (DataFileError, FitError) as error:
        fail(ExitCode.DATA, str(error))
    return replace(evaluation, notes=(*lacking(data, opened.scorer), *evaluation.notes))


def _show(evaluation: Evaluation, title: str, lead: str) -> None:
    """The figures in 80 columns."""
    from rich.console import Console
    from rich.table import Table

    from streamd.fitting.page_evaluation import between, share
    from streamd.pages.svg import number

    console = Console(highlight=False, markup=False)
    console.print(title, style="bold")
    console.print(lead)
    for note in evaluation.notes:
        console.print(note, style="yellow")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("at", "threshold", "precision", "recall", "F1", "false alarms"):
        table.add_column(head, justify="left" if head == "at" else "right", header_style="dim")
    for at in (evaluation.at, *evaluation.others):
        f1 = "none" if at.f1 is None else f"{at.f1:.3f}"
        shares = (share(at.precision.value), share(at.recall.value), f1, share(at.false_alarm_rate.value))
        table.add_row(at.what, number(at.threshold), *shares)
    console.print()
    console.print(table)
    at = evaluation.at
    console.print(f"\nat {at.what}: {at.caught:,} caught, {at.missed:,} missed, "
                  f"{at.false_alarms:,} false alarms, {at.quiet:,} quiet")  # fmt: skip
    if evaluation.auroc.value is not None and evaluation.average_precision.value is not None:
        chance = evaluation.abnormal / evaluation.rows
        console.print(f"AUROC              {_measured(evaluation.auroc.value, between(evaluation.auroc, False))}")
        average = between(evaluation.average_precision, False)
        console.print(
            f"average precision  {_measured(evaluation.average_precision.value, average)}, {chance:.3f} by chance"
        )


def _measured(value: float, interval: str) -> str:
    return f"{value:.3f}" + (f" ({interval})" if interval else "")


def _finite(value: Any) -> Any:
    """Numbers that JSON has no word for as strings, as on the wire."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
