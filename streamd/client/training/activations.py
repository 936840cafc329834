"""How many units of an activation are dead or saturated, on request. Needs torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

log = logging.getLogger("streamd.client")

# |y| at which nothing flows back any more: derivatives of tanh below 0.02, of the sigmoid below 0.01.
_TANH_LIMIT = 0.99
_SIGMOID_LIMIT = 0.01

Measure = Callable[[torch.Tensor], torch.Tensor]


class Activations:
    """Watches the outputs of ReLU, tanh and sigmoid modules in training mode.

    `dead_fraction`: the share of units (entries of a row) that are zero for every row of the batch.
    `saturated_fraction`: the share of all outputs with |tanh| > 0.99, or a sigmoid outside 0.01 to 0.99.

    Attributes:
        due: whether the next forward pass is measured.
    """

    def __init__(self, model: nn.Module, patterns: Sequence[str]) -> None:
        self.due = True
        self._found: dict[str, dict[str, torch.Tensor]] = {}
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            name = name.removeprefix("module.")
            measure = _measure_of(module)
            if measure is not None and any(fnmatchcase(name, pattern) for pattern in patterns):
                self._handles.append(module.register_forward_hook(self._hook(name, *measure)))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> dict[str, dict[str, torch.Tensor]]:
        """What was measured since the last call: numbers on their devices, by module and name."""
        taken, self._found = self._found, {}
        return taken

    def _hook(self, name: str, key: str, measure: Measure) -> Callable[..., None]:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            if not (self.due and module.training and isinstance(output, torch.Tensor) and output.numel()):
                return
            try:
                with torch.no_grad():
                    self._found[name] = {key: measure(output.detach())}
            except Exception:
                self.close()
                log.exception("activations are not measured any more")

        return hook


def _measure_of(module: nn.Module) -> tuple[str, Measure] | None:
    if isinstance(module, nn.ReLU | nn.ReLU6):
        return "dead_fraction", lambda y: (y.reshape(len(y), -1) <= 0).all(dim=0).float().mean()
    if isinstance(module, nn.Tanh | nn.Hardtanh):
        return "saturated_fraction", lambda y: (y.abs() > _TANH_LIMIT).float().mean()
    if isinstance(module, nn.Sigmoid | nn.Hardsigmoid):
        return "saturated_fraction", lambda y: ((y - 0.5).abs() > 0.5 - _SIGMOID_LIMIT).float().mean()
    return None
