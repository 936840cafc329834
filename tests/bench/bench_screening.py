"""Screening of 10 million rows × 50 columns, and beside ydata-profiling and Evidently on what they can do."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench_peers import NoPeersError, Peer
from bench_table import Row

LARGE_ROWS, QUICK_ROWS = 10_000_000, 50_000
PEER_ROWS = {"evidently": 100_000, "ydata-minimal": 100_000, "ydata": 5_000}
MEMORY_MB = 2048
RATIO_MIN = 10
TIMES = 3
HOME = ".venv-peers-screening"


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        count = QUICK_ROWS if quick else LARGE_ROWS
        ours = _ours(_made(Path(folder), count), 1)
        work = f"screen, {count:,} × 50 Parquet"
        yield Row(work, "rows/s", count / ours["seconds"])
        yield Row(f"{work}, resident", "MB", ours["mb"], limit=MEMORY_MB)
        for peer, peer_rows in PEER_ROWS.items():
            some = min(peer_rows, 2_000) if quick else peer_rows
            yield from _beside(_made(Path(folder), some), peer, some)


def _beside(file: Path, name: str, count: int) -> Iterator[Row]:
    """The peer reads the same rows, profiles them and writes its page, as we do: by the clock, and of the processor.

    Either in a process that has imported and compiled all; the first is what a person waits for, the second does not
    depend on what else the machine does, or on how many threads.
    """
    ours = _ours(file, TIMES)
    theirs: dict[str, float] = {}
    skipped = ""
    try:
        with Peer("peer_screening.py", str(file), home=HOME) as peer:
            theirs = peer.ask(peer=name)
    except NoPeersError as error:
        skipped = str(error)
    # ydata's minimal mode leaves out what relates columns: its time is shown, and no target.
    ratio_min = None if name == "ydata-minimal" else RATIO_MIN
    for measure, of in (("seconds", ""), ("cpu_seconds", ", processor")):
        work = f"screen, {count:,} × 50, beside {name}{of}"
        peer_ms = 1000 * theirs[measure] if theirs else None
        yield Row(work, "ms", 1000 * ours[measure], name, peer_ms, ratio_min=ratio_min, skipped=skipped)


def _made(folder: Path, count: int) -> Path:
    file = folder / f"{count}.parquet"
    script = Path(__file__).with_name("screening_rows.py")
    subprocess.run([sys.executable, str(script), str(file), str(count)], check=True)
    return file


def _ours(file: Path, times: int) -> dict[str, float]:
    """Medians, without the imports, and resident MB at most, of a process of its own."""
    command = [sys.executable, __file__, str(file), str(times)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main(file: str, times: int) -> None:
    import numpy as np
    import pyarrow as pa

    from streamd.screening import screen
    from streamd.screening.page import page

    page(screen(pa.table({"x": np.arange(300.0), "c": ["a", "b", "c"] * 100})))  # imports and compiles, once
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        page(screen(file))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": median(walls), "cpu_seconds": median(cpus), "mb": memory_mb}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
