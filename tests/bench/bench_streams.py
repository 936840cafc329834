"""Ten thousand streams in one process: its memory, and what a batch costs beside a process with one stream."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from bench_load import CLASSES, FEATURES, NAMES, REFERENCE_ROWS, ROWS, T0
from bench_table import Row

from streamd.codec.encode import encode_features
from streamd.config import Config
from streamd.detectors.base import Reference
from streamd.model import DeadLetter, Envelope, FeatureBatch
from streamd.profiles import Profiles
from streamd.stream import Stream
from streamd.table import Predictions, Table
from streamd.transport.base import Partition
from streamd.wiring import engine_factory, warm_up

WINDOW_ROWS = 1000
MEMORY_LIMIT_MB = 1500
SAME_WITHIN = 0.8
NEXT_STEP = "windows in 12 bits a value (a reference of 2,000 rows has 4,001 bins): 17 KB a stream less"
DETECTORS: dict[str, Any] = {
    "ks": {"window_rows": WINDOW_ROWS},
    "zscore": {},
    "entropy": {},
    "autoencoder": None,  # by default it trains for 50 streams a partition, not for thousands
    "chi2": None,
    "quality": None,
}


def rows(quick: bool) -> Iterator[Row]:
    streams, references, repeat = (100, 10, 4) if quick else (10_000, 100, 1)
    many, one = _measured(streams, references, repeat), _measured(1, 1, 20 if quick else 2000)
    work = f"{streams:,} streams × {FEATURES} features, {references} references"
    peer = one["resident_mb"]
    row = Row(f"{work}: resident", "MB", many["resident_mb"], "one stream", peer, limit=MEMORY_LIMIT_MB)
    yield row if row.met else replace(row, where=tuple(many["where"]), next_step=NEXT_STEP)
    peer = one["batch_ms"]
    row = Row(f"{work}: a batch", "ms", many["batch_ms"], "one stream", peer, ratio_min=SAME_WITHIN)
    yield row if row.met else replace(row, next_step="the same work on colder memory: fewer bytes a stream")


def _measured(streams: int, references: int, repeat: int) -> dict[str, Any]:
    """In a process of its own."""
    command = [sys.executable, __file__, str(streams), str(references), str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _child(streams: int, references: int, repeat: int) -> None:
    """Each stream's reference, a window's rows and some more, then what is measured: a batch for each stream."""
    config = Config(detectors=DETECTORS)
    warm_up(config)
    engine = engine_factory(config)(Partition("streamd.features", 0), 0)
    rng = np.random.default_rng(5)
    offsets = count()

    def envelope(stream: int, rows: int, **more: Any) -> Envelope:
        generator = np.random.default_rng(stream % references) if "role" in more else rng
        features, logits = generator.normal(size=(rows, FEATURES)), generator.normal(size=(rows, CLASSES))
        name = f"fraud/{stream}"
        value, headers = encode_features(name, features, names=NAMES, logits=logits, format="arrow", **more)
        offset = next(offsets)
        return Envelope("streamd.features", 0, offset, T0 + offset, name.encode(), value, tuple(headers))

    def step(given: Envelope) -> float:
        started = time.process_time()
        effects = engine.step(given)
        seconds = time.process_time() - started
        assert not any(isinstance(effect, DeadLetter) for effect in effects)
        return seconds

    for stream in range(streams):
        step(envelope(stream, REFERENCE_ROWS, role="reference"))
    for stream in range(streams):  # at different places in their windows, so that every fourth batch is judged
        step(envelope(stream, WINDOW_ROWS + ROWS * (stream % 4)))
    taken = [step(envelope(stream, ROWS)) for _ in range(repeat) for stream in range(streams)]
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    found = {"batch_ms": 1000 * float(np.mean(taken)), "resident_mb": int(resident.split()[1]) / 1000}
    print(json.dumps({**found, "where": _where(config)}))


def _where(config: Config) -> list[str]:
    """What one stream's state consists of."""
    rng = np.random.default_rng(6)
    columns = {name: rng.normal(size=REFERENCE_ROWS) for name in NAMES}
    table = Table(
        REFERENCE_ROWS, columns, predictions=Predictions("logits", rng.normal(size=(REFERENCE_ROWS, CLASSES)))
    )
    stream = Stream("s", config.for_stream("s"), Profiles())
    stream.take_reference(Reference(table, table.sha256(), "batches"))
    for offset in range(4):
        for detector in stream.detectors.values():
            detector.update(FeatureBatch("s", 0, offset, table))
    return [f"{detector.nbytes / 1000:.0f} KB a stream in {name}" for name, detector in stream.detectors.items()]


if __name__ == "__main__":
    _child(*map(int, sys.argv[1:]))
