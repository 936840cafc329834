"""One partition's engine without a broker: bytes in, effects out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import count

import torch
from bench_load import DETECTORS, ROWS, T0, Format, Message, batches, references
from bench_table import Row

from streamd.config import Config
from streamd.engine import PartitionEngine
from streamd.fitting import fit
from streamd.model import DeadLetter, Effect, Envelope
from streamd.transport.base import Partition
from streamd.wiring import engine_factory

TOPIC = "streamd.features"


class Run:
    """An engine and the offsets of what it is given."""

    def __init__(self, form: Format) -> None:
        self._engine: PartitionEngine = engine_factory(Config(detectors=DETECTORS))(Partition(TOPIC, 0), 0)
        self._offsets = count()
        for message in references(form):
            self.step(message)

    def step(self, message: Message) -> list[Effect]:
        offset = next(self._offsets)
        envelope = Envelope(TOPIC, 0, offset, T0 + 1000 * offset, message.key, message.value, message.headers)
        effects = self._engine.step(envelope)
        while (job := self._engine.fit_wanted) is not None:
            effects += self._engine.fitted(fit(job.config, job.reference))
        return effects


def rows(quick: bool) -> Iterator[Row]:
    torch.set_num_threads(1)  # as the daemon does
    yield _row("json", "engine alone, JSON", quick)
    yield _row("arrow", "engine alone, Arrow", quick)


def _row(form: Format, work: str, quick: bool) -> Row:
    run = Run(form)
    load = batches(form, 40 if quick else 200, drifting=(0,))
    rates = []
    for _ in range(2 if quick else 8):  # the first round is a warm-up: windows and pasts fill
        started = time.perf_counter()
        effects = [effect for message in load for effect in run.step(message)]
        rates.append(ROWS * len(load) / (time.perf_counter() - started))
        assert not any(isinstance(effect, DeadLetter) for effect in effects), "the load cannot be read"
    return Row(f"{work}: ks, zscore, entropy, autoencoder", "rows/s", statistics.median(rates[1:]))
