"""Days of New York's taxi rides: what the scorers of windows tell, beside those of columns on the same numbers."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
from adbench_protocol import figures
from quality_scorers import NORMALS, scored

from streamd.fitting.base import ScorerSettings
from streamd.fitting.registry import SCORERS
from streamd.table import Table

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
SERIES = "realKnownCause/nyc_taxi.csv"
DAY, HOUR = 48, 2  # in steps of half an hour
UNCERTAIN = -1
LEARNED_SHARE = 0.8  # of the windows before the first anomaly; the days after them decide when to stop

WINDOWED = ("conv", "gru", "lstm")
COLUMNS = ("autoencoder", "isolation")  # the same numbers as columns of their own


def windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(windows, steps) of a day each, one an hour; (windows,) whether one is before the first anomaly; its label.

    1: the day contains one of the five labelled moments. 0: it lies outside of NAB's windows around them, which are
    four days long. UNCERTAIN: neither.
    """
    with (DATA / "nab/data" / SERIES).open() as file:
        rows = list(csv.DictReader(file))
    values = np.array([float(row["value"]) for row in rows])
    times = np.array([row["timestamp"] for row in rows], dtype="datetime64[s]")
    moments, around = (
        json.loads((DATA / f"nab/labels/combined_{name}.json").read_text())[SERIES] for name in ("labels", "windows")
    )
    starts = np.arange(0, len(values) - DAY + 1, HOUR)
    first, last = times[starts], times[starts + DAY - 1]
    labels = np.zeros(len(starts), dtype=int)
    for begins, ends in np.array(around, dtype="datetime64[s]"):
        labels[(last >= begins) & (first <= ends)] = UNCERTAIN
    for moment in np.array(moments, dtype="datetime64[s]"):
        labels[(first <= moment) & (moment <= last)] = 1
    before = last < np.datetime64(around[0][0])
    return np.lib.stride_tricks.sliding_window_view(values, DAY)[starts], before, labels


def table(sizes: str) -> bool:
    """Print them; `full` is with `lstm` and the mean of three seeds, ten minutes. Whether each tells them."""
    days, before, labels = windows()
    normal = days[before]
    cut = int(LEARNED_SHARE * len(normal))
    chosen = ~before & (labels != UNCERTAIN)
    judged, marked = days[chosen], labels[chosen]
    print(
        f"\nNew York's taxi rides, days as windows of {DAY} steps, fitted on the {len(normal)} before the first "
        f"of five anomalies;\n{marked.sum()} of the {len(marked)} judged contain one"
    )
    print(f"{'':<14}{'AUROC':>8}{'AP':>8}{'seconds a fit':>16}")
    good = True
    for scorer in (*(WINDOWED if sizes == "full" else WINDOWED[:2]), *COLUMNS):
        found = []
        for seed in range(3 if sizes == "full" else 1):
            parts = (_table(part, flat=scorer in COLUMNS) for part in (normal[:cut], normal[cut:], judged))
            values, seconds = scored(_settings(scorer, seed, sizes), *parts)
            found.append((*figures(marked, values).values(), seconds))
        auroc, precision, seconds = np.mean(found, axis=0)
        good &= auroc > 0.5 or sizes == "tiny"
        print(f"{scorer:<14}{auroc:>8.3f}{precision:>8.3f}{seconds:>16.0f}", flush=True)
    return good


def _settings(scorer: str, seed: int, sizes: str) -> ScorerSettings:
    known = {**NORMALS, "reads": "windows", **({"epochs_max": 1} if sizes == "tiny" else {})}
    fields = SCORERS[scorer].model_fields
    return SCORERS[scorer].model_validate({"seed": seed, **{key: known[key] for key in known if key in fields}})


def _table(days: np.ndarray, *, flat: bool) -> Table:
    if flat:
        return Table(len(days), {f"x{i}": np.ascontiguousarray(column) for i, column in enumerate(days.T)})
    return Table(len(days), arrays={"day": np.ascontiguousarray(days)})
