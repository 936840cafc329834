"""Rows to a device and results back: pinned memory, one wait, and smaller batches where its memory does not do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from streamd.scorers.transform import Inputs

Forward = Callable[[torch.Tensor], torch.Tensor]


class Ferry:
    """Brings batches over, whole or in parts.

    Args:
        device: `auto` is CUDA where there is one.
        rows_axis: which axis of a batch, and of what comes back, its rows are along.
        rows_max: rows of one part.
        filled: whether each part has exactly rows_max rows, zeros where there are no more. Then no row's last digit
            depends on how many others there are: libraries choose their routines by shape.

    Attributes:
        device: where it goes.
        rows_max: rows of one part; halved whenever the device's memory was exhausted.
        shrunk: whether it ever was.

    Raises:
        RuntimeError: `cuda` is asked for and there is none.
    """

    def __init__(self, device: str, rows_axis: int, rows_max: int, *, filled: bool = False) -> None:
        self.device = chosen_device(device)
        self.rows_max = rows_max
        self.shrunk = False
        self._axis = rows_axis
        self._filled = filled
        self._pinned: torch.Tensor | None = None

    def carry(self, forward: Forward, rows: Inputs) -> NDArray[np.float32]:
        """What `forward` makes of the rows, one or more, on the device: an array with as many rows.

        Raises:
            torch.OutOfMemoryError: the device has not even room for two rows.
        """
        count = rows.shape[self._axis]
        while True:
            # A single row is sent twice: a matrix of one column is multiplied by another routine.
            size = self.rows_max if self._filled else max(2, min(count, self.rows_max))
            try:
                results = self._carried(forward, filled_up(rows, size, self._axis), size)
                return np.ascontiguousarray(results[:count] if self._axis == 0 else results[..., :count])
            except torch.OutOfMemoryError:
                if size <= 2:
                    raise
            # Outside of `except`, whose error holds on to what the failed pass had allocated.
            self.rows_max = -(-size // 2)
            self.shrunk = True
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _carried(self, forward: Forward, rows: Inputs, size: int) -> NDArray[np.float32]:
        sent = self._sent(torch.from_numpy(rows))
        if rows.shape[self._axis] == size:
            results = forward(sent)
        else:
            starts = range(0, rows.shape[self._axis], size)
            parts = [forward(sent.narrow(self._axis, start, size).contiguous()) for start in starts]
            results = torch.cat(parts, dim=self._axis)
        received: NDArray[np.float32] = results.cpu().numpy()  # the one wait for the device
        return received

    def _sent(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows on the device, through pinned memory, from which a GPU copies while the processor goes on."""
        if self.device.type != "cuda":
            return rows
        if self._pinned is None or self._pinned.numel() < rows.numel():
            self._pinned = torch.empty(rows.numel(), dtype=torch.float32, pin_memory=True)
        staged = self._pinned[: rows.numel()].view(rows.shape)
        staged.copy_(rows)  # free to overwrite: whoever used it last has waited for the result
        return staged.to(self.device, non_blocking=True)


def chosen_device(wanted: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises RuntimeError where `cuda` is asked for and there is none."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:  # torch says so in several ways, by its build
        raise RuntimeError(f"the device is cuda, and torch {torch.__version__} sees none")
    return torch.device(("cuda" if there else "cpu") if wanted == "auto" else wanted)


def filled_up(rows: Inputs, size: int, axis: int) -> Inputs:
    """The rows with zeros after them, up to a multiple of `size`."""
    lacking = -rows.shape[axis] % size
    if not lacking:
        return rows
    widths = [(0, 0)] * rows.ndim
    widths[axis] = (0, lacking)
    return np.pad(rows, widths)
