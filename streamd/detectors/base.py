"""What every detector is: a Config that builds it, and an object that judges, then learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from streamd.model import FeatureBatch, Reading, Verdict
from streamd.settings import Settings
from streamd.table import Table

State = dict[str, Any]
"""What a detector remembers: JSON values and numpy arrays, nested in dicts and lists. See streamd.state."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What normal looks like. Immutable; held once per content, however many streams have it.

    Attributes:
        table: the rows in the order in which they came (dependence is measured on that order).
        sha256: of the table's content.
        source: where it came from: `batches`, `first_rows` or `bundle`.
    """

    table: Table
    sha256: str
    source: str

    @property
    def key(self) -> str:
        """Its name where it is kept."""
        return f"{self.source}-{self.sha256}"


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


class DetectorConfig(Settings):
    """The base of the Configs. A subclass adds `type: Literal["…"]` and its fields.

    Reference → `profile` (immutable, shared by all streams with equal reference and Config) → `build`.
    """

    needs_reference: ClassVar[bool] = True
    """False: works from the first batch on; `profile` is never called and `build` gets None."""

    needs_fit: ClassVar[bool] = False
    """True: `streamd.fitting.fit` must run, off the loop, before `profile`; the engine asks the shell for it."""

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
