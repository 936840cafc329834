"""A Parquet file of many rows × 50 columns for the screening benchmark, written little by little.

.venv/bin/python tests/bench/screening_rows.py FILE ROWS
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMERIC, WHOLE, TEXT = 38, 4, 8
AT_ONCE = 250_000


def write(file: Path, rows: int, seed: int = 0) -> None:
    """38 columns of doubles of several shapes, 4 of whole numbers, 8 of categories; some values are missing."""
    rng = np.random.default_rng(seed)
    writer: pq.ParquetWriter | None = None
    for first in range(0, rows, AT_ONCE):
        part = _part(rng, min(AT_ONCE, rows - first))
        writer = writer or pq.ParquetWriter(file, part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()


def _part(rng: np.random.Generator, rows: int) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    draws = (rng.standard_normal, rng.standard_exponential, rng.random, lambda n: np.exp(rng.standard_normal(n)))
    for i in range(NUMERIC):
        missing = rng.random(rows) < 0.02 if i % 5 == 0 else None
        columns[f"x{i}"] = pa.array(draws[i % len(draws)](rows), mask=missing)
    for i in range(WHOLE):
        columns[f"n{i}"] = pa.array(rng.integers(0, 10 ** (i + 1), rows))
    for i in range(TEXT):
        names = pa.array([f"category-{j}" for j in range(3 * 4**i if i < 5 else 50)])
        codes = pa.array(rng.integers(0, len(names), rows, dtype=np.int32))
        columns[f"c{i}"] = pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())
    return pa.table(columns)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
