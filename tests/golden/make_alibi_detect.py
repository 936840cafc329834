"""Write alibi_detect.json: what alibi-detect says of the samples below, feature by feature.

alibi-detect's licence is not free, so it is no dependency: run this in an environment of its own.

    python -m venv /tmp/alibi && /tmp/alibi/bin/pip install alibi-detect==0.13.0
    /tmp/alibi/bin/python tests/golden/make_alibi_detect.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NUMERIC = ("normal", "shifted", "wider", "ties", "heavy", "constant")
CATEGORICAL = ("two", "two_shifted", "five", "five_shifted", "unseen", "vanished")
REFERENCE_ROWS, WINDOW_ROWS = 1200, 800


def samples() -> tuple[dict[str, Any], dict[str, Any]]:
    """Reference and window, name -> (rows,). RandomState, whose stream is the same in every version of numpy."""
    rng = np.random.RandomState(20261122)

    def numeric(rows: int, shift: float, spread: float) -> dict[str, Any]:
        return {
            "normal": rng.normal(size=rows),
            "shifted": rng.normal(size=rows) + shift,
            "wider": rng.normal(size=rows) * spread,
            "ties": rng.randint(0, 8, rows) + (rng.random_sample(rows) < shift / 3).astype(float),
            "heavy": rng.standard_cauchy(rows) + shift,
            "constant": np.full(rows, 2.0),
        }

    def categorical(rows: int, moved: bool) -> dict[str, Any]:
        return {
            "two": rng.randint(0, 2, rows),
            "two_shifted": (rng.random_sample(rows) < (0.45 if moved else 0.3)).astype(int),
            "five": rng.randint(0, 5, rows),
            "five_shifted": rng.randint(0, 5, rows) * rng.randint(0 if moved else 1, 2, rows),
            "unseen": rng.randint(0, 4 if moved else 3, rows),
            "vanished": rng.randint(0, 3 if moved else 4, rows),
        }

    reference = numeric(REFERENCE_ROWS, 0.0, 1.0) | categorical(REFERENCE_ROWS, False)
    window = numeric(WINDOW_ROWS, 0.3, 1.5) | categorical(WINDOW_ROWS, True)
    return reference, window


def main() -> None:
    import alibi_detect
    from alibi_detect.cd import ChiSquareDrift, KSDrift, TabularDrift

    reference, window = samples()

    def said(detector: Any, names: tuple[str, ...]) -> dict[str, Any]:
        found = detector.predict(np.stack([window[n] for n in names], axis=1), drift_type="feature")["data"]
        statistics, p_values = found["distance"].tolist(), found["p_val"].tolist()
        return {n: {"statistic": s, "p_value": p} for n, s, p in zip(names, statistics, p_values, strict=True)}

    def rows(names: tuple[str, ...]) -> Any:
        return np.stack([reference[n] for n in names], axis=1)

    everything = NUMERIC + CATEGORICAL
    places = {i: None for i, name in enumerate(everything) if name in CATEGORICAL}
    golden = {
        "alibi_detect": alibi_detect.__version__,
        "KSDrift": said(KSDrift(rows(NUMERIC), p_val=0.05), NUMERIC),
        "ChiSquareDrift": said(ChiSquareDrift(rows(CATEGORICAL), p_val=0.05), CATEGORICAL),
        "TabularDrift": said(TabularDrift(rows(everything), p_val=0.05, categories_per_feature=places), everything),
    }
    Path(__file__).with_name("alibi_detect.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
