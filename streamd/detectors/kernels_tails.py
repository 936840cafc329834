"""The distribution of the Kolmogorov–Smirnov distance, compiled by numba."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from streamd.detectors.compiled import DOUBLE, LONG, compiled, read, written
from streamd.detectors.kernels_durbin import below_by_root, below_by_steps
from streamd.detectors.kolmogorov import EXACT_ROWS_MAX
from streamd.table import FloatArray

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
FEW = 140  # rows of one sample: up to here Pelz and Good's series has fewer than 12 digits everywhere
SMIRNOV_MIN = 2.2  # n·D²: above, the two one-sided tails do not overlap to 15 digits (Simard and L'Ecuyer 2011)
LONE_MAX = 0.18  # n·D²: below, the second eigenvalue of Durbin's matrix changes less than 1e-13
FEW_EFFECTIVE = 20  # rows of one sample that others stand for: below, the one-sample tail ends too soon, at D = 1 at 0
NODES_MIN = 160  # of a sum over n terms
NEGLIGIBLE = 1e-17


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


@compiled([DOUBLE(LONG, LONG, DOUBLE, DOUBLE)])
def _smirnov_term(n: int, v: int, shift: float, error: float) -> float:  # pragma: no cover - compiled
    """C(n,v)·p^v·(1−p)^(n−v)·d/p with p = (shift + v)/n, shift = n·d and `error` that of Stirling's formula for n!.

    A binomial probability, taken from its deviance (Loader 2000) so that no digits are lost.
    """
    rest = n - v
    deviance = v * math.log1p(shift / v) + rest * math.log1p(-shift / rest)  # ≤ 0
    correction = error - _stirling_error(np.float64(v)) - _stirling_error(np.float64(rest))
    return math.exp(deviance + correction) * math.sqrt(n / (2.0 * math.pi * v * rest)) * shift / (shift + v)


@compiled([DOUBLE(LONG, DOUBLE)])
def _smirnov_tail(n: int, d: float) -> float:  # pragma: no cover - compiled
    """P(D⁺ ≥ d) for one sample of n: Σ C(n,v)·p^v·(1−p)^(n−v)·d/p over v from 0, p = d + v/n < 1 (Smirnov 1944).

    The terms are a smooth hill, summed from about its top outwards. Of a smooth hill every second term, doubled,
    gives the same sum, and so on while enough are left: to 12 digits with NODES_MIN between 0 and n.
    """
    shift = n * d
    step = 1
    while d < 0.5 and n >= 2 * NODES_MIN * step:
        step *= 2
    error = _stirling_error(np.float64(n))
    top = int((n - shift) / 2) // step * step
    total = math.exp(n * math.log1p(-d))  # the term of 0
    for first, stride in ((top, -step), (top + step, step)):
        v, before = first, 0.0
        while v > 0 and n - v - shift > 0:
            term = _smirnov_term(n, v, shift, error)
            total += term
            if term < before and term < NEGLIGIBLE * total:
                break
            v, before = v + stride, term
    return total * step


@compiled([DOUBLE(DOUBLE, DOUBLE)])
def _pelz_good(n: float, d: float) -> float:  # pragma: no cover - compiled
    """P(D ≥ d) for one sample of n by Pelz and Good (1976): four terms of the series in 1/√n."""
    z2, pi2 = n * d * d, math.pi**2
    z, z4, z6 = math.sqrt(z2), z2 * z2, z2 * z2 * z2
    if -pi2 / 8 / z2 < -708:
        return 1.0
    b1 = pi2 / 4
    a2, b2, c2 = 6 * z6 + 2 * z4, (2 * z4 - 5 * z2) * b1, pi2**2 * (1 - 2 * z2) / 16
    a3, b3 = -30 * z6 - 90 * z4 * z4, pi2 * (135 * z4 - 96 * z6) / 4
    c3, d3 = pi2**2 * (212 * z4 - 60 * z2) / 16, pi2**3 * (5 - 30 * z2) / 64
    k0, k1, k2, k3, k2_more, k3_more = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    base = math.exp(-pi2 / 8 / z2)
    fourth_power = base**4
    eighth_power = fourth_power * fourth_power
    odd, odd_ratio = base, eighth_power  # base^(2k − 1)², and what the next one is multiplied by
    even, even_ratio = fourth_power, fourth_power * eighth_power  # base^(2k)²
    k = 1.0
    while odd > 1e-24:  # times the largest coefficient of what is left out: nothing
        m2 = (2.0 * k - 1) ** 2
        k0 += odd
        k1 += odd * (b1 * m2 - z2)
        k2 += odd * (a2 + (b2 + c2 * m2) * m2)
        k3 += odd * (a3 + (b3 + (c3 + d3 * m2) * m2) * m2)
        square = k * k
        k2_more += square * even
        k3_more += (3 * z2 - pi2 * square) * square * even
        odd, odd_ratio = odd * odd_ratio, odd_ratio * eighth_power
        even, even_ratio = even * even_ratio, even_ratio * eighth_power
        k += 1.0
    root, root_n = math.sqrt(2 * math.pi), math.sqrt(n)
    first = root * k0 / z
    second = root * k1 / (6 * z4)
    third = root * (k2 / (72 * z6 * z) - pi2 * k2_more / (36 * z2 * z))
    fourth = root * (k3 / (6480 * z4 * z6) + pi2 * k3_more / (216 * z6))
    return (1 - first) - second / root_n - third / n - fourth / (n * root_n)


@compiled([DOUBLE(LONG, DOUBLE)])
def kolmogorov_tail(n: int, d: float) -> float:  # pragma: no cover - compiled
    """P(D ≥ d) for one sample of n rows of a continuous distribution (Simard and L'Ecuyer 2011, section 3)."""
    if d >= 1.0:
        return 0.0
    if n * d <= 0.5:
        return 1.0
    squared = n * d * d
    if n > FEW and squared >= 370.0:
        return 0.0  # less than the smallest double
    if d >= 0.5 or squared >= (SMIRNOV_MIN if n > FEW else 4.0):
        return min(2.0 * _smirnov_tail(n, d), 1.0)
    return min(max(_pelz_good(np.float64(n), d), 0.0), 1.0)


@compiled([DOUBLE(LONG, DOUBLE)])
def textbook_tail(n: int, d: float) -> float:  # pragma: no cover - compiled
    """The same to 12 digits everywhere: where Pelz and Good's series is less exact, by Durbin's matrix."""
    squared = n * d * d
    if d >= 0.5 or n * d <= 0.5 or squared >= (SMIRNOV_MIN if n > FEW else 4.0):
        return kolmogorov_tail(n, d)
    if n > FEW and (n > 100_000 or n * d**1.5 > 1.4):
        return kolmogorov_tail(n, d)
    return 1.0 - (below_by_root(n, d) if n > FEW and squared <= LONE_MAX else below_by_steps(n, d))


@compiled([(read(DOUBLE, 1), read(DOUBLE, 1), read(DOUBLE, 1), types.boolean, written(DOUBLE, 1))])
def kolmogorov_tails(
    distances: FloatArray, reference_rows: FloatArray, window_rows: FloatArray, exact: bool, p_values: FloatArray
) -> None:  # pragma: no cover - compiled
    """See `kolmogorov.p_values`, whose result is written into `p_values`."""
    for i in range(len(distances)):
        d, m, n = distances[i], reference_rows[i], window_rows[i]
        if math.isnan(d):
            p_values[i] = np.nan
        elif exact and max(m, n) <= EXACT_ROWS_MAX:
            p_values[i] = paths_outside(int(m), int(n), int(np.rint(d * m * n)))
        elif not exact and min(m, n) < FEW_EFFECTIVE:
            few, more = max(int(min(m, n)), 1), min(max(int(max(m, n)), 1), EXACT_ROWS_MAX)
            p_values[i] = paths_outside(more, few, int(d * few * more + 1e-9))  # rounded down: p no smaller than it is
        else:
            rows = max(int(np.rint(m * n / (m + n))), 1)
            # Two samples' distances are steps apart: half a step back, or far tails come out two times too small.
            p_values[i] = textbook_tail(rows, d) if exact else kolmogorov_tail(rows, d - 0.5 / max(m, n))
