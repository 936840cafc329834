"""The cells that a recurrent network can be made of."""

from __future__ import annotations

from typing import Literal

Cell = Literal["lstm", "gru"]
