"""What seldom changes of a stream, references and trained weights: kept apart from the snapshots, named by content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from streamd.detectors.base import DetectorConfig, Reference
from streamd.model import Keep
from streamd.settings import Settings
from streamd.state import pack, unpack
from streamd.table import Table


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
