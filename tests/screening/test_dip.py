"""The dip against the definition itself, as linear programmes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linprog

from streamd.screening.dip import dip, has_one_peak
from streamd.screening.findings.peaks import CRITICAL


def smallest_distance(values: np.ndarray) -> float:
    """Over all modes: the least d within which a function convex up to the mode and concave after it lies.

    Unknowns: the function at each value, once more at the mode (it may jump there), and d.
    """
    x, times = np.unique(values, return_counts=True)
    upto = np.cumsum(times) / len(values)
    before = np.concatenate([[0.0], upto[:-1]])
    n = len(x)
    best = np.inf
    for mode in range(n):
        rows, limits = [], []

        def at_most(coefficients: dict[int, float], limit: float, rows: list = rows, limits: list = limits) -> None:
            row = np.zeros(n + 2)
            for place, factor in coefficients.items():
                row[place] = factor
            rows.append(row)
            limits.append(limit)

        jump, d = n, n + 1  # place `mode` is the function just before the mode, `jump` at it
        for i in range(n):
            at = jump if i == mode else i
            at_most({at: -1.0, d: -1.0}, -upto[i])
            at_most({i: 1.0, d: -1.0}, before[i])
            if i == mode:
                at_most({jump: 1.0, d: -1.0}, upto[i])
                at_most({i: -1.0, d: -1.0}, -before[i])
        at_most({mode: 1.0, jump: -1.0}, 0.0)
        left, right = list(range(mode + 1)), [jump, *range(mode + 1, n)]
        for path, places, sign in ((left, list(range(mode + 1)), 1.0), (right, list(range(mode, n)), -1.0)):
            for a, b in pairwise(path):
                at_most({a: 1.0, b: -1.0}, 0.0)
            for k in range(len(path) - 2):
                a, b, c = path[k : k + 3]
                p, q, r = x[places[k]], x[places[k + 1]], x[places[k + 2]]
                at_most({b: sign / (q - p) + sign / (r - q), a: -sign / (q - p), c: -sign / (r - q)}, 0.0)
        found = linprog(np.eye(n + 2)[d], np.array(rows), np.array(limits), bounds=[(0, 1)] * (n + 1) + [(0, 1)])
        assert found.success
        best = min(best, found.fun)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", ["normal", "two", "ties"])
def test_the_dip_is_the_distance_to_the_nearest_unimodal_function(seed: int, shape: str) -> None:
    rng = np.random.default_rng([seed, len(shape)])
    n = 12 + seed
    values = {
        "normal": rng.normal(size=n),
        "two": np.concatenate([rng.normal(size=n // 2), rng.normal(6, 1, n - n // 2)]),
        "ties": np.round(rng.normal(size=n) * 2),
    }[shape]
    assert dip(np.sort(values)) == pytest.approx(smallest_distance(values), abs=1e-5)


@pytest.mark.slow
def test_uniform_columns_have_one_peak_all_but_one_in_a_thousand_times() -> None:
    rng = np.random.default_rng(0)
    n = 200
    rejected = sum(not has_one_peak(np.sort(rng.random(n)), CRITICAL / np.sqrt(n)) for _ in range(500))
    assert rejected <= 3


def test_two_heaps_far_apart_have_no_single_peak() -> None:
    rng = np.random.default_rng(1)
    heaps = np.concatenate([rng.normal(-4, 1, 250), rng.normal(4, 1, 250)])
    assert dip(np.sort(heaps)) > 0.1
    assert not has_one_peak(np.sort(heaps), 0.1)
