"""The two-sample judge beside scipy.stats.ks_2samp and alibi-detect's KSDrift, with equal results; and a wide one."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
from bench_peers import NoPeersError, Peer
from bench_profile import explained
from bench_table import Row, side_by_side
from scipy.stats import ks_2samp

from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.model import Kind, Reading, Verdict
from streamd.table import FloatArray

FEATURES, REFERENCE_ROWS, WINDOW_ROWS, BATCH_ROWS = 32, 2000, 2000, 256
WIDE_FEATURES, WIDE_REFERENCE_ROWS, WIDE_ROWS = 100, 10_000, 1000
BATCHES = 40
OURS_A_TURN = 10

Draw = Callable[[np.random.Generator, tuple[int, int]], FloatArray]
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal σ=3": lambda rng, shape: rng.lognormal(sigma=3.0, size=shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(size=shape),
    "ten values": lambda rng, shape: rng.integers(10, size=shape).astype(np.float64),
}


def rows(quick: bool) -> Iterator[Row]:
    for name, draw in SHAPES.items():
        yield _beside_scipy(name, Judged(draw, judged=True), turns=3 if quick else 25)
        yield _beside_alibi(name, Judged(draw, judged=True), turns=3 if quick else 15)
        yield _distance_alone(name, draw, turns=3 if quick else 25)
    yield from _wide(turns=3 if quick else 50)


class Judged:
    """A judge whose window slides over batches, and the same window for the peers.

    Args:
        draw: the distribution.
        judged: every batch; otherwise only its statistic is read.
    """

    def __init__(self, draw: Draw, judged: bool) -> None:
        rng = np.random.default_rng(0)
        self.reference = draw(rng, (FEATURES, REFERENCE_ROWS))
        batches = [draw(rng, (FEATURES, BATCH_ROWS)) for _ in range(BATCHES)]
        self.window = np.concatenate([draw(rng, (FEATURES, WINDOW_ROWS - BATCH_ROWS)), batches[-1]], axis=1)
        settings = TwoSampleSettings(
            window_rows=WINDOW_ROWS, stride_rows=BATCH_ROWS if judged else 10**9, dependence="none"
        )
        profile = TwoSampleProfile(tuple(f"f{i}" for i in range(FEATURES)), self.reference, settings)
        self._judge = TwoSampleJudge("ks", Kind.FEATURES, profile)
        self._judge.update(self.window, 0)
        self._incoming = cycle(batches)

    def step(self) -> Verdict | Reading:
        """One batch through the judge: the Verdict where it is judged, else the Reading."""
        return (self._judge.update(next(self._incoming), 0) or self._judge.readings())[0]

    def slide(self) -> Verdict | Reading:
        """The same, and the peers' window slides with it."""
        batch = next(self._incoming)
        self.window = np.concatenate([self.window[:, BATCH_ROWS:], batch], axis=1)
        return (self._judge.update(batch, 0) or self._judge.readings())[0]

    def scipy(self) -> FloatArray:
        """(features, 2): D and p of scipy, by the same formula: `exact` would be slower still."""
        found = [ks_2samp(x, y, method="asymp") for x, y in zip(self.reference, self.window, strict=True)]
        return np.array([(each.statistic, each.pvalue) for each in found])


def _beside_scipy(name: str, bench: Judged, turns: int) -> Row:
    for _ in range(3):
        outcome, expected = bench.slide(), bench.scipy()
        assert isinstance(outcome, Verdict)
        np.testing.assert_allclose(outcome.statistics, expected[:, 0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(outcome.p_values, expected[:, 1], rtol=1e-12)
    ours_ms, peer_ms = side_by_side(bench.step, bench.scipy, turns, ours_a_turn=OURS_A_TURN)
    row = Row(f"ks, {name}, judged every batch", "ms", ours_ms, "ks_2samp", peer_ms, ratio_min=100)
    return explained(row, bench.step, times=100)


def _beside_alibi(name: str, bench: Judged, turns: int) -> Row:
    work = f"ks, {name}, judged every batch, beside alibi-detect"
    outcome = bench.slide()
    assert isinstance(outcome, Verdict)
    ours: list[float] = []
    peers: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, reference=bench.reference.T, window=bench.window.T)
        try:
            with Peer("peer_ks.py", str(file)) as peer:
                found = peer.ask(results=True)
                np.testing.assert_allclose(outcome.statistics, found["distances"], rtol=1e-6)  # it keeps float32
                np.testing.assert_allclose(outcome.p_values, found["p_values"], rtol=1e-5, atol=1e-37)
                for _ in range(turns):
                    ours += _timed(bench.step, OURS_A_TURN)
                    peers.append(peer.ask()["ms"])
        except NoPeersError as error:
            return Row(work, "ms", None, "KSDrift.predict", ratio_min=200, skipped=str(error))
    ours_ms, peer_ms = statistics.median(ours), statistics.median(peers)
    row = Row(work, "ms", ours_ms, "KSDrift.predict", peer_ms, ratio_min=200)
    return explained(row, bench.step, times=100)


def _distance_alone(name: str, draw: Draw, turns: int) -> Row:
    """What the statistic of the sliding window costs, where it is shown between two judgements."""
    bench = Judged(draw, judged=False)
    outcome, expected = bench.slide(), bench.scipy()
    np.testing.assert_allclose(outcome.statistics, expected[:, 0], rtol=0, atol=1e-12)
    ours_ms, peer_ms = side_by_side(bench.step, bench.scipy, turns, ours_a_turn=OURS_A_TURN)
    return Row(f"ks, {name}, D alone", "ms", ours_ms, "ks_2samp", peer_ms)


def _wide(turns: int) -> Iterator[Row]:
    """Many columns, a long reference, and a window that every batch fills: judged every batch."""
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(WIDE_FEATURES, WIDE_REFERENCE_ROWS))
    incoming = cycle([rng.normal(size=(WIDE_FEATURES, WIDE_ROWS)) for _ in range(10)])
    names = tuple(f"f{i}" for i in range(WIDE_FEATURES))
    for kind, more in {"by default": {}, "textbook p-values": {"dependence": "none"}}.items():
        settings = TwoSampleSettings.model_validate(
            {"window_rows": WIDE_ROWS, "reference_rows_max": WIDE_REFERENCE_ROWS, **more}
        )
        judge = TwoSampleJudge("ks", Kind.FEATURES, TwoSampleProfile(names, reference, settings))

        def step(judge: TwoSampleJudge = judge) -> None:
            assert isinstance(judge.update(next(incoming), 0)[0], Verdict)

        step()
        rate = 1000 * WIDE_ROWS / statistics.median(_timed(step, turns))
        limit = None if more else 1_000_000
        row = Row(f"ks, 100 features, reference 10,000, batch 1000, {kind}", "rows/s", rate, limit=limit)
        yield explained(row, step, times=50)


def _timed(work: Callable[[], object], times: int) -> list[float]:
    """The milliseconds of each of `times` runs."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return taken
