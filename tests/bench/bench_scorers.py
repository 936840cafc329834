"""Scoring 256 rows × 32 features: the dense autoencoder, the forest, the adversarial ones, each beside a peer.

All on one thread, as in the daemon. Fits are short: how long a row takes does not depend on what was learned.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_peers import NoPeersError, Peer
from bench_profile import explained
from bench_table import Row, side_by_side
from sklearn.ensemble import IsolationForest

from streamd.fitting.base import unwatched
from streamd.fitting.isolation import flattened
from streamd.fitting.registry import SCORERS
from streamd.scorers import registry
from streamd.scorers.fitted import Fitted
from streamd.table import FloatArray, Table

ROWS, COLUMNS = 256, 32
LEARNED = 2000
BATCHES = 20
AUTOENCODER_MS = 0.3
FOREST_TIMES = 20
AUTOENCODER_TIMES = 50
FANOGAN_SHARE = 0.333  # of the autoencoder's speed


def rows(quick: bool) -> Iterator[Row]:
    turns = 2 if quick else 15
    rng = np.random.default_rng(5)
    learned = rng.normal(size=(LEARNED, COLUMNS)) @ rng.normal(size=(COLUMNS, COLUMNS))
    batches = rng.normal(size=(BATCHES, ROWS, COLUMNS)) @ rng.normal(size=(COLUMNS, COLUMNS))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _forests(learned, batches, turns)
        yield from _networks(learned, batches, turns)
    finally:
        torch.set_num_threads(before)


def _forests(learned: FloatArray, batches: FloatArray, turns: int) -> Iterator[Row]:
    theirs = IsolationForest(n_estimators=100, random_state=0).fit(learned.astype(np.float32))
    ours = flattened(theirs)
    inputs = [np.ascontiguousarray(each.T.astype(np.float32)) for each in batches]
    np.testing.assert_allclose(ours.scores(inputs[0]), -theirs.decision_function(batches[0]), rtol=0, atol=1e-9)
    work, name = "isolation forest, 100 trees, 256 × 32", "scikit-learn decision_function"
    walk = _each(ours.scores, inputs)
    milliseconds, peer = side_by_side(walk, _each(theirs.decision_function, batches), turns, 10)
    row = Row(f"{work}, the walk alone", "ms", milliseconds, name, peer, ratio_min=FOREST_TIMES)
    yield explained(row, walk, times=200)
    scorer = _scorer("isolation", learned)
    if isinstance(scorer, str):
        yield Row(work, "ms", None, name, ratio_min=FOREST_TIMES, skipped=scorer)
        return
    score = _each(scorer.score, [_table(each) for each in batches])
    milliseconds, peer = side_by_side(score, _each(theirs.decision_function, batches), turns, 10)
    yield explained(Row(work, "ms", milliseconds, name, peer, ratio_min=FOREST_TIMES), score, times=200)


def _networks(learned: FloatArray, batches: FloatArray, turns: int) -> Iterator[Row]:
    tables = [_table(each) for each in batches]
    work, name = "dense autoencoder 32-16-8, 256 × 32", "PyOD decision_function"
    scorer = _scorer("autoencoder", learned, epochs_max=2)
    if isinstance(scorer, str):
        yield Row(work, "ms", None, name, limit=AUTOENCODER_MS, skipped=scorer)
        return
    score = _each(scorer.score, tables)
    milliseconds, peer, problem = _beside_pyod(score, learned, batches, turns)
    yield explained(Row(work, "ms", milliseconds, limit=AUTOENCODER_MS), score, times=200)
    work = f"{work}, beside PyOD"
    if peer is None:
        yield Row(work, "ms", None, name, ratio_min=AUTOENCODER_TIMES, skipped=problem)
    else:
        beside = Row(work, "ms", milliseconds, name, peer, ratio_min=AUTOENCODER_TIMES)
        yield explained(beside, score, times=200)
    autoencoder = score
    for kind, ratio_min in (("f-anogan", FANOGAN_SHARE), ("anogan", None)):
        scorer = _scorer(kind, learned, epochs_max=2, steps_max=50)
        if isinstance(scorer, str):
            yield Row(f"{kind}, 256 × 32", "ms", None, "dense autoencoder", ratio_min=ratio_min, skipped=scorer)
            continue
        score = _each(scorer.score, tables)
        milliseconds, peer = side_by_side(score, autoencoder, turns, 3, 10)
        work = f"{kind}, 256 × 32" + (f", {_search_steps()} steps of search" if kind == "anogan" else "")
        row = Row(work, "ms", milliseconds, "dense autoencoder", peer, ratio_min=ratio_min)
        yield explained(row, score, times=100)


def _beside_pyod(
    score: Callable[[], object], learned: FloatArray, batches: FloatArray, turns: int
) -> tuple[float, float | None, str]:
    """Median milliseconds of ours and of PyOD's, in turns; and why there is none of PyOD's."""
    ours: list[float] = []
    peers: list[float] = []
    problem = ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, learned=learned, batches=batches)
        try:
            with Peer("peer_scorers.py", str(file)) as peer:
                peer.ask()  # a warm-up
                for _ in range(turns):
                    ours += _timed(score)
                    peers.append(peer.ask()["ms"])
        except NoPeersError as error:
            problem = str(error)
    ours = ours or [each for _ in range(turns) for each in _timed(score)]
    return statistics.median(ours), statistics.median(peers) if peers else None, problem


def _timed(work: Callable[[], object], times: int = 10) -> list[float]:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def _scorer(kind: str, learned: FloatArray, **options: Any) -> Any:
    """The scorer as the daemon has it, on the processor; a sentence where this version cannot fit it."""
    if kind not in SCORERS:
        return f"there is no scorer {kind!r}"
    settings = SCORERS[kind].model_validate(options)
    cut = LEARNED * 4 // 5
    result = settings.learn(_table(learned[:cut]), _table(learned[cut:]), unwatched)
    fitted = Fitted(settings.kind, result.described, result.tensors, np.empty(0), np.inf, result.note)
    return registry.load(fitted, "cpu")


def _search_steps() -> int:
    steps: int = SCORERS["anogan"].model_fields["search_steps"].default
    return steps


def _table(values: FloatArray) -> Table:
    return Table(len(values), {f"f{i}": column for i, column in enumerate(np.ascontiguousarray(values.T))})


def _each(work: Callable[[Any], object], items: Any) -> Callable[[], object]:
    """`work` on the next of the items, again and again."""
    incoming = cycle(items)
    return lambda: work(next(incoming))
