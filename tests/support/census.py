"""The US-census employment model: a real model's features and probabilities, with one real event."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from needs import unavailable

from streamd.table import Categorical, Predictions, Table

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
EVENT = range(133_620, 143_890)  # analysis rows in which only residents of group quarters arrive
NOT_FEATURES = ("id", "employed", "year", "prediction", "predicted_probability")


@cache
def load(part: str) -> Table:
    """`reference` (2015, 68,785 rows) or `analysis` (2016 to 2018, 208,892 rows); skips where it is not there."""
    path = DATA / "nannyml_census" / f"employment_MA_{part}.pq"
    if not path.exists():
        unavailable(f"no census data at {path}: set STREAMD_TEST_DATA to the folder that holds nannyml_census")
    import pandas as pd

    frame: Any = pd.read_parquet(path)
    numeric, categorical = {}, {}
    for name in frame.columns:
        if name in NOT_FEATURES:
            continue
        column = frame[name]
        if hasattr(column, "cat"):
            codes = column.cat.codes.to_numpy().astype(np.int32)
            categorical[name] = Categorical(codes, tuple(str(category) for category in column.cat.categories))
        else:
            numeric[name] = column.to_numpy().astype(np.float64)
    employed = frame["predicted_probability"].to_numpy()
    probabilities = Predictions("probabilities", np.column_stack([1 - employed, employed]))
    return Table(len(frame), numeric, categorical=categorical, predictions=probabilities)


def rows(table: Table, start: int, stop: int) -> Table:
    return table.take(np.arange(start, min(stop, table.rows)))
