"""How the daemon grows with its workers: one group, one topic, the same load."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator

from bench_kafka import Watched, kafka, no_kafka
from bench_table import Row

WORKERS = 2


def rows(quick: bool) -> Iterator[Row]:
    work = f"{WORKERS} workers beside 1, JSON, {os.cpu_count()} cores (the broker and the producer are on them too)"
    if reason := no_kafka():
        yield Row(work, "rows/s", None, skipped=reason)
        return
    count, repeat = (400, 1) if quick else (4000, 3)
    with kafka() as (servers, folder):
        medians = []
        for workers in (1, WORKERS):
            with Watched(servers, folder, "json", workers) as watched:
                watched.wait_until_trained()
                medians.append(statistics.median(watched.run(count).rows for _ in range(repeat)))
    yield Row(work, "rows/s", medians[1], "1 worker", medians[0])
