"""The processes of one training, as the monitor sees them: rank 0 speaks, and all obey alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamd.model import Command


class Ranks(Protocol):
    """What the monitor needs of its fellow processes. Every rank makes the same calls in the same order."""

    rank: int
    size: int

    def exchange(self, commands: Sequence[Command]) -> list[Command]:
        """Rank 0's commands on every rank; what the other ranks give is not looked at."""

    def gather(self, item: Any) -> list[Any]:
        """Everybody's item, in the order of the ranks; waits for all of them."""

    def close(self) -> list[Command]:
        """Let go; returns the commands that nobody will obey any more."""


class Alone:
    """A training of one process."""

    size = 1

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank  # not 0: one that neither speaks nor obeys

    def exchange(self, commands: Sequence[Command]) -> list[Command]:
        return list(commands)

    def gather(self, item: Any) -> list[Any]:
        return [item]

    def close(self) -> list[Command]:
        return []
