"""Streaming z-score and entropy, beside river a row at a time and scipy.stats.entropy a batch at a time."""

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
from bench_table import Row

from streamd.detectors.base import Detector, Reference
from streamd.detectors.entropy import EntropyConfig
from streamd.detectors.zscore import ZscoreConfig
from streamd.model import FeatureBatch
from streamd.scorers.entropy import entropies_and_winners
from streamd.table import Predictions, Table

ROWS, COLUMNS = 256, 32
BATCHES = 40
OURS_A_TURN = 20
TARGET = 20_000_000


def rows(quick: bool) -> Iterator[Row]:
    turns = 2 if quick else 15
    rng = np.random.default_rng(4)
    features = rng.normal(size=(BATCHES, COLUMNS, ROWS))
    tables = [Table(ROWS, {f"f{i}": column for i, column in enumerate(each)}) for each in features]
    detector = ZscoreConfig().build("zscore", None)
    row = _beside("streaming z-score, 256 × 32", "zscore", "river", detector, tables, features, turns)
    yield row
    for classes in (COLUMNS, 2):
        logits = rng.normal(size=(BATCHES, ROWS, classes))
        predicted = [Table(ROWS, predictions=Predictions("logits", each)) for each in logits]
        reference = Table(2000, predictions=Predictions("logits", rng.normal(size=(2000, classes))))
        config = EntropyConfig()
        profile = config.profile(Reference(reference, reference.sha256(), "batches"))
        ours, _ = entropies_and_winners(predicted[0].predictions.values, "logits")  # type: ignore[union-attr]
        work = f"streaming entropy, 256 × {classes} logits"
        detector = config.build("entropy", profile)
        limit = TARGET if classes == COLUMNS else None
        yield _beside(work, "entropy", "scipy.stats.entropy", detector, predicted, logits, turns, limit, ours.tolist())


def _beside(
    work: str,
    kind: str,
    peer_name: str,
    detector: Detector,
    tables: list[Table],
    values: np.ndarray,
    turns: int,
    limit: float | None = TARGET,
    expected: list[float] | None = None,
) -> Row:
    incoming = cycle(FeatureBatch("s", 0, 0, table) for table in tables)

    def step() -> None:
        detector.update(next(incoming))

    for _ in range(50):
        step()  # pasts and windows fill
    count = int(values[0].size)
    ours: list[float] = []
    peers: list[float] = []
    skipped = ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, values=values)
        try:
            with Peer("peer_columns.py", kind, str(file)) as peer:
                if expected is not None:
                    np.testing.assert_allclose(peer.ready["first"], expected, rtol=1e-9)
                for _ in range(turns):
                    ours += _timed(step)
                    peers.append(peer.ask()["ms"])
        except NoPeersError as error:
            skipped = str(error)
    ours = ours or [each for _ in range(turns) for each in _timed(step)]
    rate = 1000 * count / statistics.median(ours)
    peer_rate = 1000 * count / statistics.median(peers) if peers else None
    name = peer_name if peers else f"{peer_name}: {skipped}"
    return explained(Row(work, "values/s", rate, name, peer_rate, limit=limit), step, times=200)


def _timed(work: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(OURS_A_TURN):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return taken
