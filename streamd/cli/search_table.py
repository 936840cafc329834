"""What `streamd fit --search` tried, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import typer

from streamd.fitting.base import ScorerSettings
from streamd.fitting.search import Tried


def show(tried: Sequence[Tried]) -> None:
    """One line a candidate, the one that is taken first."""
    labelled = not math.isnan(tried[0].precision)
    head = "AUROC    ±       AP" if labelled else "held-out score    ±"
    typer.echo(f"    {head:<22} {'numbers':>10}  settings")
    for number, each in enumerate(tried):
        mark = "→" if number == 0 else " "
        value = f"{each.score:.3f}" if labelled else f"{-each.score:.4g}"
        more = f"{each.precision:.3f}" if labelled else ""
        typer.echo(f"  {mark} {value:<8} {each.spread:<6.2g} {more:<6} {each.size:>10,}  {_different(each.settings)}")


def _different(settings: ScorerSettings) -> str:
    """What is not the default."""
    changed = settings.model_dump(exclude_unset=True, mode="json")
    return ", ".join(f"{name}={value}" for name, value in changed.items() if name != "type") or "as given"
