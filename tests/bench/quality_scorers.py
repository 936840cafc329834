"""Our scorers beside PyOD's under ADBench's protocol: the same rows, the same splits, the same seeds.

    make quality                                                            the table of what was recorded
    .venv/bin/python tests/bench/quality_scorers.py FILE SEEDS TYPE …       ours into a file, a JSON line each: hours
    .venv-peers/bin/python tests/bench/peer_pyod.py FOLDER FILE SEEDS MODEL …                  PyOD's, likewise

`adbench.jsonl` beside this file holds what the long runs gave; `quality_recorded` prints it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from adbench_protocol import PROTOCOLS, Protocol, every, figures, split
from quality_recorded import NOISE, RECORDED

from streamd.fitting.base import ScorerSettings, unwatched
from streamd.fitting.registry import SCORERS
from streamd.scorers import registry
from streamd.scorers.fitted import Fitted
from streamd.table import Table

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
FOLDER = DATA / "adbench/Classical"
VALIDATION_SHARE = 0.2  # of the learned rows, which the split has shuffled, the last ones decide when to stop

NORMALS = {"outlying": 10.0}
"""What the README tells people to set who know that their rows are normal, of the settings that have it. Chosen on
seed 0 of these very sets; PyOD's detectors run with their own defaults under both protocols."""


def judged(scorer: str, name: str, seed: int, protocol: Protocol) -> dict[str, float]:
    """How well one of ours tells one set's anomalies, and how long the fit took."""
    rows = split(FOLDER, name, seed, protocol)
    known = {key: value for key, value in NORMALS.items() if key in SCORERS[scorer].model_fields}
    settings = SCORERS[scorer].model_validate({"seed": seed, **(known if protocol == "normals" else {})})
    cut = int((1 - VALIDATION_SHARE) * len(rows.learned))
    parts = (_table(part) for part in (rows.learned[:cut], rows.learned[cut:], rows.judged))
    scores, seconds = scored(settings, *parts)
    return {**figures(rows.labels, scores), "fit_seconds": round(seconds, 2)}


def scored(settings: ScorerSettings, learned: Table, validating: Table, judged: Table) -> tuple[np.ndarray, float]:
    """(rows,) the scores of the judged rows, and the seconds of the fit."""
    started = time.perf_counter()
    found = settings.learn(learned, validating, unwatched)
    seconds = time.perf_counter() - started
    fitted = Fitted(settings.kind, found.described, found.tensors, np.empty(0), np.inf, found.note)
    return registry.load(fitted, "cpu").score(judged).values, seconds


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


def again(name: str = "45_wine", scorer: str = "isolation") -> bool:
    """Whether what was recorded of ours comes out again: one small set, seed 0."""
    lines = map(json.loads, RECORDED.read_text().splitlines())
    told = {at["protocol"]: at for at in lines if (at["model"], at["set"], at["seed"]) == (scorer, name, 0)}
    return all(
        abs(judged(scorer, name, 0, protocol)["auroc"] - float(str(told[protocol]["auroc"]))) < NOISE
        for protocol in PROTOCOLS
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
