"""Tables on their way to becoming a stream's reference."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamd.detectors.base import State
from streamd.table import Table


@dataclass(slots=True)
class Collection:
    """Tables on their way to a reference, by part; `parts` is 0 while they are a stream's own first rows.

    Attributes:
        every, offered: of so many batches that were offered each `every`-th is kept, where a season is long.
    """

    tables: dict[int, Table] = field(default_factory=dict)
    parts: int = 0
    rows: int = 0
    every: int = 1
    offered: int = 0

    def snapshot(self) -> State:
        tables = {str(part): table.to_state() for part, table in self.tables.items()}
        counts = {"parts": self.parts, "rows": self.rows, "every": self.every, "offered": self.offered}
        return {"tables": tables, **counts}

    def offer(self, table: Table) -> bool:
        """Append a table, unless it is one of those that are left out; whether it was kept."""
        self.offered += 1
        if (self.offered - 1) % self.every:
            return False
        self.tables[len(self.tables)] = table
        self.rows += table.rows
        return True

    def thin(self) -> None:
        """Keep half as many tables as so far, evenly, from now on too."""
        self.tables = dict(enumerate(list(self.tables.values())[::2]))
        self.rows = sum(table.rows for table in self.tables.values())
        self.every *= 2

    @classmethod
    def restored(cls, state: State) -> Collection:
        tables = {int(part): Table.from_state(table) for part, table in state["tables"].items()}
        return cls(tables, state["parts"], state["rows"], state.get("every", 1), state.get("offered", len(tables)))
