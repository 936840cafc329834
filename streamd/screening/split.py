"""The screened rows as two Parquet files: clean.parquet, and suspicious.parquet with the rows' numbers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamd.screening.source import Source

CLEAN, SUSPICIOUS = "clean.parquet", "suspicious.parquet"
ROW = "streamd.row"


def split(source: Source, suspicious: NDArray[np.int64], folder: Path) -> tuple[int, int]:
    """Write both files, whole or not at all; (clean, suspicious) rows.

    Args:
        source: the rows that were screened.
        suspicious: numbers of rows, rising.

    Raises:
        OSError: the folder cannot be written.
        DataFileError: the data cannot be read any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".split-", dir=folder) as made:
        clean, odd = Path(made) / CLEAN, Path(made) / SUSPICIOUS
        numbered = source.schema.insert(0, pa.field(ROW, pa.int64()))
        counts = [0, 0]
        with pq.ParquetWriter(clean, source.schema) as cleans, pq.ParquetWriter(odd, numbered) as odds:
            for chunk in source.chunks:
                for first, rows in source.read(chunk):
                    low, high = np.searchsorted(suspicious, [first, first + rows.num_rows])
                    marked = np.zeros(rows.num_rows, bool)
                    marked[suspicious[low:high] - first] = True
                    cleans.write_table(rows.filter(pa.array(~marked)))
                    numbers = pa.array(suspicious[low:high], pa.int64())
                    odds.write_table(rows.filter(pa.array(marked)).add_column(0, ROW, numbers))
                    counts[0] += rows.num_rows - int(high - low)
                    counts[1] += int(high - low)
        for file in (clean, odd):
            os.replace(file, folder / file.name)
    return counts[0], counts[1]
