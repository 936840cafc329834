"""The inner loops of the scorers, compiled by numba.

Signatures are declared, so that importing this module is all the compiling there is: no batch waits for it.
None uses fastmath: equal input gives equal output, bit for bit, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from streamd.compiling import compiled

_MATRIX = types.Array(types.float64, 2, "C", readonly=True)  # a batch may be a view of a network buffer
_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
_CODES = types.Array(types.int32, 1, "C", readonly=True)
_INPUTS = types.Array(types.float32, 2, "C", readonly=True)
_WEIGHTS = types.Array(types.float32, 1, "C", readonly=True)
_SLOTS = types.Array(types.int32, 1, "C", readonly=True)
_BOOLS = types.Array(types.boolean, 1, "C", readonly=True)
_OWNERS = types.Array(types.intp, 1, "C", readonly=True)
_ROWS = types.Array(types.int64, 1, "A", readonly=True)


def _compiled(*signatures: Any) -> Callable[[Any], Any]:
    return compiled(list(signatures))


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


@_compiled(types.void(_MATRIX, types.boolean, types.float64[::1]))
def confidences(predictions: Any, logits: bool, out: Any) -> None:
    """out := the probability of the most likely class, row by row; NaN where there is none.

    Of probabilities it is their largest over their sum; several logits of +∞ share all the probability.
    """
    rows, classes = predictions.shape
    for i in range(rows):
        top = -math.inf
        for j in range(classes):
            value = predictions[i, j]
            if not value <= top:  # NaN too, which stays
                top = value
            if math.isnan(top):
                break
        total = 0.0
        for j in range(classes):
            value = predictions[i, j]
            total += (1.0 if value == top else math.exp(value - top)) if logits else value
        if (not math.isfinite(top) and not (logits and top == math.inf)) or not total > 0.0:
            out[i] = math.nan
        else:
            out[i] = 1.0 / total if logits else top / total


@_compiled(types.void(_MATRIX, _VECTOR, _VECTOR, _VECTOR, types.float64, types.float32[:, ::1]))
def standardise(columns: Any, means: Any, scales: Any, fills: Any, bound: float, out: Any) -> None:
    """out = (column − mean) / scale, clipped to ±bound; a missing value is the column's fill. (columns, rows)."""
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
                z = fills[j]
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


@_compiled(types.void(_INPUTS, types.float32[:, ::1], _WEIGHTS, types.float64[::1]))
def squared_errors(inputs: Any, outputs: Any, weights: Any, means: Any) -> None:
    """outputs := weights · (outputs − inputs)², both (inputs, rows); means := those of each row.

    A row's sum is made input by input, in single precision: in one order whatever else is in the batch.
    """
    count, rows = inputs.shape
    sums = np.zeros(rows, np.float32)
    for j in range(count):
        weight = weights[j]
        for i in range(rows):
            error = outputs[j, i] - inputs[j, i]
            outputs[j, i] = weight * (error * error)
            sums[i] += outputs[j, i]
    for i in range(rows):
        means[i] = sums[i] / np.float32(count)


@_compiled(types.int64(_VECTOR, _BOOLS, _VECTOR, types.int64, types.int64[::1], types.float64[::1], types.int64[::1]))
def tally(scores: Any, over: Any, sure: Any, every: int, counts: Any, sums: Any, chosen: Any) -> int:
    """Count rows, add up their confidence, and choose each `every`-th of those with a score.

    Args:
        scores: (rows,); NaN is none.
        over: (rows,) whether they are over the threshold.
        sure: (rows,) the model's confidence, NaN where it is not known; or empty.
        counts: (5,) to be added to: rows; those with a score; those over the threshold; those not over it and those
            over it on which the confidence is known.
        sums: (2,) to be added to: these confidences.
        chosen: filled with the places of the chosen rows.

    Returns:
        how many were chosen.
    """
    count = 0
    for i in range(len(scores)):
        known = not math.isnan(scores[i])
        if known and counts[0] % every == 0:
            chosen[count] = i
            count += 1
        counts[0] += 1
        counts[1] += known
        counts[2] += over[i]
        if i < len(sure) and not math.isnan(sure[i]):
            which = 1 if over[i] else 0
            counts[3 + which] += 1
            sums[which] += sure[i]
    return count


@_compiled(types.void(_INPUTS, _OWNERS, _ROWS, types.float64[:, ::1]))
def by_owner(values: Any, owners: Any, rows: Any, sums: Any) -> None:
    """Add the inputs of these `rows` of (inputs, rows) to the features that own them: (features, len(rows))."""
    for j in range(len(owners)):
        for k in range(len(rows)):
            sums[owners[j], k] += values[j, rows[k]]


@_compiled(types.int64(_MATRIX, types.int64, types.float64[::1]))
def add_shares(parts: Any, count: int, sums: Any) -> int:
    """Add to `sums` (features,) the share of each feature in what all features add to a row, row after row.

    Of `parts` (features, rows) the first `count` rows. One to which nothing adds anything is passed over; returns how
    many were not.
    """
    features = len(parts)
    counted = 0
    for i in range(count):
        total = 0.0
        for j in range(features):
            total += abs(parts[j, i])
        if 0.0 < total < math.inf:
            counted += 1
            for j in range(features):
                sums[j] += parts[j, i] / total
    return counted


@_compiled(types.int64(_VECTOR, types.float64, types.int64[::1]))
def highest(scores: Any, floor: float, rows: Any) -> int:
    """Put the rows of the highest scores over `floor` into `rows`, highest first, of equal ones the first; how many."""
    found = 0
    for i in range(len(scores)):
        score = scores[i]
        if not score > floor or (found == len(rows) and not score > scores[rows[found - 1]]):
            continue
        place = found if found < len(rows) else found - 1
        found = place + 1
        while place > 0 and score > scores[rows[place - 1]]:
            rows[place] = rows[place - 1]
            place -= 1
        rows[place] = i
    return found


@_compiled(types.void(_MATRIX, types.int64, types.int64[:, ::1], types.float64[:, ::1]))
def largest_shares(parts: Any, first: int, named: Any, shares: Any) -> None:
    """Of each row of `parts` (features, rows) from `first` on, the features that add most, and their shares.

    Both are (rows, n), n at most the features; of equal ones the first comes first. Where nothing adds anything all
    shares are 0.
    """
    for k in range(len(named)):
        row = parts[:, first + k].copy()
        total = 0.0
        for value in row:
            total += abs(value)
        highest(row, -math.inf, named[k])
        for i in range(len(named[k])):
            shares[k, i] = row[named[k, i]] / total if total > 0.0 else 0.0
