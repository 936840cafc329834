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

from bench_peers import NoPeersError, Peer
from bench_table import Row

LARGE_ROWS, QUICK_ROWS = 10_000_000, 50_000
PEER_ROWS = {"evidently": 100_000, "ydata-minimal": 100_000, "ydata": 5_000}
MEMORY_MB = 2048
RATIO_MIN = 10
HOME = ".venv-peers-screening"


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        count = QUICK_ROWS if quick else LARGE_ROWS
        seconds, memory_mb = _ours(_made(Path(folder), count))
        work = f"screen, {count:,} × 50 Parquet"
        yield Row(work, "rows/s", count / seconds)
        yield Row(f"{work}, resident", "MB", memory_mb, limit=MEMORY_MB)
        for peer, peer_rows in PEER_ROWS.items():
            some = min(peer_rows, 2_000) if quick else peer_rows
            yield _beside(_made(Path(folder), some), peer, some)


def _beside(file: Path, name: str, count: int) -> Row:
    """The peer reads the same rows, profiles them and writes its page, as we do."""
    work = f"screen, {count:,} × 50, beside {name}"
    ours_ms = 1000 * _ours(file)[0]
    # ydata's minimal mode leaves out what relates columns: its time is shown, and no target.
    ratio_min = None if name == "ydata-minimal" else RATIO_MIN
    try:
        with Peer("peer_screening.py", str(file), home=HOME) as peer:
            theirs_ms = 1000 * peer.ask(peer=name)["seconds"]
    except NoPeersError as error:
        return Row(work, "ms", ours_ms, name, ratio_min=ratio_min, skipped=str(error))
    return Row(work, "ms", ours_ms, name, theirs_ms, ratio_min=ratio_min)


def _made(folder: Path, count: int) -> Path:
    file = folder / f"{count}.parquet"
    script = Path(__file__).with_name("screening_rows.py")
    subprocess.run([sys.executable, str(script), str(file), str(count)], check=True)
    return file


def _ours(file: Path) -> tuple[float, float]:
    """(seconds without the imports, resident MB at most) of a process of its own."""
    done = subprocess.run([sys.executable, __file__, str(file)], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return told["seconds"], told["mb"]


def main(file: str) -> None:
    import numpy as np
    import pyarrow as pa

    from streamd.screening import screen
    from streamd.screening.page import page

    page(screen(pa.table({"x": np.arange(300.0), "c": ["a", "b", "c"] * 100})))  # imports and compiles, once
    started = time.perf_counter()
    page(screen(file))
    seconds = time.perf_counter() - started
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "mb": memory_mb}))


if __name__ == "__main__":
    main(sys.argv[1])
