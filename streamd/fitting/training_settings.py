"""The options of every scorer that is trained by gradient descent."""

from __future__ import annotations

from pydantic import Field

from streamd.fitting.base import ScorerSettings
from streamd.scorers.registry import Device


class TrainedSettings(ScorerSettings):
    """How a network is trained: Adam, until the validating rows bring nothing better."""

    batch_rows: int = Field(default=128, ge=1)
    """Rows of one step of the optimiser."""

    learning_rate: float = Field(default=0.001, gt=0)
    """Of Adam: its authors' own."""

    epochs_max: int = Field(default=200, ge=1)
    """Passes over the rows at most."""

    steps_max: int = Field(default=20_000, ge=1)
    """Steps of the optimiser at most, so that many rows take no longer than they need."""

    patience_epochs: int = Field(default=10, ge=1)
    """Passes that bring nothing better before the fit stops."""

    gradient_norm_max: float = Field(default=10.0, gt=0)
    """Longer gradients are shortened to this: one wild row must not throw the network away."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the first weights and the order of the rows."""

    device: Device = "cpu"
    """Where the network is trained. Only the processor gives the same bytes every time; `cuda` is faster for images."""
