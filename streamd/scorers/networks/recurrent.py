"""The recurrent autoencoder of windows of a series: LSTM (Malhotra et al. 2016) or GRU (Cho et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from streamd.scorers.networks.cells import Cell


class RecurrentAutoencoder(nn.Module):
    """One network reads the window; its last state, squeezed into a code, is all that the other writes it from.

    Args:
        shape: of one row: (channels, time).
        cell: of both.
        units: of their state.
        code: numbers that a row is squeezed into.
        bounded: whether the output is between 0 and 1 (sigmoid).
    """

    def __init__(self, shape: Sequence[int], cell: Cell, units: int, code: int, bounded: bool) -> None:
        super().__init__()
        channels, self.steps = shape
        make = nn.LSTM if cell == "lstm" else nn.GRU
        self.reader = make(channels, units)
        self.squeeze = nn.Linear(units, code)
        self.writer = make(code, units)
        self.leave = nn.Linear(units, channels)
        self.bounded = bounded

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, channels, time) → the same shape."""
        read, _ = self.reader(rows.permute(2, 0, 1))  # (time, rows, units)
        code = self.squeeze(read[-1])  # (rows, code)
        written, _ = self.writer(code.expand(self.steps, *code.shape))  # the code at each step
        series = self.leave(written.flip(0)).permute(1, 2, 0)  # last step first: it is the one best remembered
        return cast(torch.Tensor, torch.sigmoid(series) if self.bounded else series)
