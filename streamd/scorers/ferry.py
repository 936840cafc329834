"""Rows to a device and results back, in smaller batches where its memory does not do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from streamd.scorers.lanes import CudaLane, Forward, Lane, ProcessorLane
from streamd.scorers.transform import Inputs


class Ferry:
    """Brings batches over, whole or in parts of one size; the last is filled up with zeros.

    Args:
        device: `auto` is CUDA where there is one.
        rows_axis: which axis of a batch, and of what comes back, its rows are along: the first or the last.
        rows_max: rows of one part.
        filled: whether each part has exactly rows_max rows. Then no row's last digit depends on how many others there
            are: libraries choose their routines by shape.
        lane: how parts go there; None: as is usual for the device.

    Attributes:
        device: where it goes.
        rows_max: rows of one part; halved whenever the device's memory was exhausted.
        shrunk: whether it ever was.

    Raises:
        RuntimeError: `cuda` is asked for and there is none.
    """

    def __init__(
        self, device: str, rows_axis: int, rows_max: int, *, filled: bool = False, lane: Lane | None = None
    ) -> None:
        self.device = chosen_device(device)
        self.rows_max = rows_max
        self.shrunk = False
        self._axis = rows_axis
        self._filled = filled
        self._lane = lane or (CudaLane(self.device) if self.device.type == "cuda" else ProcessorLane())

    def carry(self, forward: Forward, rows: Inputs) -> NDArray[np.float32]:
        """What `forward` makes of the rows, one or more, on the device: an array with as many rows.

        Raises:
            torch.OutOfMemoryError: the device has not even room for two rows.
        """
        count = rows.shape[self._axis]
        while True:
            # A single row gets a second: a matrix of one column is multiplied by another routine.
            size = self.rows_max if self._filled else max(2, min(self._lane.filled(max(2, count)), self.rows_max))
            try:
                parts = self._lane.go(forward, parts_of(rows, size, self._axis))
                results = parts[0] if len(parts) == 1 else np.concatenate(parts, self._axis)
                return np.ascontiguousarray(results[:count] if self._axis == 0 else results[..., :count])
            except torch.OutOfMemoryError:
                if size <= 2:
                    raise
            # Outside of `except`, whose error holds on to what the failed pass had allocated.
            self.rows_max = -(-size // 2)
            self.shrunk = True
            self._lane.clear()


def chosen_device(wanted: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises RuntimeError where `cuda` is asked for and there is none."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:  # torch says so in several ways, by its build
        raise RuntimeError(f"the device is cuda, and torch {torch.__version__} sees none")
    return torch.device(("cuda" if there else "cpu") if wanted == "auto" else wanted)


def parts_of(rows: Inputs, size: int, axis: int) -> list[Inputs]:
    """Contiguous parts of `size` rows each, with zeros after the last row."""
    lacking = -rows.shape[axis] % size
    if lacking:
        widths = [(0, 0)] * rows.ndim
        widths[axis] = (0, lacking)
        rows = np.pad(rows, widths)
    count = rows.shape[axis] // size
    return [np.ascontiguousarray(part) for part in (np.split(rows, count, axis) if count > 1 else (rows,))]
