"""One value against its own past: a ring of what came before, and the prediction interval that it makes."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from streamd.detectors.base import Remembers

PHI_MAX = 0.99  # beyond, 100 values tell nothing


class RollingPast(Remembers):
    """The last `capacity` values of something that is measured once per batch.

    Args:
        capacity: values kept; the oldest is dropped first.
    """

    remembered: ClassVar[tuple[str, ...]] = ("values", "count")

    def __init__(self, capacity: int) -> None:
        self.values = np.zeros(capacity)
        self.count = 0  # ever learned

    def __len__(self) -> int:
        return min(self.count, len(self.values))

    def learn(self, value: float) -> None:
        self.values[self.count % len(self.values)] = value
        self.count += 1

    def mean_and_deviation(self) -> tuple[float, float]:
        """The mean and the sample standard deviation (n − 1 in the denominator) of what is kept: 2 values or more."""
        n = len(self)
        kept = self.values[:n]
        mean = float(kept.sum()) / n
        centred = kept - mean
        return mean, math.sqrt(float(centred @ centred) / (n - 1))

    def correlation(self) -> float:
        """The lag-1 autocorrelation of what is kept, less its bias (Kendall 1954); 0 of what never moved."""
        n = len(self)
        kept = np.roll(self.values, -(self.count % len(self.values))) if n == len(self.values) else self.values[:n]
        centred = kept - float(kept.sum()) / n
        squares = float(centred @ centred)
        if squares <= 0.0:
            return 0.0
        raw = float(centred[1:] @ centred[:-1]) / squares
        return raw + (1.0 + 3.0 * raw) / n


def prediction_p_value(shift: float, deviation: float, n: int, correlation: float = 0.0) -> tuple[float, float]:
    """How surprising the next value is, when n values of sample deviation `deviation` came before it.

    The prediction interval of a normal sample: t = shift / (deviation · √(1 + 1/n)) follows Student's t with
    n − 1 degrees of freedom (Whitmore 1986). Of values whose lag-1 `correlation` is φ fewer count, as
    `kernels_columns.standardise` says.

    Returns:
        t and its two-sided p-value. Without any deviation a shift is certain (±inf, 0) and its absence nothing (0, 1).

    >>> prediction_p_value(0.0, 1.0, 30)
    (0.0, 1.0)
    """
    from scipy.special import stdtr  # half a second that the command line need not wait for

    if shift == 0.0:
        return 0.0, 1.0
    phi = min(max(correlation, 0.0), PHI_MAX)
    tau, tau_variance = (1.0 + phi) / (1.0 - phi), (1.0 + phi * phi) / (1.0 - phi * phi)
    wider = math.sqrt((n - 1) / max(n - tau, 1.0) * (1.0 + tau / n))
    t = shift / (deviation * wider) if deviation > 0 else math.copysign(math.inf, shift)
    return t, float(2 * stdtr(max(n / tau_variance - 1.0, 1.0), -abs(t)))
