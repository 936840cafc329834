"""The rows of a reference: evenly from all that are not suspicious, in batches that fit into a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from screenings import clean

from streamd.screening import publish
from streamd.screening.model import Screening
from streamd.screening.publish import reference
from streamd.screening.source import open_source


def screened(suspicious: list[int]) -> Screening:
    return replace(clean(), suspicious=np.array(suspicious, np.int64))


def rows(count: int) -> pa.Table:
    return pa.table({"n": np.arange(count), "m": np.arange(count) * 2.0})


def test_all_rows_but_the_suspicious_are_sent_in_parts_of_a_thousand() -> None:
    found = reference(open_source(rows(2_500)), screened([3, 999, 2_499]), ["n"])
    batches = list(found.batches)
    assert (found.rows, found.parts) == (2_497, 3) == (sum(b.num_rows for b in batches), len(batches))
    sent = [n for batch in batches for n in batch["n"].to_pylist()]
    assert sent == sorted(set(range(2_500)) - {3, 999, 2_499})
    assert {name for batch in batches for name in batch.column_names} == {"n"}


def test_of_very_many_rows_some_are_sent_evenly_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "ROWS_MAX", 100)
    found = reference(open_source(rows(10_000)), screened([0]), ["n", "m"])
    sent = [n for batch in found.batches for n in batch["n"].to_pylist()]
    assert sent == list(range(100, 10_000, 100))


def test_wide_rows_come_in_smaller_parts() -> None:
    wide = pa.table({f"x{i}": np.zeros(200) for i in range(1_000)})
    found = reference(open_source(wide), screened([]), wide.column_names)
    assert [batch.num_rows for batch in found.batches] == [50] * 4
    assert found.parts == 4
