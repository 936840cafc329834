"""Our scorers beside PyOD's under ADBench's protocol: the same rows, the same splits, the same seeds.

    make quality                                                            the table of what was recorded
    .venv/bin/python tests/bench/quality_scorers.py FILE SEEDS TYPE …       ours into a file, a JSON line each: hours
    .venv-peers/bin/python tests/bench/peer_pyod.py FOLDER FILE SEEDS MODEL …                  PyOD's, likewise

`adbench.jsonl` beside this file holds what the long runs gave.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from adbench_protocol import Protocol, every, figures, split

from streamd.fitting.base import unwatched
from streamd.fitting.registry import SCORERS
from streamd.scorers import registry
from streamd.scorers.fitted import Fitted
from streamd.table import Table

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
FOLDER = DATA / "adbench/Classical"
RECORDED = Path(__file__).with_name("adbench.jsonl")
VALIDATION_SHARE = 0.2  # of the learned rows, which the split has shuffled, the last ones decide when to stop

PEERS = {  # ours -> PyOD's of the same kind
    "autoencoder": "AutoEncoder",
    "vae": "VAE",
    "isolation": "IForest",
    "f-anogan": "SO_GAAL",
    "anogan": "AnoGAN",
}


def judged(scorer: str, name: str, seed: int, protocol: Protocol) -> dict[str, float]:
    """How well one of ours tells one set's anomalies, and how long the fit took."""
    rows = split(FOLDER, name, seed, protocol)
    settings = SCORERS[scorer].model_validate({"seed": seed})
    cut = int((1 - VALIDATION_SHARE) * len(rows.learned))
    started = time.perf_counter()
    learned = settings.learn(_table(rows.learned[:cut]), _table(rows.learned[cut:]), unwatched)
    seconds = time.perf_counter() - started
    fitted = Fitted(settings.kind, learned.described, learned.tensors, np.empty(0), np.inf, learned.note)
    scores = registry.load(fitted, "cpu").score(_table(rows.judged)).values
    return {**figures(rows.labels, scores), "fit_seconds": round(seconds, 2)}


def _table(rows: np.ndarray) -> Table:
    return Table(len(rows), {f"x{i}": np.ascontiguousarray(column) for i, column in enumerate(rows.T)})


def main(file: Path, seeds: int, scorers: Iterable[str]) -> None:
    """Fill the file up: what it has already is not computed again."""
    torch.set_num_threads(1)
    lines = file.read_text().splitlines() if file.exists() else []
    done = {(at["model"], at["set"], at["seed"], at["protocol"]) for at in map(json.loads, lines)}
    for scorer in scorers:
        for name, seed, protocol in every(FOLDER, seeds):
            if (scorer, name, seed, protocol) in done:
                continue
            found = {"model": scorer, "set": name, "seed": seed, "protocol": protocol}
            with file.open("a") as out:
                out.write(json.dumps({**found, **judged(scorer, name, seed, protocol)}) + "\n")


def means(lines: Iterable[Mapping[str, object]]) -> dict[tuple[str, str], tuple[float, float, int]]:
    """(model, protocol) -> the mean AUROC and average precision over the sets' means, and of how many runs."""
    runs: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for at in lines:
        key = (str(at["model"]), str(at["protocol"]), str(at["set"]))
        runs.setdefault(key, []).append((float(str(at["auroc"])), float(str(at["ap"]))))
    sets: dict[tuple[str, str], list[np.ndarray]] = {}
    counts: dict[tuple[str, str], int] = {}
    for (model, protocol, _), each in runs.items():
        sets.setdefault((model, protocol), []).append(np.mean(each, axis=0))
        counts[model, protocol] = counts.get((model, protocol), 0) + len(each)
    return {key: (*map(float, np.mean(each, axis=0)), counts[key]) for key, each in sets.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
