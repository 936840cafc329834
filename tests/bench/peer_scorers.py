"""PyOD's decision functions on batches of rows, one thread; runs under the peers' Python."""

from __future__ import annotations

import sys
import time
from itertools import cycle
from typing import Any

import peer_turns  # first: it takes stdout for itself

import numpy as np  # isort: skip
import torch


def main(file: str) -> None:
    """32-16-8 as ours has; a few epochs, since what it learned does not change how long it takes."""
    from pyod.models.auto_encoder import AutoEncoder

    torch.set_num_threads(1)
    arrays = np.load(file)
    detector = AutoEncoder(hidden_neuron_list=[32, 16, 8], epoch_num=2, random_state=0, verbose=0, device="cpu")
    detector.fit(arrays["learned"])
    batches = cycle(arrays["batches"])

    def turn(_: dict[str, Any]) -> dict[str, Any]:
        rows = next(batches)
        started = time.perf_counter()
        detector.decision_function(rows)
        return {"ms": 1000 * (time.perf_counter() - started)}

    peer_turns.serve({}, turn)


if __name__ == "__main__":
    main(sys.argv[1])
