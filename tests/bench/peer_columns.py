"""z-scores by river, entropies by scipy; runs under the peers' Python."""

from __future__ import annotations

import sys
import time
from itertools import cycle
from typing import Any

import peer_turns  # first: it takes stdout for itself

import numpy as np  # isort: skip


def main(kind: str, file: str) -> None:
    values = np.load(file)["values"]
    if kind == "zscore":
        _zscore(values)
    else:
        _entropy(values)


def _zscore(values: np.ndarray) -> None:
    """Batches of (columns, rows): each row scaled by what came before it, and learned."""
    from river.preprocessing import StandardScaler

    scaler = StandardScaler()
    batches = cycle([[dict(enumerate(row)) for row in batch.T.tolist()] for batch in values])

    def turn(_: dict[str, Any]) -> dict[str, Any]:
        rows = next(batches)
        started = time.perf_counter()
        for row in rows:
            scaler.transform_one(row)
            scaler.learn_one(row)
        return {"ms": 1000 * (time.perf_counter() - started)}

    peer_turns.serve({}, turn)


def _entropy(values: np.ndarray) -> None:
    """Batches of logits (rows, classes): softmax, then the entropy of each row, in nats."""
    from scipy.special import softmax
    from scipy.stats import entropy

    batches = cycle(values)

    def turn(_: dict[str, Any]) -> dict[str, Any]:
        logits = next(batches)
        started = time.perf_counter()
        entropy(softmax(logits, axis=1), axis=1)
        return {"ms": 1000 * (time.perf_counter() - started)}

    peer_turns.serve({"first": entropy(softmax(values[0], axis=1), axis=1).tolist()}, turn)


if __name__ == "__main__":
    main(*sys.argv[1:])
