"""PyOD's detectors under ADBench's protocol: one JSON line each into a file; runs under the peers' Python.

    .venv-peers/bin/python tests/bench/peer_pyod.py FOLDER FILE SEEDS MODEL …

What the file has already is not computed again: a run takes hours, and may be interrupted.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyod
import torch
from adbench_protocol import every, figures, split

torch.set_num_threads(1)
warnings.simplefilter("ignore")


def model(name: str, columns: int, seed: int) -> Any:
    """A detector with PyOD's own defaults."""
    match name:
        case "AutoEncoder":
            from pyod.models.auto_encoder import AutoEncoder

            return AutoEncoder(random_state=seed, verbose=0)
        case "VAE":
            from pyod.models.vae import VAE

            return VAE(random_state=seed, verbose=0)
        case "IForest":
            from pyod.models.iforest import IForest

            return IForest(random_state=seed)
        case "DeepSVDD":
            from pyod.models.deep_svdd import DeepSVDD

            return DeepSVDD(columns, random_state=seed, verbose=0)
        case "SO_GAAL":
            from pyod.models.so_gaal import SO_GAAL

            return SO_GAAL()
        case "AnoGAN":
            from pyod.models.anogan import AnoGAN

            return AnoGAN()
    raise ValueError(name)


def main(folder: Path, file: Path, seeds: int, names: list[str]) -> None:
    lines = file.read_text().splitlines() if file.exists() else []
    done = {(at["model"], at["set"], at["seed"], at["protocol"]) for at in map(json.loads, lines)}
    for name in names:
        for set_name, seed, protocol in every(folder, seeds):
            if (name, set_name, seed, protocol) in done:
                continue
            rows = split(folder, set_name, seed, protocol)
            np.random.seed(seed)
            torch.manual_seed(seed)
            detector = model(name, rows.learned.shape[1], seed)
            started = time.perf_counter()
            detector.fit(rows.learned)
            seconds = time.perf_counter() - started
            scores = np.nan_to_num(detector.decision_function(rows.judged))
            found = {"model": name, "set": set_name, "seed": seed, "protocol": protocol, "pyod": pyod.__version__}
            line = json.dumps({**found, **figures(rows.labels, scores), "fit_seconds": round(seconds, 2)})
            with file.open("a") as out:
                out.write(line + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
