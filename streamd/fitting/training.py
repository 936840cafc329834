"""The one training loop: passes over shuffled rows until the validating ones bring nothing better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch
from torch import nn

from streamd.fitting.base import Epoch, FitError, Progress

Module = TypeVar("Module", bound=nn.Module)


class Schedule(Protocol):
    """When to stop. TrainedSettings is one."""

    @property
    def batch_rows(self) -> int: ...
    @property
    def epochs_max(self) -> int: ...
    @property
    def steps_max(self) -> int: ...
    @property
    def patience_epochs(self) -> int: ...


class Lesson(Protocol):
    """What is learned, and how one step is made. It holds its rows, its networks and its optimisers.

    Attributes:
        rows: how many there are to learn from, one or more.
    """

    rows: int

    def kept(self) -> Sequence[torch.Tensor]:
        """All that the best pass must be brought back with: parameters, and buffers of running statistics."""

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """One step of every optimiser on the rows at these indices (k,); the losses by name, detached scalars."""

    def check(self) -> float | None:
        """The loss on the validating rows; None where there is none to stop by: then all passes are made, and
        the last is kept."""


def train(lesson: Lesson, schedule: Schedule, generator: torch.Generator, progress: Progress) -> int:
    """Teach the lesson; how many passes there were. `lesson.kept()` are those of the best one afterwards.

    The rows of a pass that fill no whole batch are left out of it.

    Raises:
        FitError: a loss is not finite.
    """
    step = min(schedule.batch_rows, lesson.rows)
    batches = lesson.rows // step
    most = max(1, min(schedule.epochs_max, schedule.steps_max // batches))
    best, best_loss, best_epoch = copies(lesson), math.inf, 0
    for epoch in range(1, most + 1):
        order = torch.randperm(lesson.rows, generator=generator)[: batches * step]
        sums: dict[str, torch.Tensor] = {}
        for chosen in torch.split(order, step):
            for name, loss in lesson.step(chosen).items():
                sums[name] = sums[name] + loss if name in sums else loss
        losses = {name: float(total) / batches for name, total in sums.items()}  # the pass's one wait for a GPU
        checked = lesson.check()
        if checked is not None:
            losses["validation"] = checked
        _refuse_non_finite(losses, epoch)
        progress(Epoch(epoch, most, losses))
        if checked is None:
            continue
        if checked < best_loss:
            best, best_loss, best_epoch = copies(lesson), checked, epoch
        elif epoch - best_epoch >= schedule.patience_epochs:
            break
    if best_epoch:
        with torch.no_grad():
            for tensor, value in zip(lesson.kept(), best, strict=True):
                tensor.copy_(value)
    return epoch


def copies(lesson: Lesson) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in lesson.kept()]


def _refuse_non_finite(losses: Mapping[str, float], epoch: int) -> None:
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise FitError(
                f"in pass {epoch} the {name} loss is {loss}: the fit ran away. Try a smaller learning_rate, "
                "a smaller bound, or look for wild values in the data"
            )


def built(make: Callable[[], Module], generator: torch.Generator) -> Module:
    """The network that `make` builds, its first weights drawn from `generator` and from nowhere else.

    Weights are uniform in ±√(6 / (in + out)) (Glorot and Bengio 2010), where a filter counts with each of its
    places; scales of a normalisation are 1, biases 0.
    """
    with torch.device("meta"):  # no weights yet: torch would draw them from the global generator
        network = make()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            reset = getattr(module, "reset_running_stats", None)
            if reset is not None:
                reset()
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    places = parameter[0, 0].numel()
                    limit = math.sqrt(6 / ((parameter.shape[0] + parameter.shape[1]) * places))
                    parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * limit)
                else:
                    parameter.fill_(0.0 if "bias" in name else 1.0)
    return network


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of one order: several threads would split them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
