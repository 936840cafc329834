"""The tables of what the long runs of `quality_scorers` and `peer_pyod` gave: `adbench.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adbench_protocol import PROTOCOLS

from streamd.fitting.registry import SCORERS

RECORDED = Path(__file__).with_name("adbench.jsonl")

PEERS = {  # ours -> PyOD's of the same kind
    "autoencoder": "AutoEncoder",
    "vae": "VAE",
    "isolation": "IForest",
    "f-anogan": "SO_GAAL",
    "anogan": "AnoGAN",
}
BESIDE = (
    ("autoencoder", "AutoEncoder", "sparse", "shallow", "vae", "VAE", "DeepSVDD"),
    ("isolation", "IForest", "f-anogan", "wgan-gp", "SO_GAAL", "anogan", "AnoGAN"),
)
AUTOENCODERS = ("autoencoder", "sparse", "shallow", "vae")
EXPECTED = 0.91  # AUROC of the best autoencoder that was fitted on normal rows

SETS_MIN = 7  # that both were given: a mean over fewer tells nothing
NOISE = 0.01
"""Differences of a mean below this mean nothing over so few sets."""

Told = dict[tuple[str, str], dict[str, np.ndarray]]
"""(model, protocol) -> set -> (2,) AUROC and average precision, means over the seeds."""


def told(lines: Iterable[Mapping[str, Any]]) -> Told:
    runs: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for at in lines:
        of_sets = runs.setdefault((at["model"], at["protocol"]), {})
        of_sets.setdefault(at["set"], []).append((at["auroc"], at["ap"]))
    return {key: {name: np.mean(each, axis=0) for name, each in of_sets.items()} for key, of_sets in runs.items()}


def mean(figures: Mapping[str, np.ndarray], sets: Iterable[str]) -> np.ndarray:
    """(2,) over these sets."""
    return np.mean([figures[name] for name in sets], axis=0)


def table() -> bool:
    """Print what was recorded, ours beside PyOD's of the same kind; whether ours are not below them."""
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    found, versions = told(lines), sorted({at["pyod"] for at in lines if "pyod" in at})
    sets = sorted({at["set"] for at in lines}, key=lambda name: int(name.split("_")[0]))
    print(f"\nScorers under ADBench's protocol, {len(sets)} sets, beside PyOD {', '.join(versions)} (as recorded)")
    for protocol in PROTOCOLS:
        for models in BESIDE:
            if there := [model for model in models if (model, protocol) in found]:
                _print_sets(there, protocol, found, sets)
    _print_means(lines, found, sets)
    normals = {
        model: float(mean(of, sets)[0]) for (model, p), of in found.items() if p == "normals" and len(of) == len(sets)
    }
    best = max((model for model in AUTOENCODERS if model in normals), key=lambda model: normals[model])
    print(
        f"the best autoencoder on normal rows is {best}: AUROC {normals[best]:.3f}, where {EXPECTED} is expected and "
        f"PyOD's AutoEncoder has {normals.get('AutoEncoder', math.nan):.3f} on the same {len(sets)} sets"
    )
    return _none_is_behind(found) and normals[best] >= EXPECTED


def _print_sets(models: Sequence[str], protocol: str, found: Told, sets: Sequence[str]) -> None:
    """One row a set, AUROC and average precision of each model."""
    print(f"\n{'fitted on ' + SAID[protocol]:<26}" + "".join(f"{_named(model):>17}" for model in models))
    for name in sets:
        cells = (found[model, protocol].get(name) for model in models)
        print(f"{name:<26}" + "".join(f"{_cell(cell):>17}" for cell in cells))


SAID = {"contaminated": "all rows", "normals": "normal rows only"}


def _print_means(lines: Sequence[Mapping[str, Any]], found: Told, sets: Sequence[str]) -> None:
    """The means of those that all sets were given to, the best first."""
    whole = {model for model, _ in found if all(len(found.get((model, p), ())) == len(sets) for p in PROTOCOLS)}
    print(f"\n{'means: AUROC, AP':<26}" + "".join(f"{SAID[p]:>20}" for p in PROTOCOLS) + f"{'seeds':>7}")
    means = {model: [mean(found[model, protocol], sets) for protocol in PROTOCOLS] for model in whole}
    for model in sorted(whole, key=lambda model: -sum(each[0] for each in means[model])):
        runs = sum(at["model"] == model for at in lines)
        cells = "".join(f"{_cell(each):>20}" for each in means[model])
        print(f"{_named(model):<26}{cells}{runs / len(sets) / len(PROTOCOLS):>7.3g}")


def _none_is_behind(found: Told) -> bool:
    """Whether no mean of ours, over the sets that both were given, is below PyOD's of the same kind."""
    good = True
    for ours, theirs in PEERS.items():
        for protocol in PROTOCOLS:
            us, them = found.get((ours, protocol), {}), found.get((theirs, protocol), {})
            both = sorted(us.keys() & them.keys())
            if not both:
                print(f"nothing was recorded for {ours} beside PyOD's {theirs}, {SAID[protocol]}")
                continue
            ahead = mean(us, both) - mean(them, both)
            good &= bool((ahead >= -NOISE).all()) or len(both) < SETS_MIN
            for figure, difference in zip(("AUROC", "average precision"), ahead, strict=True):
                if difference < 0:
                    where = f"{SAID[protocol]}, {len(both)} sets"
                    print(f"{ours} is {-difference:.3f} behind PyOD's {theirs} in {figure}, {where}")
    return good


def _named(model: str) -> str:
    return model if model in SCORERS else f"PyOD {model}"


def _cell(figures: np.ndarray | None) -> str:
    return "" if figures is None else f"{figures[0]:.3f} {figures[1]:.3f}"
