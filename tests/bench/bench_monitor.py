"""What a TrainingMonitor costs a training step on the CPU, beside the same step without one.

In CPU time of the whole process, its sending threads included, on one torch thread: two per cent of wall time are lost
in what else the machine does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from bench_table import Row

RATIO_MIN = 0.98  # of the speed without: at most 2 % of a step
WIDTH = 448
LAYERS = 4
TOKENS = 128
BATCH = 4


def rows(quick: bool) -> Iterator[Row]:
    import torch
    from training import Commander, Inbox, watched

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(WIDTH, 8, 4 * WIDTH, batch_first=True, dropout=0.0)
    model = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = 1 if quick else BATCH
    x = torch.randn(batch, TOKENS, WIDTH, generator=generator)
    millions = sum(p.numel() for p in model.parameters()) / 1e6

    def step(monitor: Any) -> float:
        started = time.process_time()
        loss = (model(x) - x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.step(loss=loss)
        return 1000 * (time.process_time() - started)

    # In turns of 20 steps, the default between two looks at single tensors, so that each turn has one.
    turns, steps = (1, 1) if quick else (5, 20)
    plain, costs = [], []
    step(None)
    for _ in range(turns):
        without = statistics.fmean(step(None) for _ in range(steps))
        with watched(Inbox(), Commander(), model=model, optimizer=optimizer) as monitor:
            step(monitor)  # starts its threads
            ours = statistics.fmean(step(monitor) for _ in range(steps))
        plain.append(without)
        costs.append(ours / without)
    torch.set_num_threads(threads)
    peer = statistics.median(plain)
    work = f"a training step with a monitor, CPU time, {millions:.0f} M parameters, {batch * TOKENS} tokens"
    yield Row(work, "ms", peer * statistics.median(costs), "the same without", peer, ratio_min=RATIO_MIN)
