"""What a process holds, from /proc: memory, open files, threads; and how fast memory grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Held(NamedTuple):
    """What one process holds at one moment."""

    seconds: float
    rss_bytes: int
    files: int
    threads: int


def held(pid: int, seconds: float) -> Held:
    """Raises OSError where the process has gone."""
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text().split()[1])
    threads = len(list((folder / "task").iterdir()))
    return Held(seconds, pages * os.sysconf("SC_PAGE_SIZE"), len(list((folder / "fd").iterdir())), threads)


def growth(samples: Sequence[Held]) -> float:
    """Bytes per hour, by a straight line through the samples."""
    if len(samples) < 3:
        return float("nan")
    seconds, rss = np.array([(one.seconds, one.rss_bytes) for one in samples], dtype=float).T
    return float(np.polyfit(seconds - seconds[0], rss, 1)[0] * 3600)
