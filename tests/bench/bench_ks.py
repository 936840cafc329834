"""The two-sample judge beside scipy.stats.ks_2samp, a feature at a time, with equal results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
from bench_table import Row, side_by_side
from scipy.stats import ks_2samp

from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.model import Kind, Outcome, Verdict
from streamd.table import FloatArray

FEATURES, REFERENCE_ROWS, WINDOW_ROWS, BATCH_ROWS = 32, 2000, 2000, 256
BATCHES = 40

Draw = Callable[[np.random.Generator, tuple[int, int]], FloatArray]
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal σ=3": lambda rng, shape: rng.lognormal(sigma=3.0, size=shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(size=shape),
    "ten values": lambda rng, shape: rng.integers(10, size=shape).astype(np.float64),
}


def rows(quick: bool) -> Iterator[Row]:
    for name, draw in SHAPES.items():
        for p_values in (False, True):
            yield _row(name, draw, p_values, turns=5 if quick else 25)


def _row(name: str, draw: Draw, p_values: bool, turns: int) -> Row:
    """One batch through the judge; `p_values`: judged, otherwise only its statistic is read."""
    rng = np.random.default_rng(0)
    reference = draw(rng, (FEATURES, REFERENCE_ROWS))
    batches = [draw(rng, (FEATURES, BATCH_ROWS)) for _ in range(BATCHES)]
    settings = TwoSampleSettings(
        window_rows=WINDOW_ROWS, stride_rows=BATCH_ROWS if p_values else 10**9, dependence="none"
    )
    names = tuple(f"f{i}" for i in range(FEATURES))
    judge = TwoSampleJudge("ks", Kind.FEATURES, TwoSampleProfile(names, reference, settings))
    window = np.concatenate([draw(rng, (FEATURES, WINDOW_ROWS - BATCH_ROWS)), batches[-1]], axis=1)
    judge.update(window, 0)
    incoming = cycle(batches)

    def ours(batch: FloatArray) -> Outcome:
        return judge.update(batch, 0)[0]

    def peer() -> list[tuple[float, float]]:
        results = [ks_2samp(x, y, method="asymp") for x, y in zip(reference, window, strict=True)]
        return [(r.statistic, r.pvalue) for r in results]

    for batch in batches[:3]:
        window = np.concatenate([window[:, BATCH_ROWS:], batch], axis=1)
        outcome, expected = ours(batch), np.array(peer())
        np.testing.assert_allclose(outcome.statistics, expected[:, 0], rtol=0, atol=1e-12)
        if isinstance(outcome, Verdict):
            np.testing.assert_allclose(outcome.p_values, expected[:, 1], rtol=1e-12)
    ours_ms, peer_ms = side_by_side(lambda: ours(next(incoming)), peer, turns, ours_a_turn=10)
    if p_values:
        return Row(f"ks, {name}: update, D, p and verdict", "ms", ours_ms, "ks_2samp", peer_ms)
    return Row(f"ks, {name}: update and D", "ms", ours_ms, "ks_2samp", peer_ms, ratio_min=100)
