"""LSTM networks over windows of a series (Hochreiter and Schmidhuber 1997), as in MAD-GAN (Li et al. 2019).

The cell is written out: the gradient penalty needs second derivatives, which the fused kernels do not have.
"""

from __future__ import annotations

import torch
from torch import nn

from streamd.scorers.adversarial.layers import Linear


class Cell(nn.Module):
    """One step. The gates' bias is 0 but for the forget gate's, which is moved by 1 (Jozefowicz et al. 2015)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.entering = Linear(inputs, 4 * units)
        self.staying = nn.Parameter(torch.empty(4 * units, units))

    def forward(
        self, entering: torch.Tensor, hidden: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(4 · units, rows) of this step's input, (units, rows) twice → (units, rows) twice."""
        gates = torch.addmm(entering, self.staying, hidden)
        forget, enter, leave, news = gates.chunk(4)
        memory = _sigmoid(forget + 1) * memory + _sigmoid(enter) * torch.tanh(news)
        return _sigmoid(leave) * torch.tanh(memory), memory


def _sigmoid(values: torch.Tensor) -> torch.Tensor:
    """torch's own rounds the last few of an array otherwise than the rest: a row would depend on its place."""
    return 0.5 * torch.tanh(0.5 * values) + 0.5


class Trunk(nn.Module):
    """(channels · time, rows) → (units, rows): the state after the last step."""

    def __init__(self, shape: tuple[int, ...], units: int) -> None:
        super().__init__()
        self.shape = shape
        self.outputs = units
        self.cell = Cell(shape[0], units)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        channels, steps = self.shape
        windows = rows.reshape(channels, steps, -1)
        hidden = memory = rows.new_zeros(self.outputs, rows.shape[1])
        for step in range(steps):
            hidden, memory = self.cell(self.cell.entering(windows[:, step]), hidden, memory)
        return hidden


class Generator(nn.Module):
    """(latent, rows) → (channels · time, rows): the latent vector enters at each step."""

    def __init__(self, shape: tuple[int, ...], latent: int, units: int) -> None:
        super().__init__()
        self.shape = shape
        self.units = units
        self.cell = Cell(latent, units)
        self.leaving = Linear(units, shape[0])

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        entering = self.cell.entering(latent)  # the same at each step
        hidden = memory = latent.new_zeros(self.units, latent.shape[1])
        steps = []
        for _ in range(self.shape[1]):
            hidden, memory = self.cell(entering, hidden, memory)
            steps.append(self.leaving(hidden))
        return torch.stack(steps, dim=1).flatten(0, 1)  # (channels, time, rows) → (channels · time, rows)
