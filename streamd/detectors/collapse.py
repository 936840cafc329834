"""How common a class is among the reference's predictions, and how surprising its share of a batch is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.detectors.dependence import autocorrelation_times, centred_ranks
from streamd.detectors.shares import DOUBT, at_least, largest_shares
from streamd.seasons import phase_doubt


class ClassShare(NamedTuple):
    """How many of how many rows were given a class, and their autocorrelation time."""

    hits: float
    rows: float
    time: float

    @property
    def share(self) -> float:
        return self.hits / self.rows

    def tail(self, hits: int, rows: int) -> float:
        """P(at least `hits` of `rows`) by what is known here: see `shares`; all rows are divided by τ."""
        limits = largest_shares(np.array([self.hits]) / self.time, np.array([self.rows]) / self.time, DOUBT)
        return float(at_least(np.array([hits]) / self.time, np.array([rows]) / self.time, limits, DOUBT)[0])


def share_of(won: NDArray[np.bool_]) -> ClassShare:
    """Of the reference's rows, which `won` (rows,) says of each."""
    return ClassShare(float(np.count_nonzero(won)), len(won), _time(won))


def share_by_phase(
    won: NDArray[np.bool_], phases: NDArray[np.intp], phase_rows: NDArray[np.int64], wanted: Mapping[int, int]
) -> ClassShare:
    """Of the reference's rows, each in one of `phases` (rows,), those that have so many in each as is `wanted`."""
    total, shares = sum(wanted.values()), np.zeros(len(phase_rows))
    usual = time = 0.0
    for phase, rows in wanted.items():
        shares[phase] = rows / total
        own = won[phases == phase]  # one after the other: a season is no dependence
        usual += shares[phase] * float(np.count_nonzero(own)) / len(own)
        time += shares[phase] * _time(own)
    of = 1.0 / phase_doubt(shares, phase_rows)
    return ClassShare(usual * of, of, time)


def _time(won: NDArray[np.bool_]) -> float:
    """τ of rows that were given a class or were not."""
    return float(autocorrelation_times(centred_ranks(won.astype(np.float64))[None])[0])
