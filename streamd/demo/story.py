"""What the demo sends: two streams of the census employment model, one quiet, one with the event of 2017."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamd.client import FeatureProducer

QUIET, EVENT = "employment/2016", "employment/2017"
EVENT_ROWS = range(6_000, 16_270)  # of event.parquet: only residents of group quarters
ROWS_PER_BATCH = 250
_PROBABILITY = "predicted_probability"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one stream; `first_row` is their place in the file, None where the file is repeated."""

    stream: str
    first_row: int | None
    table: pa.Table


def load(name: str) -> pa.Table:
    """One of the demo's files: reference, quiet, event."""
    return pq.read_table(str(files("streamd.demo") / f"{name}.parquet"))


def batches() -> Iterator[Batch]:
    """The story, both streams in turn."""
    tables = {QUIET: load("quiet"), EVENT: load("event")}
    rows = min(table.num_rows for table in tables.values())
    for first in range(0, rows, ROWS_PER_BATCH):
        for stream, table in tables.items():
            yield Batch(stream, first, table.slice(first, ROWS_PER_BATCH))


def afterwards() -> Iterator[Batch]:
    """What is sent for as long as people look: the quiet file, again and again."""
    table = load("quiet")
    while True:
        for first in range(0, table.num_rows, ROWS_PER_BATCH):
            for stream in (QUIET, EVENT):
                yield Batch(stream, None, table.slice(first, ROWS_PER_BATCH))


@dataclass
class Feeder:
    """Sends the references, then the story in `seconds`, then, unless told to end there, the epilogue.

    Attributes:
        sent: batches so far, by stream.
        place: (stream, event time in ms) -> the batch's first row in its file.
    """

    producer: FeatureProducer
    seconds: float
    epilogue: bool
    sent: dict[str, int] = field(default_factory=lambda: {QUIET: 0, EVENT: 0})
    place: dict[tuple[str, int], int] = field(default_factory=dict)
    finished: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send until the story is told, or `stop`."""
        reference = load("reference")
        for stream in (QUIET, EVENT):
            features, probabilities = _split(reference)
            self.producer.send_reference(stream, features, probabilities=probabilities, rows_per_batch=2_000)
        story = list(batches())
        pause = self.seconds / len(story)
        started = time.monotonic()
        for i, batch in enumerate(story):
            if self._stop.wait(max(0.0, started + i * pause - time.monotonic())):
                return
            self._send(batch)
        self.finished = True
        for batch in afterwards() if self.epilogue else ():
            if self._stop.wait(pause):
                return
            self._send(batch)

    def stop(self) -> None:
        self._stop.set()

    def _send(self, batch: Batch) -> None:
        ts_ms = int(time.time() * 1000)
        if batch.first_row is not None:
            self.place[batch.stream, ts_ms] = batch.first_row
        features, probabilities = _split(batch.table)
        ids = None if batch.first_row is None else [f"row-{batch.first_row + i}" for i in range(batch.table.num_rows)]
        self.producer.send(batch.stream, features, probabilities=probabilities, ids=ids, ts=ts_ms)
        self.sent[batch.stream] += 1


def _split(table: pa.Table) -> tuple[pa.Table, Any]:
    """The features, and the probabilities of "not employed" and "employed" as (rows, 2)."""
    employed = table[_PROBABILITY].to_numpy()
    return table.drop_columns([_PROBABILITY]), np.column_stack([1.0 - employed, employed]).astype(float)
