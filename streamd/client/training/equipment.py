"""What a monitor knows of a torch training: model, optimizer, schedulers, their hooks and checkpoints. Needs torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from streamd.client.ranks import Ranks
from streamd.client.training.activations import Activations
from streamd.client.training.checkpoints import Checkpoints, Stateful
from streamd.client.training.gradients import Gradients
from streamd.client.training.handlers import Trainee
from streamd.model import Command

Hooks = tuple[Gradients | None, Activations | None]

_GROUPS_MAX = 10  # param groups whose learning rates are reported; layer-wise decay makes dozens


class Equipment:
    """Holds the parts and attaches the hooks when the training begins.

    Args:
        watched: `parameters`, `activations` (patterns of names) and `scaler`.
    """

    def __init__(
        self,
        model: nn.Module | None,
        optimizer: Any,
        scheduler: Any,
        state: Mapping[str, Stateful],
        folder: str | os.PathLike[str] | None,
        keep: int,
        watched: Mapping[str, Any],
    ) -> None:
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        schedulers = list(scheduler) if isinstance(scheduler, Sequence) else [s for s in (scheduler,) if s is not None]
        self._parts: dict[str, Stateful] = dict(state)
        for name, part in (("model", model), ("optimizer", optimizer)):
            if part is not None:
                self._parts[name] = part
        self._parts |= {f"scheduler{i or ''}": scheduler for i, scheduler in enumerate(schedulers)}
        self._model = model
        self._optimizer = optimizer
        self._schedulers = schedulers
        self._checkpoints = None if folder is None else Checkpoints(folder, keep)
        self._watched = watched
        self._trainee: Trainee | None = None
        self.hooks: Hooks = (None, None)

    def begin(self, ranks: Ranks) -> dict[str, Callable[[Command], str | None]]:
        """Attach the hooks, on rank 0 alone, and return the handlers of the commands that need these parts."""
        trainee = self._trainee = Trainee(self._parts, self._schedulers, self._checkpoints, ranks)
        if self._model is not None and ranks.rank == 0:
            patterns = self._watched["activations"]
            self.hooks = (
                Gradients(self._model, self._optimizer, self._watched["parameters"], self._watched["scaler"]),
                Activations(self._model, patterns) if patterns else None,
            )
        return {
            "checkpoint": lambda command: trainee.checkpoint(command.args),
            "rollback": lambda command: trainee.rollback(command.args),
            "reduce_lr": lambda command: trainee.reduce_lr(command.args),
        }

    @property
    def step(self) -> int:
        """The last step; a rollback sets it back."""
        return 0 if self._trainee is None else self._trainee.step

    @step.setter
    def step(self, number: int) -> None:
        if self._trainee is not None:
            self._trainee.step = number

    def checkpoint(self) -> None:
        """Save one now."""
        if self._trainee is not None:
            self._trainee.checkpoint({})

    def look_closer_next(self, number: int, every: int) -> None:
        """Measure single tensors at the step `number` if it is its turn."""
        for hook in self.hooks:
            if hook is not None:
                hook.due = number % every == 0

    def learning_rates(self) -> dict[str, Any]:
        """`lr`, and `lr/1` and on where there are several param groups; tensors stay where they are."""
        groups = getattr(self._optimizer, "param_groups", [])[:_GROUPS_MAX]
        return {"lr" if i == 0 else f"lr/{i}": group["lr"] for i, group in enumerate(groups)}

    def close(self) -> None:
        for hook in self.hooks:
            if hook is not None:
                hook.close()
        self.hooks = (None, None)
