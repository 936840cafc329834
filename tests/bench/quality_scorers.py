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
from adbench_protocol import PROTOCOLS, Protocol, every, figures, split

from streamd.fitting.base import unwatched
from streamd.fitting.registry import SCORERS
from streamd.scorers import registry
from streamd.scorers.fitted import Fitted
from streamd.table import Table

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
FOLDER = DATA / "adbench/Classical"
RECORDED = Path(__file__).with_name("adbench.jsonl")
VALIDATION_SHARE = 0.2  # of the learned rows, which the split has shuffled, the last ones decide when to stop

NORMALS = {"outlying": 10.0}
"""What the README tells people to set who know that their rows are normal, of the settings that have it. Chosen on
seed 0 of these very sets; PyOD's detectors run with their own defaults under both protocols."""

NOISE = 0.01
"""Differences of mean AUROC below this mean nothing over so few sets."""

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
    known = {key: value for key, value in NORMALS.items() if key in SCORERS[scorer].model_fields}
    settings = SCORERS[scorer].model_validate({"seed": seed, **(known if protocol == "normals" else {})})
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


def table() -> bool:
    """Print what was recorded, ours beside PyOD's of the same kind; whether ours are not below them."""
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    found, versions = means(lines), sorted({at["pyod"] for at in lines if "pyod" in at})
    sets_told = len({at["set"] for at in lines})
    print(f"\nScorers under ADBench's protocol, {sets_told} sets, beside PyOD {', '.join(versions)} (as recorded)")
    print(
        f"{'':<22}{'fitted on all rows':>26}{'on normal rows only':>28}\n{'':<22}"
        + f"{'AUROC':>12}{'AP':>7}{'runs':>7}" * 2
    )
    models = sorted({model for model, _ in found}, key=lambda model: -sum(found[model, p][0] for p in PROTOCOLS))
    for model in models:
        each = [found[model, protocol] for protocol in PROTOCOLS]
        whose = "" if model in SCORERS else "PyOD "
        print(f"{whose + model:<22}" + "".join(f"{auroc:>12.3f}{ap:>7.3f}{runs:>7}" for auroc, ap, runs in each))
    good = True
    for ours, theirs in PEERS.items():
        for protocol in PROTOCOLS:
            if (ours, protocol) in found and (theirs, protocol) in found:
                behind = found[theirs, protocol][0] - found[ours, protocol][0]
                good &= behind <= NOISE
                if behind > 0:
                    print(f"{ours} is {behind:.3f} behind PyOD's {theirs}, {protocol}")
    return good


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
