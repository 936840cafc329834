"""ydata-profiling's and Evidently's report of a Parquet file; runs under the peers' Python."""

from __future__ import annotations

import sys
import time
from typing import Any

import peer_turns  # first: it takes stdout for itself

import pandas as pd  # isort: skip


def main(file: str) -> None:
    def turn(question: dict[str, Any]) -> dict[str, Any]:
        name = question["peer"]
        frame = pd.read_parquet(file)
        report = _evidently if name == "evidently" else _ydata
        report(frame.head(200), name)  # what is imported and compiled, once
        wall, cpu = time.perf_counter(), time.process_time()
        report(pd.read_parquet(file), name)
        return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}

    peer_turns.serve({}, turn)


def _ydata(frame: pd.DataFrame, name: str) -> None:
    from ydata_profiling import ProfileReport

    ProfileReport(frame, progress_bar=False, minimal=name == "ydata-minimal").to_html()


def _evidently(frame: pd.DataFrame, name: str) -> None:
    from evidently import Dataset, Report
    from evidently.presets import DataSummaryPreset

    Report([DataSummaryPreset()]).run(Dataset.from_pandas(frame), None).get_html_str(False)


if __name__ == "__main__":
    main(*sys.argv[1:])
