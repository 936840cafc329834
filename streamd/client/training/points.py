"""One step's telemetry whose numbers may still be on a device. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from streamd.client.training.activations import Activations
from streamd.client.training.gradients import Gradients
from streamd.client.training.readings import Reading

Tensors = dict[str, dict[str, float | None]]


class Part(NamedTuple):
    """A vector of the reading: one number a name. `what`: a statistic of tensors; None: metrics."""

    what: str | None
    names: Sequence[str]


@dataclass(slots=True)
class Point:
    """What a step measured; `numbers` says when its values are on the host, and `complete` reads them."""

    step: int
    epoch: float | None
    ts_ms: int
    metrics: dict[str, float | None]
    reading: Reading
    parts: Sequence[Part]
    norms: bool  # the first vector is the norms of all gradients

    def complete(self) -> tuple[dict[str, float | None], Tensors]:
        """Metrics and tensors."""
        vectors = self.reading.values()
        if self.norms:
            self.metrics["grad_norm"] = math.hypot(*vectors.pop(0))
        tensors: Tensors = {}
        for part, vector in zip(self.parts, vectors, strict=True):
            for name, value in zip(part.names, vector, strict=True):
                if part.what is None:
                    self.metrics[name] = value
                elif part.what != "update_ratio" or math.isfinite(value):  # of weights that are all zero: none
                    tensors.setdefault(name, {})[part.what] = value
        # Between the steps that are looked at closely, a layer is news only when it breaks.
        if all(set(values) <= {"grad_norm"} for values in tensors.values()):
            tensors = {name: v for name, v in tensors.items() if not math.isfinite(v["grad_norm"] or 0.0)}
        return self.metrics, tensors


def point(
    step: int,
    epoch: float | None,
    ts_ms: int,
    metrics: dict[str, float | None],
    on_device: dict[str, torch.Tensor],
    gradients: Gradients | None,
    activations: Activations | None,
) -> Point:
    """Take what was measured since the last step; the copies to the host begin here, and nothing waits for them."""
    vectors: list[torch.Tensor] = []
    parts: list[Part] = []
    norms: list[torch.Tensor] = []
    if gradients is not None:
        norms, names, statistics, (updated, ratios) = gradients.take()
        if norms:
            vectors.append(_stack(norms))
        for what, values in statistics.items():
            _add(vectors, parts, what, names, values)
        _add(vectors, parts, "update_ratio", updated, ratios)
    if activations is not None:
        found = activations.take()
        for what in dict.fromkeys(key for values in found.values() for key in values):
            chosen = [name for name, values in found.items() if what in values]
            _add(vectors, parts, what, chosen, [found[name][what] for name in chosen])
    _add(vectors, parts, None, list(on_device), list(on_device.values()))
    return Point(step, epoch, ts_ms, metrics, Reading(vectors), parts, bool(norms))


def _add(
    vectors: list[torch.Tensor],
    parts: list[Part],
    what: str | None,
    names: Sequence[str],
    values: Sequence[torch.Tensor],
) -> None:
    if values:
        vectors.append(_stack(values))
        parts.append(Part(what, names))


def _stack(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scalars as one vector, so that they travel in one copy; of a model on several devices, on the first."""
    device = values[0].device
    return torch.cat([value.detach().reshape(1).to(device, non_blocking=True) for value in values])
