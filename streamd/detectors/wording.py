"""Findings as sentences: what moved, how far, and how sure, without a subject."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from streamd.model import Direction
from streamd.table import FloatArray

NAMED_MAX = 3  # a sentence that a pager can show; the alert's `features` has them all
NAME_MAX = 64  # longer values are kept as their hash: a producer must not fill the memory
ADJUSTED_MAX = 0.05  # below this the word "drifted" is allowed; how grave it is, is the policy's to say


def drifted(
    columns: Sequence[str],
    statistics: FloatArray,
    adjusted: FloatArray | None,
    effects: FloatArray,
    effect_threshold: float,
    directions: Sequence[Direction],
    symbol: str,
    rows: int,
) -> str:
    """One sentence on what drifted, the largest effect first.

    Args:
        columns: k names.
        statistics: (k,) what `symbol` stands for; NaN where a column could not be judged.
        adjusted: (k,) corrected p-values, or None where the effect alone decides.
        effects: (k,) effect sizes.
        effect_threshold: an effect matters when it is greater than this.
        directions: k words.
        symbol: what the statistic is called, such as `KS D`.
        rows: in the window.

    >>> import numpy as np
    >>> drifted(["amount"], np.array([0.31]), np.array([1.2e-9]), np.array([0.31]), 0.2, ["up"], "KS D", 1000)
    'amount drifted up (KS D=0.31, p=1e-9 over 1000 rows)'
    """
    loud = effects > effect_threshold  # of NaN neither is true
    if adjusted is not None:
        loud &= adjusted < ADJUSTED_MAX
    if not loud.any():
        return _quiet(columns, statistics, effects, symbol, rows)
    indices = np.flatnonzero(loud)
    worst = indices[np.argsort(-effects[indices], kind="stable")]
    parts = [
        f"{columns[i]} {_moved(directions[i])} ({symbol}={statistics[i]:.2g}{_p_value(adjusted, i)} over {rows} rows)"
        for i in worst[:NAMED_MAX]
    ]
    more = len(worst) - NAMED_MAX
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _quiet(columns: Sequence[str], statistics: FloatArray, effects: FloatArray, symbol: str, rows: int) -> str:
    judged = effects == effects  # NaN equals nothing
    if not judged.any():
        return f"nothing could be judged over {rows} rows"
    largest = int(np.where(judged, effects, -1.0).argmax())  # effects are never negative
    return f"no drift over {rows} rows (largest {symbol}={statistics[largest]:.2g} in {columns[largest]})"


def _moved(direction: Direction) -> str:
    return "changed" if direction == "changed" else f"drifted {direction}"


def _p_value(adjusted: FloatArray | None, index: int) -> str:
    if adjusted is None:
        return ""
    p = float(adjusted[index])
    if p < 1e-99:  # exponents of three digits say nothing more to a reader
        return ", p<1e-99"
    return f", p={p:.0e}".replace("e-0", "e-") if p < 1e-3 else f", p={p:.2g}"


def short(value: str) -> str:
    """What a value is remembered as."""
    if len(value) <= NAME_MAX:
        return value
    return value[:16] + "…" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
