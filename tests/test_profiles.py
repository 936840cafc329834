"""What streams share: one copy of each reference, and of what is prepared from it."""

from __future__ import annotations

import numpy as np

from streamd.detectors.base import Reference
from streamd.detectors.ks import KsConfig
from streamd.profiles import Profiles
from streamd.table import Table


def reference() -> Reference:
    rng = np.random.default_rng(0)
    table = Table(100, {"x": rng.normal(size=100), "y": rng.normal(size=100)})
    return Reference(table, table.sha256(), "batches")


def test_equal_references_are_held_once_and_so_are_their_profiles() -> None:
    profiles = Profiles()
    one, other = profiles.reference(reference()), profiles.reference(reference())
    assert one is other
    first = profiles.profile(KsConfig(), one, None, "")
    assert profiles.profile(KsConfig(), other, None, "") is first
    assert profiles.profile(KsConfig(window_rows=50), one, None, "") is not first


def test_preparing_a_reference_leaves_no_second_copy_of_its_columns() -> None:
    profiles = Profiles()
    kept = profiles.reference(reference())
    stacked = kept.table.matrix(("x", "y"))
    profiles.profile(KsConfig(), kept, None, "")
    assert kept.table.matrix(("x", "y")) is not stacked
