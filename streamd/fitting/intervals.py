"""How far a figure may be from the truth, from the number of rows that it was measured on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.dependence import autocorrelation_times, centred_ranks
from streamd.table import FloatArray

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %
_RESAMPLED_VALUES = 20_000_000  # a second or two, however many rows
_RESAMPLES_MIN, _RESAMPLES_MAX = 60, 400

Interval = tuple[float | None, float | None]
"""Low and high end at 95 % confidence; None: these rows bound it on no such side."""


def memory(scores: FloatArray) -> float:
    """The autocorrelation time of (rows,) scores in their order: n rows say as much as n / τ independent ones."""
    return float(autocorrelation_times(centred_ranks(scores)[None, :])[0])


def quantile_interval(ordered: FloatArray, level: float, memory_rows: float = 1.0) -> Interval:
    """Of the `level` quantile, from (rows,) rising values: order statistics, whatever the distribution.

    The number of rows below the true quantile is binomial (Conover 1999, Practical Nonparametric Statistics, 3.2).
    """
    from scipy.stats import binom  # scipy costs more to import than most commands take

    rows = len(ordered)
    effective = max(int(rows / memory_rows), 1)
    tail = (1 - CONFIDENCE) / 2
    first = float(binom.ppf(tail, effective, level))  # places, from 1
    last = float(binom.ppf(1 - tail, effective, level)) + 1
    low = None if first < 1 else float(ordered[int((first - 1) * rows / effective)])
    high = None if last > effective else float(ordered[min(int(np.ceil(last * rows / effective)), rows) - 1])
    return low, high


def share_interval(hits: int, rows: int) -> Interval:
    """Of a share (Wilson 1927); nothing is known of no rows.

    >>> tuple(round(end, 3) for end in share_interval(45, 50))
    (0.786, 0.957)
    """
    if rows == 0:
        return None, None
    z2 = NORMAL_QUANTILE**2
    share = hits / rows
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = NORMAL_QUANTILE * np.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2)) / (1 + z2 / rows)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def bootstrap_interval(
    statistic: Callable[[NDArray[np.intp]], float], strata: list[tuple[NDArray[np.intp], float]], seed: int = 0
) -> Interval:
    """Of any statistic: the middle 95 % of what it is on rows drawn again, in blocks as long as their memory.

    Args:
        statistic: of the rows at these places.
        strata: places of rows in their order, and their memory in rows; each is drawn from by itself, so that every
            resample has as many rows of each class.
        seed: of the draws: the same rows give the same interval.
    """
    generator = np.random.default_rng(seed)
    rows = sum(len(places) for places, _ in strata)
    count = int(np.clip(_RESAMPLED_VALUES // rows, _RESAMPLES_MIN, _RESAMPLES_MAX))
    values = []
    for _ in range(count):
        drawn = [places[_blocks(generator, len(places), memory_rows)] for places, memory_rows in strata]
        values.append(statistic(np.concatenate(drawn)))
    low, high = np.quantile(np.array(values), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _blocks(generator: np.random.Generator, rows: int, memory_rows: float) -> NDArray[np.intp]:
    """(rows,) places in blocks of neighbours, around the end to the beginning (Politis and Romano 1992)."""
    length = 1 if memory_rows < 1.5 else min(int(np.ceil(2 * memory_rows)), rows)
    starts = generator.integers(rows, size=-(-rows // length))
    places = (starts[:, None] + np.arange(length)) % rows
    return places.reshape(-1)[:rows]
