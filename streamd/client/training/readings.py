"""Numbers on their way from a device to the host: nobody waits for them. Needs torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch


class Reading:
    """Some tensors of numbers, copied to the host behind whatever the device is doing.

    On CUDA the copy goes to pinned memory on the current stream, and an event says when it is there: reading step n
    at step n + 1 finds it done, and no step ever waits. On the CPU the numbers are there at once.

    Args:
        tensors: of any shapes and devices; they come back as flat lists of floats.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._sizes = [tensor.numel() for tensor in tensors]
        self._copies: list[tuple[list[int], torch.Tensor]] = []
        self._events: list[torch.cuda.Event] = []
        by_device: dict[torch.device, list[int]] = {}
        for place, tensor in enumerate(tensors):
            by_device.setdefault(tensor.device, []).append(place)
        for device, places in by_device.items():
            # As doubles: a count of 2**24 + 1 and a loss given as a double come through unchanged.
            wide = torch.float32 if device.type == "mps" else torch.float64
            flat = torch.cat([tensors[place].detach().reshape(-1).to(wide) for place in places])
            self._copies.append((places, self._on_host(flat, device)))

    def _on_host(self, flat: torch.Tensor, device: torch.device) -> torch.Tensor:
        if device.type != "cuda":
            return flat
        copy = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
        copy.copy_(flat, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        self._events.append(event)
        return copy

    @property
    def ready(self) -> bool:
        """Whether `values` would not wait."""
        return all(event.query() for event in self._events)  # type: ignore[no-untyped-call]

    def values(self) -> list[list[float]]:
        """The numbers, one list a tensor; waits for those that are not there yet."""
        for event in self._events:
            event.synchronize()
        found: list[list[float]] = [[] for _ in self._sizes]
        for places, copy in self._copies:
            numbers = iter(copy.tolist())
            for place in places:
                found[place] = list(itertools.islice(numbers, self._sizes[place]))
        return found
