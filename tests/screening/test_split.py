"""The split: every row is in one of the two files, as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamd.screening import source as sources
from streamd.screening.source import open_source
from streamd.screening.split import split

ROWS = 5_000


@pytest.fixture
def table() -> pa.Table:
    categories = pa.array([None if i % 7 == 0 else f"c{i % 3}" for i in range(ROWS)]).dictionary_encode()
    return pa.table({"n": pa.array(np.arange(ROWS)), "c": categories, "l": pa.array([[1, 2]] * ROWS)})


@pytest.mark.parametrize("kind", ["memory", "parquet"])
def test_clean_and_suspicious_rows_are_all_of_them_in_their_order(
    table: pa.Table, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CHUNK_ROWS", 1_300)  # the borders of chunks and batches fall between the rows
    monkeypatch.setattr(sources, "BATCH_CELLS", 0)
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=700)
    source = open_source(table if kind == "memory" else tmp_path / "data.parquet")
    odd = np.array([0, 1, 1_299, 1_300, 1_301, 4_999], np.int64)
    assert split(source, odd, tmp_path / "out") == (ROWS - 6, 6)
    clean, suspicious = (pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("clean", "suspicious"))
    assert suspicious["streamd.row"].to_pylist() == odd.tolist() == suspicious["n"].to_pylist()
    assert clean["n"].to_pylist() == sorted(set(range(ROWS)) - set(odd.tolist()))
    plain = table.cast(clean.schema)
    assert clean.equals(plain.take(clean["n"].combine_chunks()))
    assert suspicious.drop_columns("streamd.row").equals(plain.take(pa.array(odd)))


def test_without_suspicious_rows_their_file_is_there_and_empty(table: pa.Table, tmp_path: Path) -> None:
    assert split(open_source(table), np.empty(0, np.int64), tmp_path / "out") == (ROWS, 0)
    empty = pq.read_table(tmp_path / "out/suspicious.parquet")
    assert (empty.num_rows, empty.column_names[0]) == (0, "streamd.row")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["clean.parquet", "suspicious.parquet"]
