"""Images and windows of a series as numbers for a network: one n-dimensional column, scaled and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.transform import Inputs
from streamd.table import FloatArray, Table

Reads = Literal["images", "windows"]

# How a row of so many dimensions is meant, as it was sent.
DIMENSIONS: Mapping[Reads, Mapping[int, str]] = {
    "images": {2: "(height, width)", 3: "(channels, height, width)"},
    "windows": {1: "(time,)", 2: "(time, channels)"},
}


@dataclass(frozen=True, eq=False)
class ArrayTransform:
    """One n-dimensional column, and how a network reads it.

    Each channel is (value − mean) / scale, clipped to ±bound; a missing value is the channel's fill. Images are
    (height, width) or (channels, height, width) a row, windows (time,) or (time, channels).

    Attributes:
        name: of the column.
        reads: images or windows.
        sent: the shape of one row, as it is sent.
        means, scales: (channels,) of the rows that were learned from.
        fills: (channels,) what stands for a missing value, after scaling.
        bound: in scales.
    """

    name: str
    reads: Reads
    sent: tuple[int, ...]
    means: FloatArray
    scales: FloatArray
    fills: FloatArray
    bound: float

    def __post_init__(self) -> None:
        if len(self.sent) not in DIMENSIONS[self.reads]:
            raise ValueError(f"{self.sent} is no shape of {self.reads}")
        if not self.means.shape == self.scales.shape == self.fills.shape == self.shape[:1]:
            raise ValueError(f"{self.shape[0]} channels have {len(self.means)} means and {len(self.scales)} scales")

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row as the network reads it: (channels, height, width) or (channels, time)."""
        return channels_first_shape(self.reads, self.sent)

    @property
    def inputs(self) -> int:
        return int(np.prod(self.sent))

    def __call__(self, table: Table) -> Inputs:
        """(rows, channels, height, width) or (rows, channels, time) float32, a new array.

        A column that is not there, or whose rows have another shape, is missing in all rows.
        """
        array = self._column(table)
        if array is None:
            array = np.full((table.rows, *self.sent), np.nan)
        values = channels_first(self.reads, array)
        wide = (slice(None), *[None] * (values.ndim - 2))  # (channels, 1, …)
        with np.errstate(invalid="ignore"):  # inf / inf is no number: clipped before it is divided
            scaled = np.clip(values, -1e300, 1e300) - self.means[wide]
        scaled /= self.scales[wide]
        np.clip(scaled, -self.bound, self.bound, out=scaled)
        return np.where(np.isnan(scaled), self.fills[wide], scaled).astype(np.float32)

    def unknown_rows(self, table: Table) -> NDArray[np.bool_] | None:
        """(rows,) whether all of a row's values are missing; None where surely none is."""
        array = self._column(table)
        if array is None:
            return np.ones(table.rows, dtype=bool)
        unknown: NDArray[np.bool_] = np.logical_and.reduce(np.isnan(array.reshape(table.rows, self.inputs)), axis=1)
        return unknown if unknown.any() else None

    def described(self) -> dict[str, Any]:
        """JSON values; with `tensors` all that `from_parts` wants."""
        return {"array": self.name, "reads": self.reads, "sent": list(self.sent), "bound": self.bound}

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"transform.means": self.means, "transform.scales": self.scales, "transform.fills": self.fills}

    @classmethod
    def from_parts(cls, described: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> ArrayTransform:
        """The inverse of `described` and `tensors`.

        Raises:
            KeyError, ValueError: a part is missing, or they do not fit each other.
        """
        means, scales, fills = (tensors[f"transform.{part}"] for part in ("means", "scales", "fills"))
        sent = tuple(described["sent"])
        return cls(described["array"], described["reads"], sent, means, scales, fills, described["bound"])

    def _column(self, table: Table) -> FloatArray | None:
        array = table.arrays.get(self.name)
        return array if array is not None and array.shape[1:] == self.sent else None


def channels_first_shape(reads: Reads, sent: tuple[int, ...]) -> tuple[int, ...]:
    """(channels, height, width) or (channels, time) of a row that is sent as `sent`."""
    if len(sent) == min(DIMENSIONS[reads]):
        return (1, *sent)
    return sent if reads == "images" else sent[::-1]


def channels_first(reads: Reads, array: FloatArray) -> FloatArray:
    """(rows, …) as it is sent to (rows, channels, height, width) or (rows, channels, time)."""
    if array.ndim - 1 == min(DIMENSIONS[reads]):
        return array[:, None]
    return array if reads == "images" else array.transpose(0, 2, 1)
