"""ADBench's protocol: which rows are learned from, and which are judged. Runs under both Pythons: numpy and sklearn.

At most 10,000 rows of a set, a stratified split of 70 to 30, inputs scaled to 0 … 1 on the learned part (Han et al.
2022). `normals`: only the normal rows of the learned part are learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

ROWS_MAX = 10_000
Protocol = Literal["contaminated", "normals"]
PROTOCOLS: tuple[Protocol, ...] = ("contaminated", "normals")


class Split(NamedTuple):
    """One set under one seed: (rows, columns) to learn from and to judge, (rows,) 1 for an anomaly."""

    learned: NDArray[np.float64]
    judged: NDArray[np.float64]
    labels: NDArray[np.int64]


def sets(folder: Path) -> list[str]:
    """The names of the sets, the small ones first."""
    return [file.stem for file in sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_size)]


def split(folder: Path, name: str, seed: int, protocol: Protocol) -> Split:
    arrays = np.load(folder / f"{name}.npz", allow_pickle=True)
    rows, labels = arrays["X"].astype(float), arrays["y"].astype(int)
    if len(rows) > ROWS_MAX:
        chosen = np.random.default_rng(seed).choice(len(rows), ROWS_MAX, replace=False)
        rows, labels = rows[chosen], labels[chosen]
    learned, judged, marked, known = train_test_split(rows, labels, test_size=0.3, random_state=seed, stratify=labels)
    if protocol == "normals":
        learned = learned[marked == 0]
    scaler = MinMaxScaler().fit(learned)
    return Split(scaler.transform(learned), scaler.transform(judged), known)


def figures(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    """How well the scores tell the anomalies."""
    return {"auroc": float(roc_auc_score(labels, scores)), "ap": float(average_precision_score(labels, scores))}


def every(folder: Path, seeds: int) -> Iterator[tuple[str, int, Protocol]]:
    """Every set, seed and protocol; one seed of all before the next."""
    for seed in range(seeds):
        for name in sets(folder):
            for protocol in PROTOCOLS:
                yield name, seed, protocol
