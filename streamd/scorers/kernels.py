"""The inner loops of the scorers, compiled by numba.

Signatures are declared, so that importing this module is all the compiling there is: no batch waits for it.
Loops are cached on disk beside this file (or under NUMBA_CACHE_DIR). None uses fastmath: equal input gives
equal output, bit for bit, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

_MATRIX = types.Array(types.float64, 2, "C", readonly=True)  # a batch may be a view of a network buffer
_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
_CODES = types.Array(types.int32, 1, "C", readonly=True)
_SLOTS = types.Array(types.int32, 1, "C", readonly=True)


def _compiled(*signatures: Any) -> Callable[[Any], Any]:
    decorate: Callable[[Any], Any] = njit(list(signatures), cache=True, nogil=True, boundscheck=False)
    return decorate


@_compiled(types.void(_MATRIX, types.float64[::1], types.int32[::1]))
def logit_entropies(logits: Any, entropies: Any, winners: Any) -> None:
    """Entropy and most likely class of softmax(logits), row by row; NaN and -1 where there is none.

    With m = max z and S = Σ exp(z − m): H = ln S − Σ (z − m)·exp(z − m) / S. Nothing can overflow, and a
    logit of −∞ is a class that cannot be. Several of +∞ share all the probability.
    """
    rows, classes = logits.shape
    for i in range(rows):
        top = -math.inf
        winner = -1
        infinite = 0
        missing = False
        for j in range(classes):
            z = logits[i, j]
            missing = missing or math.isnan(z)
            if z > top:
                top = z
                winner = j
            if z == math.inf:
                infinite += 1
        if missing or winner < 0:
            entropies[i] = math.nan
            winners[i] = -1
            continue
        winners[i] = winner
        if infinite > 0:
            entropies[i] = math.log(infinite)
            continue
        total = 0.0
        weighted = 0.0
        for j in range(classes):
            below = logits[i, j] - top
            if below > -745.0:  # exp(-745) is the smallest double: what lies below adds nothing
                share = math.exp(below)
                total += share
                weighted += below * share
        entropies[i] = max(0.0, math.log(total) - weighted / total)


@_compiled(types.void(_MATRIX, types.float64[::1], types.int32[::1]))
def probability_entropies(probabilities: Any, entropies: Any, winners: Any) -> None:
    """The same of probabilities, divided by their sum; a negative or infinite one makes the row missing."""
    rows, classes = probabilities.shape
    for i in range(rows):
        total = 0.0
        top = 0.0
        winner = -1
        good = True
        for j in range(classes):
            p = probabilities[i, j]
            good = good and p >= 0.0 and p < math.inf  # NaN fails both
            total += p
            if p > top:
                top = p
                winner = j
        if not good or winner < 0 or total == math.inf:
            entropies[i] = math.nan
            winners[i] = -1
            continue
        winners[i] = winner
        entropy = 0.0
        for j in range(classes):
            share = probabilities[i, j] / total
            if share > 0.0:
                entropy -= share * math.log(share)
        entropies[i] = max(0.0, entropy)


@_compiled(types.void(_MATRIX, _VECTOR, _VECTOR, types.float64, types.float32[:, ::1]))
def standardise(columns: Any, means: Any, scales: Any, bound: float, out: Any) -> None:
    """out = (column − mean) / scale, clipped to ±bound; a missing value is the mean. (columns, rows)."""
    count, rows = columns.shape
    for j in range(count):
        mean = means[j]
        scale = scales[j]
        for i in range(rows):
            z = (columns[j, i] - mean) / scale
            if not z > -bound:  # NaN too: set right below
                z = -bound
            if z > bound:
                z = bound
            if math.isnan(columns[j, i]):
                z = 0.0
            out[j, i] = np.float32(z)


@_compiled(types.void(_CODES, _SLOTS, types.float32[:, ::1]))
def set_ones(codes: Any, slots: Any, out: Any) -> None:
    """out[slots[code], row] = 1 where the code has a slot; the last of `slots` is what code -1 reads."""
    last = len(slots) - 1
    for i in range(len(codes)):
        code = codes[i]
        slot = slots[code] if 0 <= code < last else slots[last]
        if slot >= 0:
            out[slot, i] = np.float32(1.0)
