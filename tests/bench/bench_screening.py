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


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        count = QUICK_ROWS if quick else LARGE_ROWS
        _make(file, count)
        seconds, memory_mb = _ours(file, count)
        work = f"screen, {count:,} × 50 Parquet"
        yield Row(work, "rows/s", count / seconds)
        yield Row(f"{work}, resident", "MB", memory_mb, limit=MEMORY_MB)
        for peer, peer_rows in PEER_ROWS.items():
            some = min(peer_rows, 2_000) if quick else peer_rows
            ours, _ = _ours(file, some)
            yield _beside(file, peer, some, ours)


def _beside(file: Path, name: str, count: int, ours: float) -> Row:
    """The peer reads the same rows, profiles them and writes its page."""
    work = f"screen, {count:,} × 50, beside {name}"
    target = {} if name == "ydata-minimal" else {"ratio_min": RATIO_MIN}  # which leaves out what relates columns
    try:
        with Peer("peer_screening.py", str(file), home=".venv-peers-screening") as peer:
            theirs = peer.ask(peer=name, rows=count)["seconds"]
    except NoPeersError as error:
        return Row(work, "ms", 1000 * ours, name, skipped=str(error), **target)
    return Row(work, "ms", 1000 * ours, name, 1000 * theirs, **target)


def _make(file: Path, count: int) -> None:
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("screening_rows.py")), str(file), str(count)], check=True
    )


def _ours(file: Path, count: int) -> tuple[float, float]:
    """(seconds without the imports, resident MB at most) of a process of its own, over the first rows."""
    done = subprocess.run(
        [sys.executable, __file__, str(file), str(count)], check=True, capture_output=True, text=True
    ).stdout
    told = json.loads(done.splitlines()[-1])
    return told["seconds"], told["mb"]


def main(file: str, count: int) -> None:
    import pyarrow.dataset as ds

    from streamd.screening import screen
    from streamd.screening.page import page

    path = Path(file)
    with tempfile.TemporaryDirectory() as folder:
        if count < ds.dataset(path).count_rows():
            import pyarrow.parquet as pq

            head = Path(folder) / "head.parquet"
            pq.write_table(ds.dataset(path).head(count), head)
            path = head
        screen(ds.dataset(path).head(1000))  # what is imported and compiled, once
        started = time.perf_counter()
        page(screen(path))
        seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "mb": memory}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
