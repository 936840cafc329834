"""How long it takes until something answers: the daemon, and `--help`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench_kafka import kafka, no_kafka
from bench_table import Row, side_by_side
from daemons import Daemon

LOOK_SECONDS = 0.02
HELP_LIMIT_MS = 300
KINDS = {  # what is started: its limit in ms, its peer, its settings
    "without torch": (2000, "python -c 'import numpy, scipy'", {"STREAMD_DETECTORS__AUTOENCODER": "null"}),
    "with torch imported": (4000, "python -c 'import torch'", {}),
}


def rows(quick: bool) -> Iterator[Row]:
    turns = 2 if quick else 10
    ours, peer = side_by_side(lambda: _run("-m", "streamd", "--help"), lambda: _run("-c", "pass"), turns)
    row = Row("streamd --help", "ms", ours, "python -c pass", peer, limit=HELP_LIMIT_MS)
    command = [sys.executable, "-X", "importtime", "-m", "streamd", "--help"]
    yield _explained(row, lambda: subprocess.run(command, capture_output=True, text=True, check=True).stderr)
    if reason := no_kafka():
        for kind, (limit, _, _) in KINDS.items():
            yield Row(f"start to ready, {kind}", "ms", None, limit=limit, skipped=reason)
        return
    with kafka() as (servers, folder):
        for kind, (limit, peer_code, settings) in KINDS.items():
            imports = peer_code.partition("'")[2].rstrip("'")
            taken, imported = [], []
            for _ in range(1 if quick else 5):
                started = time.perf_counter()
                _run("-c", imports)
                imported.append(1000 * (time.perf_counter() - started))
                taken.append(_ready_ms(servers, folder, settings))
            ours, peer = statistics.median(taken), statistics.median(imported)
            row = Row(f"start to ready, empty group, {kind}", "ms", ours, peer_code, peer, limit=limit)
            timed = {**settings, "PYTHONPROFILEIMPORTTIME": "1"}
            yield _explained(row, partial(_log_of_start, servers, folder, timed))


def _explained(row: Row, import_times: Callable[[], str]) -> Row:
    """Where it missed: the packages whose import takes longest. `import_times` is what -X importtime writes."""
    if row.met is not False:
        return row
    own: Counter[str] = Counter()
    for line in import_times().splitlines():
        cells = line.removeprefix("import time:").split("|")
        if len(cells) == 3 and cells[0].strip().isdecimal():
            own[cells[2].strip().partition(".")[0]] += int(cells[0])
    where = [f"{microseconds / 1000:.0f} ms to import {name}" for name, microseconds in own.most_common(5)]
    where.append(f"{own.total() / 1000:.0f} ms for all imports, of {row.ours:.0f} ms")
    return replace(row, where=tuple(where), next_step=f"do without {own.most_common(1)[0][0]} until it is used")


def _log_of_start(servers: str, folder: Path, settings: dict[str, str]) -> str:
    daemon = Daemon(servers, folder, **settings)
    try:
        daemon.start()
        daemon.wait_until_ready()
    finally:
        daemon.close()
    return daemon.log.read_text(errors="replace")


def _ready_ms(servers: str, folder: Path, settings: dict[str, str]) -> float:
    """From the start of the process to the first 200 of /readyz; its topics are there, as after the first start."""
    first = Daemon(servers, folder, **settings)
    for measured in (False, True):
        daemon = Daemon(servers, folder, first.name, STREAMD_KAFKA__GROUP_ID=f"{first.name}-{measured}", **settings)
        try:
            started = time.perf_counter()
            daemon.start()
            while daemon.get("/readyz")[0] != 200:
                assert daemon.running, daemon.tail()
                assert time.perf_counter() - started < 60, daemon.tail()
                time.sleep(LOOK_SECONDS)
            milliseconds = 1000 * (time.perf_counter() - started)
        finally:
            daemon.close()
    return milliseconds


def _run(*command: str) -> None:
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
