"""The distribution of one sample's Kolmogorov–Smirnov distance by Durbin's matrix, compiled by numba.

P(D < d) = n!/nⁿ·(Hⁿ) at (k, k), of 2k − 1 = m rows, where k = ⌈n·d⌉ and h = k − n·d (Durbin 1968; Marsaglia, Tsang
and Wang 2003, Evaluating Kolmogorov's distribution):

        (1−h)/1!       1        0   …   0
        (1−h²)/2!     1/1!      1   …   0        each diagonal is constant but for the first column and the
    H =     ⋮          ⋮                         last row; H is its own mirror image about the other diagonal
        corner  (1−h^(m−1))/(m−1)!  …  (1−h)/1!  corner = (1 − 2hᵐ + max(2h − 1, 0)ᵐ)/m!
"""

from __future__ import annotations

import math

import numpy as np

from streamd.detectors.compiled import DOUBLE, LONG, compiled, written
from streamd.table import FloatArray

DIAGONALS = 22  # 1/23! is nothing beside 1
NEWTON_MAX = 30  # three or four are taken
ROUNDING = 2e-15


@compiled([(DOUBLE, written(DOUBLE, 1), written(DOUBLE, 1))])
def _fill(shift: float, diagonals: FloatArray, edge: FloatArray) -> None:  # pragma: no cover - compiled
    """Write 1/1!, 1/2!, … into `diagonals` and H's first column into `edge`, both (m,). `shift` is n·d."""
    m = len(edge)
    h = math.ceil(shift) - shift
    factor, power = 1.0, 1.0
    for i in range(m):
        factor /= i + 1
        power *= h
        diagonals[i] = factor
        edge[i] = (1.0 - power) * factor
    edge[m - 1] = (1.0 - 2.0 * power + max(2.0 * h - 1.0, 0.0) ** m) * factor


@compiled([DOUBLE(LONG, DOUBLE)])
def below_by_steps(n: int, d: float) -> float:  # pragma: no cover - compiled
    """P(D < d), n·d > 0.5: the middle row of H⁰, H¹, … Hⁿ, scaled as it goes; sums of positive terms alone."""
    k = math.ceil(n * d)
    m = 2 * k - 1
    diagonals, edge, after = np.empty(m), np.empty(m), np.empty(m)
    _fill(n * d, diagonals, edge)
    row = np.zeros(m)
    row[k - 1] = 1.0
    for i in range(n):
        last = row[m - 1]
        first = 0.0
        for j in range(m):
            first += row[j] * edge[j]
        for j in range(1, m):
            after[j] = row[j - 1] + last * edge[m - 1 - j]
        for diagonal in range(min(DIAGONALS, m - 2)):
            factor = diagonals[diagonal]
            for j in range(1, m - 1 - diagonal):
                after[j] += factor * row[j + diagonal]
        after[0] = first
        scale = (i + 1) / n
        for j in range(m):
            row[j] = after[j] * scale
    return float(row[k - 1])


@compiled([DOUBLE(LONG, DOUBLE)])
def below_by_root(n: int, d: float) -> float:  # pragma: no cover - compiled
    """P(D < d), n·d > 0.5, from H's largest eigenvalue λ alone, for n·d² small: the others' n-th powers are nothing.

    λ depends on n·d only and is near exp(1 − π²/(8·(n·d)²)), the rate of a Brownian bridge in a band. Newton's method
    on the last row of (H − λ)·v = 0; the rows before it give v, one entry after the other, and its derivative. The
    left eigenvector is v upside down.
    """
    shift = n * d
    k = math.ceil(shift)
    m = 2 * k - 1
    diagonals, edge = np.empty(m), np.empty(m)
    _fill(shift, diagonals, edge)
    v, slopes = np.zeros(m + 1), np.zeros(m + 1)
    v[0] = 1.0
    root = math.exp(1.0 - math.pi**2 / (8.0 * shift * shift))
    for _ in range(NEWTON_MAX):
        for i in range(m):
            ahead, slope = root * v[i] - edge[i], v[i] + root * slopes[i]  # v[0] = 1
            for j in range(max(1, i - DIAGONALS), i + 1):
                entry = diagonals[i - j] if i < m - 1 else edge[m - 1 - j]
                ahead -= entry * v[j]
                slope -= entry * slopes[j]
            v[i + 1], slopes[i + 1] = ahead, slope
        change = v[m] / slopes[m]
        root -= change
        if abs(change) <= ROUNDING * root:
            break
    length = 0.0
    for i in range(m):
        length += v[i] * v[m - 1 - i]
    return float(math.exp(n * math.log(root / n) + math.lgamma(n + 1.0)) * v[k - 1] ** 2 / length)
