"""alibi-detect's KSDrift on the arrays of an .npz file; runs under the peers' Python."""

from __future__ import annotations

import sys
import time
from typing import Any

import peer_turns  # first: it takes stdout for itself

import alibi_detect  # isort: skip
import numpy as np
from alibi_detect.cd import KSDrift


def main(file: str) -> None:
    arrays = np.load(file)
    detector = KSDrift(arrays["reference"], p_val=0.05)
    window = arrays["window"]  # (rows, features)

    def turn(question: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        found = detector.predict(window)["data"]
        milliseconds = 1000 * (time.perf_counter() - started)
        if not question.get("results"):
            return {"ms": milliseconds}
        return {"ms": milliseconds, "distances": found["distance"].tolist(), "p_values": found["p_val"].tolist()}

    peer_turns.serve({"alibi-detect": alibi_detect.__version__}, turn)


if __name__ == "__main__":
    main(sys.argv[1])
