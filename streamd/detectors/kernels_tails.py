"""The distribution of the Kolmogorov–Smirnov distance, compiled by numba."""

from __future__ import annotations

import math

import numpy as np

from streamd.detectors.compiled import DOUBLE, LONG, compiled, read, written
from streamd.table import FloatArray

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@compiled(DOUBLE(LONG, LONG, LONG))
def paths_outside(m: int, n: int, furthest: int) -> float:  # pragma: no cover - compiled
    """The chance that |m·n·D| ≥ `furthest` for two samples of m and n from one continuous distribution.

    Counts lattice paths from (0, 0) to (m, n) that leave the band, as shares: all orders of the pooled sample
    are equally likely (Hodges 1958). Only sums of positive terms, so small probabilities are exact too.
    """
    outside = np.empty(n + 1)
    for j in range(n + 1):
        outside[j] = 1.0 if j * m >= furthest or (j > 0 and outside[j - 1] == 1.0) else 0.0
    for i in range(1, m + 1):
        if i * n >= furthest:
            outside[0] = 1.0
        for j in range(1, n + 1):
            if abs(i * n - j * m) >= furthest:
                outside[j] = 1.0
            else:
                outside[j] = (outside[j] * i + outside[j - 1] * j) / (i + j)
    return float(outside[n])


@compiled([DOUBLE(DOUBLE)])
def _stirling_error(n: float) -> float:  # pragma: no cover - compiled
    """log n! − log(√(2πn)·(n/e)ⁿ): what Stirling's formula leaves (Loader 2000, Fast and accurate computation)."""
    if n < 16:
        factorial = 1.0
        for i in range(2, int(n) + 1):
            factorial *= i
        return math.log(factorial) - ((n + 0.5) * math.log(n) - n + HALF_LOG_2PI)
    s = 1.0 / (n * n)
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - (1 / 1188 - 691 / 360360 * s) * s) * s) * s) * s) / n


@compiled([DOUBLE(LONG, DOUBLE)])
def _smirnov_tail(n: int, d: float) -> float:  # pragma: no cover - compiled
    """P(D⁺ ≥ d) for one sample of n: Σ C(n,v)·p^v·(1−p)^(n−v)·d/p with p = d + v/n (Smirnov 1944).

    Each term is a binomial probability, taken from its deviance (Loader 2000) so that no digits are lost.
    """
    shift = n * d
    total = math.exp(n * math.log1p(-d))  # v = 0
    error = _stirling_error(np.float64(n))
    v = 1
    while n - v - shift > 0:
        rest = n - v
        deviance = v * math.log1p(shift / v) + rest * math.log1p(-shift / rest)  # ≤ 0
        correction = error - _stirling_error(np.float64(v)) - _stirling_error(np.float64(rest)) if rest > 0 else 0.0
        total += math.exp(deviance + correction) * math.sqrt(n / (2.0 * math.pi * v * rest)) * shift / (shift + v)
        v += 1
    return total


@compiled([DOUBLE(DOUBLE, DOUBLE)])
def _pelz_good(n: float, d: float) -> float:  # pragma: no cover - compiled
    """P(D ≥ d) for one sample of n by Pelz and Good (1976): four terms of the series in 1/√n."""
    z = math.sqrt(n) * d
    z2, pi2 = z * z, math.pi**2
    z4, z6 = z2 * z2, z2 * z2 * z2
    if -pi2 / 8 / z2 < -708:
        return 1.0
    terms = math.ceil(16 * z / math.pi)
    k0, k1, k2, k3, k2_more, k3_more = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(terms, 0, -1):
        m2 = (2.0 * k - 1) ** 2
        q = math.exp(-pi2 / 8 / z2 * m2)
        k0 += q
        k1 += q * (pi2 / 4 * m2 - z2)
        k2 += q * (6 * z6 + 2 * z4 + (2 * z4 - 5 * z2) * pi2 / 4 * m2 + pi2**2 * (1 - 2 * z2) / 16 * m2**2)
        k3 += q * (
            -30 * z6
            - 90 * z4 * z4
            + pi2 * (135 * z4 - 96 * z6) / 4 * m2
            + pi2**2 * (212 * z4 - 60 * z2) / 16 * m2**2
            + pi2**3 * (5 - 30 * z2) / 64 * m2**3
        )
        square = np.float64(k * k)
        q = math.exp(-pi2 / 2 / z2 * square)
        k2_more += square * q
        k3_more += (3 * z2 - pi2 * square) * square * q
    root = math.sqrt(2 * math.pi)
    first = root * k0 / z
    second = root * k1 / (6 * z4)
    third = root * (k2 / (72 * z6 * z) - pi2 * k2_more / (36 * z2 * z))
    fourth = root * (k3 / (6480 * z4 * z6) + pi2 * k3_more / (216 * z6))
    return (1 - first) - second / math.sqrt(n) - third / n - fourth / (n * math.sqrt(n))


@compiled([DOUBLE(LONG, DOUBLE)])
def kolmogorov_tail(n: int, d: float) -> float:  # pragma: no cover - compiled
    """P(D ≥ d) for one sample of n rows of a continuous distribution (Simard and L'Ecuyer 2011, section 3)."""
    if d >= 1.0:
        return 0.0
    if n * d <= 0.5:
        return 1.0
    squared = n * d * d
    if n > 140 and squared >= 370.0:
        return 0.0  # less than the smallest double
    if d >= 0.5 or squared >= (2.2 if n > 140 else 4.0):
        return min(2.0 * _smirnov_tail(n, d), 1.0)
    return min(max(_pelz_good(np.float64(n), d), 0.0), 1.0)


@compiled([(read(DOUBLE, 1), read(DOUBLE, 1), written(DOUBLE, 1))])
def kolmogorov_tails(rows: FloatArray, distances: FloatArray, p_values: FloatArray) -> None:  # pragma: no cover
    """Write `kolmogorov_tail` of many columns into `p_values`; NaN where the distance is. `rows` are whole."""
    for i in range(len(distances)):
        p_values[i] = np.nan if math.isnan(distances[i]) else kolmogorov_tail(int(rows[i]), distances[i])
