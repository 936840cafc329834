"""Lowering a learning rate so that its schedule does not raise it again at the next step. Needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

_OF_THE_SCHEDULE = ("initial_lr", "max_lr", "min_lr")  # what OneCycleLR and others keep in the groups


def scale(optimizer: Any, schedulers: Sequence[Any], factors: Sequence[float], min_lr: float = 0.0) -> list[float]:
    """Multiply the learning rate of each param group by its factor, not under `min_lr`.

    A group that is under the floor already stays as it is. The floor of a ReduceLROnPlateau counts too; its count of
    bad epochs starts anew, as after a reduction of its own. The base rates of other schedules are scaled alike.

    Returns:
        By how much each group's rate was multiplied.
    """
    flat = list(_flat(schedulers))
    applied = []
    for i, (group, factor) in enumerate(zip(optimizer.param_groups, factors, strict=True)):
        rate = float(group["lr"])
        floor = max([min_lr, *(_floor(scheduler, i) for scheduler in flat)])
        ratio = max(rate * factor, floor) / rate if rate > floor else 1.0
        applied.append(ratio)
        for key in ("lr", *_OF_THE_SCHEDULE):
            if isinstance(group.get(key), torch.Tensor):
                group[key].mul_(ratio)
            elif key in group:
                group[key] = group[key] * ratio
    for scheduler in flat:
        _follow(scheduler, optimizer, applied)
    return applied


def _flat(schedulers: Iterable[Any]) -> Iterator[Any]:
    """Schedulers, and those inside SequentialLR and ChainedScheduler."""
    for scheduler in schedulers:
        yield scheduler
        yield from _flat(getattr(scheduler, "_schedulers", ()))


def _floor(scheduler: Any, i: int) -> float:
    floors = getattr(scheduler, "min_lrs", None)
    return float(floors[i]) if isinstance(floors, list) and i < len(floors) else 0.0


def _follow(scheduler: Any, optimizer: Any, applied: Sequence[float]) -> None:
    for name in ("base_lrs", "max_lrs"):
        rates = getattr(scheduler, name, None)
        if isinstance(rates, list) and len(rates) == len(applied):
            setattr(scheduler, name, [rate * ratio for rate, ratio in zip(rates, applied, strict=True)])
    if hasattr(scheduler, "_last_lr"):
        scheduler._last_lr = [float(group["lr"]) for group in optimizer.param_groups]
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.num_bad_epochs = 0
        scheduler.cooldown_counter = scheduler.cooldown
