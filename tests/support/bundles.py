"""Bundles on disk for tests: two columns that go together, an isolation forest, a reference."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from streamd.fitting.folder import BundleFolder, write
from streamd.fitting.isolation import IsolationSettings
from streamd.fitting.learning import fit
from streamd.scorers.fitted import to_bytes
from streamd.table import Table


def rows(count: int, seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Two columns that go together, until `shift` moves the second away from the first."""
    generator = np.random.default_rng(seed)
    first = generator.normal(size=count)
    return {"age": first, "income": first + shift + 0.1 * generator.normal(size=count)}


@cache
def weights(seed: int = 0) -> bytes:
    return to_bytes(fit(IsolationSettings(trees=30, seed=seed), Table(3000, rows(3000, 0))).fitted)


def bundle(folder: Path, seed: int = 0, scored: bool = True, reference_seed: int = 100) -> Path:
    """A bundle of an isolation forest, or of a profile alone. One that is there is replaced."""
    reference = Table(2000, rows(2000, reference_seed))
    write(folder, BundleFolder({}, weights(seed) if scored else None, reference), replace=True)
    return folder
