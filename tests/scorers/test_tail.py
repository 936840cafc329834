"""The generalised Pareto fit against scipy's, and the threshold that it gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from scipy.stats import expon, genpareto, lognorm, norm, t

from streamd.scorers import kernels_tail
from streamd.scorers.tail import PEAKS_MIN, fit_tail


@pytest.mark.parametrize("shape", [-0.4, -0.05, 0.0, 0.1, 0.5, 1.5])
def test_the_fit_is_as_likely_as_scipys(shape):
    excesses = genpareto.rvs(shape, scale=2.5, size=800, random_state=3)
    found = kernels_tail.fit_pareto(excesses, 0, 0.0)
    peer = genpareto.fit(excesses, floc=0)

    def likelihood(c: float, scale: float) -> float:
        return float(genpareto.logpdf(excesses, c, scale=scale).sum())

    assert likelihood(*found) >= likelihood(peer[0], peer[2]) - 1e-6
    assert found == pytest.approx((peer[0], peer[2]), abs=2e-3)


def test_of_truncated_excesses_the_fit_is_the_truncated_likelihoods_summit():
    every = genpareto.rvs(0.2, scale=1.0, size=4000, random_state=5)
    cut = float(np.quantile(every, 0.85))
    kept = np.concatenate([every[:400], every[400:][every[400:] <= cut]])  # 400 whole, the rest below the cut
    truncated = len(kept) - 400

    def loss(parameters: np.ndarray) -> float:
        c, scale = parameters
        if scale <= 0:
            return np.inf
        inside = genpareto.cdf(cut, c, scale=scale)
        return float(-genpareto.logpdf(kept, c, scale=scale).sum() + truncated * np.log(inside))

    peer = optimize.minimize(loss, [0.1, 1.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    found = kernels_tail.fit_pareto(kept, truncated, cut)
    assert loss(np.array(found)) <= peer.fun + 1e-5
    assert found == pytest.approx(tuple(peer.x), abs=2e-3)
    naive = kernels_tail.fit_pareto(kept, 0, 0.0)
    assert abs(naive[0] - 0.2) > 3 * abs(found[0] - 0.2)


def test_where_the_likelihood_has_no_summit_the_moments_answer_and_reach_the_highest_peak():
    bounded = 1 - np.geomspace(1e-4, 1, 400)[:-1]  # most of them pile up at the end: a shape under −1
    assert np.isnan(kernels_tail.fit_pareto(bounded, 0, 0.0)[0])
    shape, scale = kernels_tail.moments(bounded)
    assert shape < 0
    assert -scale / shape >= bounded.max() * (1 - 1e-12)


@pytest.mark.parametrize("law", [norm(), expon(), lognorm(1.0), t(5)], ids=["normal", "exponential", "lognormal", "t5"])
def test_the_threshold_has_the_rate_that_was_asked_for_within_a_factor_of_two(law):
    scores = law.rvs(size=20_000, random_state=1)
    tail, excesses, past = fit_tail(scores, rate=1e-3)
    assert 0.5e-3 < law.sf(tail.threshold) < 2e-3
    assert tail.survival(tail.threshold) == pytest.approx(1e-3)
    assert len(excesses) == tail.peaks
    assert len(past) == 0


def test_too_few_peaks_are_refused_with_their_number():
    with pytest.raises(ValueError, match=f"needs {PEAKS_MIN} different scores over its level, and 30 rows have 6"):
        fit_tail(np.arange(30.0), rate=1e-3)
    with pytest.raises(ValueError, match="5000 rows have 0 over"):
        fit_tail(np.ones(5000), rate=1e-3)


def test_a_rate_that_is_no_tail_is_refused():
    with pytest.raises(ValueError, match="take a quantile"):
        fit_tail(np.arange(1000.0), rate=0.3)


def test_a_moving_average_needs_more_rows_than_it_is_deep():
    with pytest.raises(ValueError, match="50 rows have no moving average over 100"):
        fit_tail(np.arange(50.0), rate=1e-3, depth_rows=100)
