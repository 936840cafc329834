"""`streamd badcases`: the rows that a bundle finds worst, what drove each, and whether the model is less sure there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamd import __version__
from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.cli.pace import bar
from streamd.cli.scoring import Opened, lacking, open_scorer, write_text
from streamd.cli.text import printable
from streamd.dataset import DataFileError, DataSet, NotReadableError, Piece, open_dataset
from streamd.fitting.base import FitError

if TYPE_CHECKING:
    import numpy as np

    from streamd.fitting.badcases import Case
    from streamd.fitting.page_badcases import BadCases
    from streamd.table import FloatArray, PredictionKind, Table

_LISTED = 10  # in the terminal
_WRITTEN_MAX = 10_000  # rows of the Parquet file, whose columns are held in memory


def command(
    bundle: Annotated[Path, typer.Argument(help="A folder that `streamd fit` wrote.")],
    data: Annotated[Path, typer.Argument(readable=False, help="Rows: a Parquet, CSV, Arrow or npz file, or a folder.")],
    model: Annotated[
        str | None, typer.Option(help="The served model: model.onnx, or module:function (columns -> predictions).")
    ] = None,
    logits: Annotated[str | None, typer.Option(help="Its logits are in these columns already: a,b,c.")] = None,
    probabilities: Annotated[str | None, typer.Option(help="Its probabilities are in these columns: a,b,c.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Columns that are not looked at, labels among them: a,b.")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="How many rows are the worst ones.")] = 0.05,
    explain: Annotated[int, typer.Option(min=0, help="Of how many rows to say what drove them.")] = 20,
    out: Annotated[Path | None, typer.Option(help="A folder for badcases.html and badcases.parquet.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with pictures to this file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the worst rows to this file.")] = None,
) -> None:
    """Show the rows that a bundle finds worst: what drove each, and whether the model is less sure on them.

    streamd badcases monitors/fraud-7 today.parquet --model model.onnx --out report
    """
    if sum(each is not None for each in (model, logits, probabilities)) > 1:
        raise typer.BadParameter("--model, --logits and --probabilities say the same thing: give one of them")
    kind: PredictionKind | None = "logits" if logits else "probabilities" if probabilities else None
    predictions = _names(logits or probabilities)
    opened = open_scorer(bundle)
    try:
        rows = open_dataset(data, None, _names(exclude), predictions)
        found, worst = _found(opened, rows, model, predictions, kind, share, explain)
    except FileNotFoundError:
        fail(ExitCode.NO_INPUT, f"there is no file {data}")
    except NotReadableError as error:
        fail(ExitCode.NO_INPUT, str(error))
    except (DataFileError, FitError) as error:
        fail(ExitCode.DATA, str(error))
    title = printable(f"{opened.name}: the worst rows of {data.name}")
    lead = f"{found.worst:,} of {len(found.scores):,} rows, by {opened.fitted.kind}"
    notes = lacking(rows, opened.scorer)
    _show(found, title, lead, notes)
    if out is not None:
        html, parquet = html or out / "badcases.html", parquet or out / "badcases.parquet"
    if html is not None:
        from streamd.fitting.page_badcases import badcases_page

        footer = f"{opened.fitted.note} · bundle {opened.folder.sha256} · streamd {__version__}"
        write_text(html, badcases_page(found, title, lead, notes, footer))
    if parquet is not None:
        _write_rows(parquet, found, worst)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def _found(
    opened: Opened,
    rows: DataSet,
    model: str | None,
    predictions: tuple[str, ...],
    kind: PredictionKind | None,
    share: float,
    explain: int,
) -> tuple[BadCases, Piece]:
    """What the page shows, and the worst rows themselves."""
    from streamd.fitting.badcases import doubt, explained, importance, reasons, worst_rows
    from streamd.fitting.page_badcases import BadCases

    scores, confidence = _scored(opened, rows, model, predictions, kind)
    places = worst_rows(scores, share)
    piece = _taken(rows, places[:_WRITTEN_MAX])
    shown = _first(piece.table, explain)
    why: list[Any] = []
    features: dict[str, float] = {}
    if shown.rows:
        names, added = explained(opened.scorer, shown, opened.folder.reference)
        why, features = reasons(shown, names, added), dict(importance(names, added))
    found = BadCases(
        scores=scores,
        confidence=confidence,
        floor=float(scores[places[-1]]),
        worst=len(places),
        doubt=None if confidence is None else doubt(confidence, places),
        cases=[_case(scores, confidence, int(place), each) for place, each in zip(places, why, strict=False)],
        features=features,
        negated=opened.fitted.kind == "isolation",
    )
    return found, Piece(piece.table, {"row": places[:_WRITTEN_MAX]})


def _case(scores: FloatArray, confidence: FloatArray | None, row: int, why: Any) -> Case:
    from streamd.fitting.badcases import Case

    sure = None if confidence is None or confidence[row] != confidence[row] else float(confidence[row])
    return Case(row, float(scores[row]), sure, why)


def _scored(
    opened: Opened, rows: DataSet, model: str | None, predictions: tuple[str, ...], kind: PredictionKind | None
) -> tuple[FloatArray, FloatArray | None]:
    """The score of each row, and the model's confidence where there is a model."""
    import numpy as np

    from streamd.fitting.badcases import confidences
    from streamd.fitting.served import open_model

    if model is not None and ":" in model:
        sys.path.insert(0, os.getcwd())  # the function's module is looked for here too, as python does
    ask = None if model is None else open_model(model)
    scores, sure = [], []
    with bar(rows.count, "rows") as advance:
        done = 0
        for piece in rows.tables():
            scores.append(opened.scorer.score(piece.table).values.copy())
            if ask is not None:
                sure.append(ask(piece.table))
            elif predictions:
                sure.append(np.column_stack([piece.others[name].astype(np.float64) for name in predictions]))
            advance(done := done + piece.table.rows)
    if not scores:
        raise FitError(f"{rows.path} has no rows")
    return np.concatenate(scores), confidences(np.concatenate(sure), kind) if sure else None


def _taken(rows: DataSet, places: np.ndarray[Any, Any]) -> Piece:
    """The rows at these places, in this order, in a second reading."""
    import numpy as np

    from streamd.table import concatenate

    rising = np.sort(places)
    pieces, first = [], 0
    for piece in rows.tables():
        inside = rising[(rising >= first) & (rising < first + piece.table.rows)]
        if len(inside):
            pieces.append(piece.take(inside - first).table)
        first += piece.table.rows
    return Piece(concatenate(pieces).take(np.searchsorted(rising, places)), {})


def _first(table: Table, count: int) -> Table:
    import numpy as np

    return table.take(np.arange(min(count, table.rows)))


# --- What is told ---------------------------------------------------------------------------------


def _show(found: BadCases, title: str, lead: str, notes: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    from streamd.fitting.page_badcases import wording
    from streamd.pages.svg import number

    console = Console(highlight=False, markup=False)
    console.print(title, style="bold")
    console.print(lead)
    for note in notes:
        console.print(note, style="yellow")
    if found.doubt is not None:
        console.print(found.doubt.sentence)
    elif found.confidence is not None:
        console.print("Too few of these rows have a prediction to say whether the model is less sure on them.")
    grid = Grid(box=None, padding=(0, 2, 0, 0))
    for head in ("row", "decision" if found.negated else "score", "confidence"):
        if head != "confidence" or found.confidence is not None:
            grid.add_column(head, justify="right", header_style="dim")
    grid.add_column("what drove it", header_style="dim", overflow="fold")
    for case in found.cases[:_LISTED]:
        sure = [] if found.confidence is None else ["none" if case.confidence is None else f"{case.confidence:.3f}"]
        score = -case.score if found.negated else case.score
        grid.add_row(str(case.row), number(score), *sure, printable(wording(case)))
    console.print()
    console.print(grid)


def _write_rows(path: Path, found: BadCases, worst: Piece) -> None:
    """The worst rows, worst first: what was found in columns `streamd.…`, and their own columns beside it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    places, table = worst.others["row"], worst.table
    columns: dict[str, Any] = {"streamd.row": places, "streamd.score": found.scores[places]}
    if found.negated:
        columns["streamd.decision"] = -found.scores[places]
    if found.confidence is not None:
        columns["streamd.confidence"] = pa.array(found.confidence[places], mask=np.isnan(found.confidence[places]))
    for i in range(2):
        why = [case.reasons[i] if i < len(case.reasons) else None for case in found.cases]
        why += [None] * (len(places) - len(why))
        columns[f"streamd.reason_{i + 1}"] = pa.array([w and w.wording() for w in why], pa.string())
        columns[f"streamd.reason_{i + 1}_share"] = pa.array([w and w.share for w in why], pa.float64())
    for name, values in table.numeric.items():
        columns[name] = pa.array(values, mask=np.isnan(values))
    for name, column in table.categorical.items():
        texts = np.array([*column.categories, None], dtype=object)[column.codes]
        columns[name] = pa.array(texts, pa.string())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    except OSError as error:
        fail(ExitCode.CANNOT_CREATE, f"{path} cannot be written: {error.strerror or error}")
    typer.echo(f"written: {path}")
