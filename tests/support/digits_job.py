"""The demo's training with faults planted on request, alone or as one of two ranks; prints what it saw as JSON."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from typing import Any

import torch
import torch.distributed as dist
from rank_job import leave_together
from torch.nn.parallel import DistributedDataParallel

from streamd.client import TrainingMonitor
from streamd.demo.digits import ALLOWED, Digits, Jump


class Poison:
    """At one step, and once only, a gradient is NaN."""

    def __init__(self, digits: Digits, at: int | None) -> None:
        self._at = at
        self._next = 1
        first = next(digits.model.parameters())
        first.register_hook(self._poisoned)  # type: ignore[no-untyped-call]

    def expect(self, number: int) -> None:
        self._next = number

    def _poisoned(self, gradient: torch.Tensor) -> torch.Tensor:
        if self._next != self._at:
            return gradient
        self._at = None
        return gradient * float("nan")


class Slow:
    """The steps from `first` to `last` take their time, when they come first: a command can come in between."""

    def __init__(self, first: int, last: int, seconds: float) -> None:
        self._left = set(range(first, last + 1))
        self._seconds = seconds

    def __call__(self, number: int) -> None:
        if number in self._left:
            self._left.remove(number)
            time.sleep(self._seconds)


class Watched:
    """The monitor, and what the training is after each of its steps."""

    def __init__(self, monitor: TrainingMonitor, digits: Digits) -> None:
        self._monitor = monitor
        self._digits = digits
        self.seen: list[tuple[int, int, float, str]] = []  # step before and after the commands, rate, weights

    def __getattr__(self, name: str) -> object:
        return getattr(self._monitor, name)

    def step(self, **metrics: Any) -> None:
        number = self._monitor.step_number + 1
        self._monitor.step(**metrics)
        weights = torch.cat([p.detach().flatten() for p in self._digits.model.parameters()]).numpy().tobytes()
        rate = self._digits.optimizer.param_groups[0]["lr"]
        self.seen.append((number, self._monitor.step_number, rate, hashlib.md5(weights).hexdigest()))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("run", "checkpoints", "topic", "control-topic"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("jump-at", "nan-at"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--slow", nargs=3, type=float, default=(0, -1, 0), help="first step, last step, seconds")
    parser.add_argument("--rank", type=int, help="of two; which needs --store")
    parser.add_argument("--store")
    options = parser.parse_args()
    digits = Digits(steps=options.steps)
    poison = Poison(digits, options.nan_at if options.rank in (None, 1) else None)
    if options.rank is not None:
        dist.init_process_group("gloo", init_method=f"file://{options.store}", rank=options.rank, world_size=2)
        digits.model = DistributedDataParallel(digits.model)
        torch.manual_seed(100 + options.rank)  # other pictures on each rank
    monitor = digits.monitor(
        options.run,
        options.checkpoints,
        allow={*ALLOWED, "skip_batches"},
        topic=options.topic,
        control_topic=options.control_topic,
    )
    first, last, seconds = options.slow
    jump = Jump(digits, options.jump_at)

    def mishap(number: int) -> None:
        jump(number)
        poison.expect(number + 1)

    with monitor:
        watched: Any = Watched(monitor, digits)
        digits.train(watched, mishap, Slow(int(first), int(last), seconds))
    print(json.dumps({"accuracy": digits.accuracy(), "seen": watched.seen}), flush=True)
    if options.rank is not None:
        leave_together()


if __name__ == "__main__":
    main()
