"""One stream: its reference, its detectors, its policy, and how it comes by them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamd.detectors.base import Detector, DetectorConfig, Reference, State
from streamd.engine_settings import StreamSettings
from streamd.errors import InvalidRecord, Reason
from streamd.model import FeatureBatch, Keep, ReferencePart
from streamd.policy import Policy
from streamd.profiles import Profiles
from streamd.settings import Settings
from streamd.state import pack, unpack
from streamd.table import Table, concatenate


@dataclass(slots=True)
class Collection:
    """Tables on their way to a reference, by part; `parts` is 0 while they are a stream's own first rows."""

    tables: dict[int, Table] = field(default_factory=dict)
    parts: int = 0
    rows: int = 0

    def snapshot(self) -> State:
        tables = {str(part): table.to_state() for part, table in self.tables.items()}
        return {"tables": tables, "parts": self.parts, "rows": self.rows}

    @classmethod
    def restored(cls, state: State) -> Collection:
        tables = {int(part): Table.from_state(table) for part, table in state["tables"].items()}
        return cls(tables, state["parts"], state["rows"])


class Stream:
    """What the engine holds for one name. Everything that moves is in `snapshot()`."""

    def __init__(self, name: str, settings: StreamSettings, profiles: Profiles) -> None:
        self.name = name
        self.settings = settings
        self.policy = Policy(settings.policy)
        self.reference: Reference | None = None
        self.weights: dict[str, bytes] = {}
        self.last_record_ms = 0
        self.silent = False  # the silence since `last_record_ms` was already told
        self._profiles = profiles
        self._sent = Collection()
        self._first = Collection()
        self.detectors: dict[str, Detector] = {
            name: config.build(name, None) for name, config in settings.detectors.items() if not config.needs_reference
        }

    # --- The reference ---

    def collect(self, part: ReferencePart) -> bool:
        """Keep one part of a reference that is being sent; whether it is now whole.

        Raises:
            InvalidRecord: the reference would have more rows than the limit.
        """
        collection = self._sent
        if part.parts != collection.parts or part.part in collection.tables:
            collection = self._sent = Collection(parts=part.parts)  # a new reference begins
        rows = collection.rows + part.batch.table.rows
        limit = self.settings.reference.rows_max
        if rows > limit:
            self._sent = Collection()
            raise InvalidRecord(
                Reason.TOO_MANY_ROWS,
                f"the reference of {self.name!r} has {rows} rows, over reference.rows_max = {limit}; send a sample",
            )
        collection.tables[part.part] = part.batch.table
        collection.rows = rows
        if len(collection.tables) < collection.parts:
            return False
        self._sent = Collection()
        self._adopt(concatenate([collection.tables[i] for i in sorted(collection.tables)]), "batches")
        return True

    def learn_first_rows(self, batch: FeatureBatch) -> bool:
        """Count a calm batch towards the reference that the stream's own first rows make; whether it is now whole."""
        wanted = self.settings.reference.first_rows
        if self.reference is not None or wanted is None or self._sent.parts or not batch.table.rows:
            return False
        first = self._first
        # A copy: the batch may be a view of a network buffer that is much larger than it.
        first.tables[len(first.tables)] = concatenate([batch.table])
        first.rows += batch.table.rows
        if first.rows < wanted:
            return False
        self._first = Collection()
        self._adopt(concatenate(list(first.tables.values())), "first_rows")
        return True

    def _adopt(self, table: Table, source: str) -> None:
        self.take_reference(self._profiles.reference(Reference(table, table.sha256(), source)))

    def take_reference(self, reference: Reference) -> None:
        """Put a whole reference in force: the detectors that compare with it start anew."""
        self.reference = reference
        self.weights.clear()
        self._first = Collection()
        for name, config in self.settings.detectors.items():
            if config.needs_reference:
                self.detectors.pop(name, None)
                if not config.needs_fit:
                    self.build(name, config)

    def build(self, name: str, config: DetectorConfig, weights: bytes | None = None) -> bool:
        """Start the detector `name` on the stream's reference, keeping the configured order.

        False where the reference gives it nothing to compare with: it is there, and silent.
        """
        assert self.reference is not None, name
        sha256 = hashlib.sha256(weights).hexdigest() if weights is not None else ""
        profile = self._profiles.profile(config, self.reference, weights, sha256)
        built = {**self.detectors, name: config.build(name, profile)}
        self.detectors = {key: built[key] for key in self.settings.detectors if key in built}
        if weights is not None:
            self.weights[name] = weights
        return profile is not None

    # --- Memory and state ---

    @property
    def nbytes(self) -> int:
        """Memory of this stream's own state in bytes, without what it shares with other streams."""
        collected = sum(_table_nbytes(t) for c in (self._sent, self._first) for t in c.tables.values())
        return collected + sum(detector.nbytes for detector in self.detectors.values())

    def snapshot(self) -> State:
        """The moving part. The reference and the weights, which seldom change, are named by their hashes."""
        return {
            "name": self.name,
            "last_record_ms": self.last_record_ms,
            "silent": self.silent,
            "reference": self.reference and self.reference.key,
            "weights": {name: fit_key(self.settings.detectors[name], self._its_reference()) for name in self.weights},
            "sent": self._sent.snapshot(),
            "first": self._first.snapshot(),
            "policy": self.policy.snapshot(),
            "detectors": {
                name: {"config": config_key(self.settings.detectors[name]), "state": detector.snapshot()}
                for name, detector in self.detectors.items()
            },
        }

    def kept(self) -> Kept:
        """What `restore` will want beside the snapshot."""
        if self.reference is None:
            return Kept({}, {})
        weights = {fit_key(self.settings.detectors[name], self.reference): data for name, data in self.weights.items()}
        return Kept({self.reference.key: self.reference}, weights)

    def restore(self, state: State, kept: Kept) -> None:
        """Continue from `snapshot()`, on a new stream. Detectors whose Config has changed since start anew."""
        self.last_record_ms = state["last_record_ms"]
        self.silent = state["silent"]
        self._sent = Collection.restored(state["sent"])
        self._first = Collection.restored(state["first"])
        self.policy.restore(state["policy"])
        if state["reference"] is not None:
            self.take_reference(self._profiles.reference(kept.references[state["reference"]]))
        for name, config in self.settings.detectors.items():
            key = state["weights"].get(name)
            if key in kept.weights and key == fit_key(config, self._its_reference()):
                self.build(name, config, kept.weights[key])
            saved = state["detectors"].get(name)
            if saved is not None and saved["config"] == config_key(config) and name in self.detectors:
                self.detectors[name].restore(saved["state"])

    def _its_reference(self) -> Reference:
        assert self.reference is not None
        return self.reference


@dataclass(frozen=True, slots=True)
class Kept:
    """What seldom changes and is kept apart from the snapshots."""

    references: Mapping[str, Reference]  # by Reference.key
    weights: Mapping[str, bytes]  # by fit_key

    def names(self) -> set[str]:
        """Of the Keep effects that these came from."""
        return {*(f"reference/{key}" for key in self.references), *(f"weights/{key}" for key in self.weights)}

    @classmethod
    def unpacked(cls, parts: Mapping[str, bytes]) -> Kept:
        """From the data of Keep effects, by their names."""
        references, weights = {}, {}
        for name, data in parts.items():
            kind, _, key = name.partition("/")
            if kind == "reference":
                source, _, sha256 = key.rpartition("-")
                references[key] = Reference(Table.from_state(unpack(data)), sha256, source)
            elif kind == "weights":
                weights[key] = data
        return cls(references, weights)


def keep_reference(reference: Reference) -> Keep:
    return Keep(f"reference/{reference.key}", pack(reference.table.to_state()))


def keep_weights(config: DetectorConfig, reference: Reference, weights: bytes) -> Keep:
    return Keep(f"weights/{fit_key(config, reference)}", weights)


def fit_key(config: DetectorConfig, reference: Reference) -> str:
    """What a training's result is a function of."""
    return hashlib.sha256(f"{config_key(config)}/{reference.sha256}".encode()).hexdigest()


def config_key(config: Settings) -> str:
    """Equal for equal options: state that was kept under another one is not taken up again."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]


def _table_nbytes(table: Table) -> int:
    columns: list[Any] = [*table.numeric.values(), *table.arrays.values()]
    columns += [c.codes for c in table.categorical.values()]
    if table.predictions is not None:
        columns.append(table.predictions.values)
    return sum(int(column.nbytes) for column in columns)
