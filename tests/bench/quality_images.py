"""One handwritten digit against the nine others: what the scorers of images tell, fitted on the digit alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from adbench_protocol import figures
from quality_scorers import scored

from streamd.fitting.registry import SCORERS
from streamd.table import Table

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
LEARNED, VALIDATING = 320, 80  # of the 500 pictures of a digit; the other 100 are judged beside as many of the others


def one_digit(scorer: str, digit: int, **options: object) -> tuple[float, float, float]:
    """AUROC, average precision and the seconds of the fit."""
    rows = np.loadtxt(DATA / "mnist5k/mnist_5k.csv.gz", delimiter=",")
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(int)
    rng = np.random.default_rng(digit)
    own = rng.permutation(np.flatnonzero(labels == digit))
    others = rng.permutation(np.flatnonzero(labels != digit))[:900]
    settings = SCORERS[scorer].model_validate({"seed": 0, **options})
    parts = own[:LEARNED], own[LEARNED : LEARNED + VALIDATING], np.concatenate([own[LEARNED + VALIDATING :], others])
    learned, validating, judged = (Table(len(part), arrays={"image": images[part]}) for part in parts)
    scores, seconds = scored(settings, learned, validating, judged)
    marked = np.arange(len(scores)) >= len(own) - LEARNED - VALIDATING
    told = figures(marked, scores)
    return told["auroc"], told["ap"], seconds


def table(sizes: str) -> bool:
    """Print them; `full` is half an hour. Whether each tells its digit."""
    scorers = ("conv", "f-anogan") if sizes == "full" else ("conv",)
    digits = {"full": (1, 4, 8), "tiny": (1,)}.get(sizes, (1, 8))
    options = {"epochs_max": 1} if sizes == "tiny" else {}
    print(f"\nOne handwritten digit against nine others, fitted on {LEARNED} pictures of it")
    print(f"{'':<14}{'digit':>6}{'AUROC':>8}{'AP':>8}")
    good = True
    for scorer in scorers:
        for digit in digits:
            auroc, precision, seconds = one_digit(scorer, digit, **options)
            good &= auroc > 0.5
            print(f"{scorer:<14}{digit:>6}{auroc:>8.3f}{precision:>8.3f}  {seconds:.0f} s", flush=True)
    return good
