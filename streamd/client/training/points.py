"""One step's telemetry whose numbers may still be on a device. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from streamd.client.summaries import Summaries
from streamd.client.training.activations import Activations
from streamd.client.training.gradients import Gradients
from streamd.client.training.readings import Reading


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
    names: Sequence[str | None]  # of the gradients whose norms the first vector is, if there are any
    tensors: Summaries  # the job's own

    def complete(self) -> tuple[dict[str, float | None], Summaries]:
        """Metrics and tensors."""
        vectors = self.reading.values()
        tensors = self.tensors
        if self.names:
            norms = vectors.pop(0)
            self.metrics["grad_norm"] = math.hypot(*norms)
            # Between the steps that are looked at closely, a layer is news only when it breaks.
            closely = any(part.what is not None for part in self.parts)
            for name, norm in zip(self.names, norms, strict=True):
                if name is not None and (closely or not math.isfinite(norm)):
                    tensors.setdefault(name, {})["grad_norm"] = norm
        for part, vector in zip(self.parts, vectors, strict=True):
            for name, value in zip(part.names, vector, strict=True):
                if part.what is None:
                    self.metrics[name] = value
                elif part.what != "update_ratio" or math.isfinite(value):  # of weights that are all zero: none
                    tensors.setdefault(name, {})[part.what] = value
        return self.metrics, tensors


def point(
    step: int,
    epoch: float | None,
    ts_ms: int,
    metrics: dict[str, float | None],
    tensors: Summaries,
    on_device: dict[str, torch.Tensor],
    gradients: Gradients | None,
    activations: Activations | None,
) -> Point:
    """Take what was measured since the last step; the copies to the host begin here, and nothing waits for them."""
    vectors: list[torch.Tensor] = []
    parts: list[Part] = []
    names: Sequence[str | None] = ()
    if gradients is not None:
        measured = gradients.take()
        names = measured.names
        if names:
            vectors.append(_stack(measured.norms))
        for what, by_name in measured.statistics.items():
            _add(vectors, parts, what, list(by_name), list(by_name.values()))
    if activations is not None:
        found = activations.take()
        for what in dict.fromkeys(key for values in found.values() for key in values):
            seen = [name for name, values in found.items() if what in values]
            _add(vectors, parts, what, seen, [found[name][what] for name in seen])
    _add(vectors, parts, None, list(on_device), list(on_device.values()))
    return Point(step, epoch, ts_ms, metrics, Reading(vectors), parts, names, tensors)


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
    if any(value.device != device for value in values):
        values = [value.to(device, non_blocking=True) for value in values]
    with torch.no_grad():
        return torch.stack(list(values))
