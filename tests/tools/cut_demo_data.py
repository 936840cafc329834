"""Cut the slice of the census employment data that the demo ships.

python tests/tools/cut_demo_data.py ../shared/data/nannyml_census streamd/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EVENT = range(133_620, 143_890)  # rows of the analysis file in which only group-quarters residents arrive
LEFT_OUT = {"id", "employed", "year", "prediction"}  # a row number, the target, the file's year, a thresholded output

PARTS = {
    # name: (file, first row, row after the last)
    "reference": ("employment_MA_reference.pq", 0, 68_785),
    "quiet": ("employment_MA_analysis.pq", 40_000, 64_000),
    "event": ("employment_MA_analysis.pq", EVENT.start - 6_000, EVENT.stop + 7_730),
}
REFERENCE_ROWS = 10_000


def cut(source: Path, target: Path) -> None:
    for name, (file, first, end) in PARTS.items():
        table = pq.read_table(source / file)
        table = table.slice(first, end - first)
        if name == "reference":  # every seventh or so: the whole year, in its order
            step = table.num_rows / REFERENCE_ROWS
            table = table.take(pa.array([int(i * step) for i in range(REFERENCE_ROWS)]))
        table = table.select([column for column in table.column_names if column not in LEFT_OUT])
        columns = {
            column: pc.cast(table[column], pa.float32())
            if column == "predicted_probability"
            else pc.cast(table[column], pa.int16())
            if column == "AGEP"
            else pc.cast(table[column].combine_chunks(), pa.string()).dictionary_encode()
            for column in table.column_names
        }
        path = target / f"{name}.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", compression_level=19)
        print(f"{path}: {table.num_rows} rows, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    cut(Path(sys.argv[1]), Path(sys.argv[2]))
