"""The options of the engine, and what one stream's options come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import Field, model_validator

from streamd.detectors.base import DetectorConfig, Reference
from streamd.policy import PolicySettings
from streamd.rules.settings import RulesSettings
from streamd.settings import Settings


class EngineSettings(Settings):
    """Bounds of what one partition's engine holds."""

    streams_max: int = Field(default=10_000, ge=1)
    """Streams per partition. Beyond it the one that was seen longest ago is forgotten, decided by record order."""

    fits_max: int = Field(default=50, ge=0)
    """Streams per partition for which a detector that trains, and that no configuration names, is trained.
    Ten thousand trainings are nobody's wish; the others say so in /streams."""

    snapshot_records: int = Field(default=2000, ge=1)
    """Input records of a partition between two snapshots. Fewer make a restart read less again; more write less."""

    dead_letters_share_max: float = Field(default=0.9, gt=0, le=1)
    """A partition of whose last `dead_letters_window` records more than this share was bad is halted until a reload
    or a restart: when everything is bad, something was deployed, and the dead letters are no place for it. 1: never."""

    dead_letters_window: int = Field(default=1000, ge=10)
    """Records over which that share is taken."""

    stalled_seconds: float = Field(default=30.0, gt=0)
    """A partition with unread records that does not get on for so long is called stalled: `/readyz` says 503."""

    tick_seconds: float = Field(default=5.0, gt=0)
    """How often a partition without new records is asked whether silence itself is news."""


class ReferenceSettings(Settings):
    """Where a stream's reference comes from when no reference batches are sent."""

    bundle: str | None = Field(default=None, min_length=1)
    """A folder that `streamd fit` or `streamd screen --profile` wrote: its rows are the reference from the first
    record on, and its scorer, where it has one, runs in place of the default autoencoder. Read at the start and at
    every reload; null: none."""

    first_rows: int | None = Field(default=2000, ge=10)
    """Take the stream's first rows that raised no alert; null: wait for reference batches. 2000 rows are all
    that the judges keep; more of them only help the detectors that train."""

    season: Literal["24h", "7d"] | None = None
    """Compare like with like: what comes with the reference's rows of the same hour of the day (UTC), or of the week.
    All do but `cardinality`, which counts over a whole day, and `river` on entropies; hours of which there are
    fewer than 20 rows are not compared. The first rows then span two whole seasons; reference batches need the `ts` of
    their rows, of one hour each. `streamd calibrate` says where there is a season; null: none."""

    rows_max: int = Field(default=500_000, ge=10)
    """Rows of one reference. More are refused as `too_many_rows`: a reference is held in memory."""

    @model_validator(mode="after")
    def _a_season_needs_times(self) -> Self:
        if self.season is not None and self.bundle is not None:
            raise ValueError("season: the rows of a bundle have no times; without `bundle` the first rows are learned")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """What a stream takes from a folder: its reference, and the bytes of its scorer where there is one."""

    reference: Reference
    weights: bytes | None


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What applies to one stream, after its overrides."""

    detectors: Mapping[str, DetectorConfig]
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    unasked: frozenset[str] = frozenset()
    """Names of detectors that run by default alone, without being named in the configuration."""
    rules: RulesSettings = field(default_factory=RulesSettings)
    bundle: Bundle | None = None
    """What `reference.bundle` names, once it was read."""
