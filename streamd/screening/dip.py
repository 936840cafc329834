"""Hartigan and Hartigan's dip: how far a sample is from having a single peak."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray

HALVINGS = 16  # 0.25 / 2^16: four digits


def dip(values: FloatArray) -> float:
    """The largest distance between the distribution function of (n,) rising values and the nearest unimodal one.

    Hartigan and Hartigan 1985, "The dip test of unimodality". A distribution function is unimodal when it is convex up
    to some place, the mode, and concave from there on; at the mode it may jump. The least d within which there is such
    a function is found by halving. Time and memory grow with n².

    >>> even = np.linspace(0, 1, 101)
    >>> round(dip(even), 3), round(dip(np.concatenate([even, 9 + even])), 2)
    (0.005, 0.22)
    """
    n = len(values)
    if n < 4 or values[0] == values[-1]:
        return 0.5 / max(n, 1)
    low, high = 0.5 / n, 0.25
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if has_one_peak(values, middle):
            high = middle
        else:
            low = middle
    return high


def has_one_peak(values: FloatArray, d: float) -> bool:
    """Whether a unimodal distribution function lies within d of that of (n,) rising values."""
    x, times = np.unique(values, return_counts=True)
    upto = np.cumsum(times) / len(values)  # at each value, with it
    before = np.concatenate([[0.0], upto[:-1]])  # just before it
    lowest, fits = _convex(x, before, upto, d)
    mirrored, fits_right = _convex(-x[::-1], 1 - upto[::-1], 1 - before[::-1], d)
    highest = 1 - mirrored[::-1]
    return bool((fits & fits_right[::-1] & (lowest <= highest + 1e-12)).any())


def _convex(x: FloatArray, before: FloatArray, upto: FloatArray, d: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Were the mode at each value: how low a convex function can come to it from the left, and whether there is one.

    Up to the mode the function is continuous: at each value it is within d of the sample's function with that value
    and without it. Over a value b it must rise at least as steeply as from the ceiling at any a before it, and on at
    that pace: that is the lowest it can come to any later place, and it must not be over the ceiling there.
    """
    floor, ceiling = upto - d, before + d
    apart = x[:, None] - x  # (b, a)
    earlier = apart > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.where(earlier, (floor[:, None] - ceiling) / apart, 0.0)
    steepest = np.maximum(slopes.max(axis=1), 0.0)
    reached = np.where(earlier, floor + steepest * apart, 0.0).max(axis=1)  # (mode,) by all b before it
    inside = np.maximum(reached, floor) <= ceiling + 1e-12
    so_far = np.concatenate([[True], np.logical_and.accumulate(inside[:-1])])
    return np.maximum(reached, before - d), so_far & (reached <= before + d + 1e-12)
