"""What every detector is: a Config that builds it, and an object that judges, then learns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamd.model import FeatureBatch, Reading, Verdict
from streamd.settings import Settings
from streamd.table import Table

State = dict[str, Any]
"""What a detector remembers: JSON values and numpy arrays, nested in dicts and lists. See streamd.state."""

Seasonal = Literal["values", "phases"] | None
"""`values`: it is given numeric values and predictions as they would be at an average time. `phases`: it is given all
as it is, with the phases, and makes what it computes of a row comparable itself: see streamd.seasons."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What normal looks like. Immutable; held once per content, however many streams have it.

    Attributes:
        table: the rows in the order in which they came (dependence is measured on that order).
        sha256: of the table's content.
        source: where it came from: `batches`, `first_rows`, `bundle`, or `accepted` in parts.
        phases: (rows,) of each row its phase of the season, for a detector that is `seasonal`.
        phase_rows: (phases,) how many rows each has.
    """

    table: Table
    sha256: str
    source: str
    phases: NDArray[np.intp] | None = None
    phase_rows: NDArray[np.int64] | None = None

    @property
    def key(self) -> str:
        """Its name where it is kept."""
        return f"{self.source}-{self.sha256}"

    @property
    def bundled(self) -> bool:
        """It is on disk, and need not be kept anywhere else."""
        return is_bundled(self.key)


def is_bundled(key: str) -> bool:
    """Whether that is the key of a reference from a bundle."""
    return key.startswith("bundle-")


class Detector(Protocol):
    """One detector on one stream. Owned by one partition, synchronous, free of clocks and I/O."""

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """Judge the batch, then learn from it.

        Returns verdicts for every window that this batch completed. Nothing at all means "not enough past to judge
        by": that is never reported as 0.0.
        """

    def snapshot(self) -> State:
        """Everything that the next verdicts depend on, other than Config and profile. Shares no memory."""

    def restore(self, state: State) -> None:
        """Continue from `snapshot()`, on a newly built detector of the same Config and profile."""

    @property
    def nbytes(self) -> int:
        """Memory of this stream's own state in bytes, without the shared profile."""


@runtime_checkable
class Readable(Protocol):
    """A detector with a statistic to show between two judgements."""

    def readings(self) -> tuple[Reading, ...]:
        """Those of the window as it is now; none before it is full. Changes nothing.

        Asked for the last batch of a poll alone: a reading costs as much as a judgement, and the next one hides it.
        """


@runtime_checkable
class ByColumn(Protocol):
    """A detector that judges each column by itself, so that some may begin anew while the others go on.

    One that is none, since it judges rows or learns all columns together, begins anew as a whole.
    """

    def take_over(self, before: Any, columns: Collection[str]) -> None:
        """Continue from `before`, one of the same class and Config, in all but `columns`.

        Called on a newly built detector, whose reference may lack columns or have new ones, and is the same in all
        others. `before` is not used any more.
        """


class DetectorConfig(Settings):
    """The base of the Configs. A subclass adds `type: Literal["…"]` and its fields.

    Reference → `profile` (immutable, shared by all streams with equal reference and Config) → `build`.
    """

    needs_reference: ClassVar[bool] = True
    """False: works from the first batch on; `profile` is never called and `build` gets None."""

    needs_fit: ClassVar[bool] = False
    """True: `streamd.fitting.fit` must run, off the loop, before `profile`; the engine asks the shell for it."""

    seasonal: ClassVar[Seasonal] = None
    """What it makes of `reference.season`; None: nothing."""

    from_bundle: ClassVar[bool] = False
    """True: its weights are those of the stream's bundle."""

    judges: ClassVar[int] = 0
    """How many (kind, test) its verdicts with p-values can have: each has a share of the stream's false alarms."""

    def profile(self, reference: Reference, weights: bytes | None) -> Any:
        """All that can be prepared from the reference alone. Immutable."""
        return None

    def about(self, weights: bytes) -> str:
        """What a training came to, in words for the log and `/streams`; for a Config with `needs_fit`."""
        return ""

    def build(self, name: str, profile: Any) -> Detector:
        """A new detector called `name` (the key in the configuration)."""
        raise NotImplementedError


class Remembers:
    """Snapshot and restore for a detector whose moving state is the attributes named in `remembered`."""

    remembered: ClassVar[tuple[str, ...]] = ()

    def snapshot(self) -> State:
        return {name: _copied(getattr(self, name)) for name in self.remembered}

    def restore(self, state: State) -> None:
        for name in self.remembered:
            setattr(self, name, _copied(state[name]))

    @property
    def nbytes(self) -> int:
        return sum(_nbytes(getattr(self, name)) for name in self.remembered)


def _copied(value: Any) -> Any:
    """A deep copy of JSON values, arrays and things that remember."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value.copy() if hasattr(value, "copy") else value


def _nbytes(value: Any) -> int:
    """Memory of a piece of state in bytes: arrays as they are, 64 for any other object."""
    if isinstance(value, dict):
        return 64 + sum(_nbytes(item) for item in value.values())
    if isinstance(value, list):
        return 64 + sum(_nbytes(item) for item in value)
    return int(getattr(value, "nbytes", 64))
