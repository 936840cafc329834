"""From the step that a job sends to the command that it causes in the job's hands, the daemon a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from bench_kafka import kafka, no_kafka
from bench_latency import where_time_goes
from bench_table import Row
from daemons import Daemon

from streamd.client import TrainingMonitor

P99_LIMIT_MS = 250
STEP_SECONDS = 0.02
CALM_STEPS = 6  # what ends the incident, so that the next one is told
DEADLINE_SECONDS = 30.0
LOOK_SECONDS = 0.0005
NEXT_STEP = "a commit that does not wait for the disk of every broker, and a fetch that is answered at once"


def rows(quick: bool) -> Iterator[Row]:
    if reason := no_kafka():
        yield Row("step → command, p99", "ms", None, limit=P99_LIMIT_MS, skipped=reason)
        return
    with kafka() as (servers, folder):
        daemon = Daemon(servers, folder, STREAMD_POLICY__MODE="enforce", STREAMD_LOG__LEVEL="warning")
        daemon.start()
        try:
            daemon.wait_until_ready()
            took = _latencies(daemon, 10 if quick else 400)
            p50, p99 = np.percentile(took, [50, 99])
            yield Row(f"step → command in the job's hands, p50 of {len(took)}", "ms", float(p50))
            row = Row(f"step → command in the job's hands, p99 of {len(took)}", "ms", float(p99), limit=P99_LIMIT_MS)
            yield row if row.met else replace(row, where=where_time_goes(daemon), next_step=NEXT_STEP)
        finally:
            daemon.close()


def _latencies(daemon: Daemon, count: int) -> list[float]:
    """Milliseconds from a loss that is NaN to the command to pause, each in an incident of its own."""
    phases = np.random.default_rng(0).uniform(0, 0.3, count)  # as long as the longest poll: none is met on purpose
    obeyed = {"checkpoint": lambda _: "kept", "pause": lambda _: "not really"}
    monitor = TrainingMonitor(
        "bench",
        bootstrap_servers=daemon.bootstrap_servers,
        topic=daemon.topics["telemetry"],
        control_topic=daemon.topics["control"],
        allow=set(obeyed),
        handlers=obeyed,
        automatic=False,
    )
    took = []
    with monitor:
        for phase in (0.0, *phases):
            for _ in range(CALM_STEPS):
                monitor.step(loss=1.0)
                time.sleep(STEP_SECONDS)
            time.sleep(phase)
            sent = time.perf_counter()
            monitor.step(loss=float("nan"))
            took.append(1000 * (_handed_over(monitor) - sent))
    assert monitor.stats.dropped == monitor.stats.failed == 0, monitor.stats
    return took[1:]  # the first waits for both to connect


def _handed_over(monitor: TrainingMonitor) -> float:
    deadline = time.perf_counter() + DEADLINE_SECONDS
    waiting, handed_over = {"checkpoint", "pause"}, 0.0
    while waiting:
        commands = monitor.commands()
        handed_over = time.perf_counter()
        monitor.obey(*commands)
        waiting -= {command.command for command in commands}
        assert handed_over < deadline, f"{waiting} did not come"
        time.sleep(LOOK_SECONDS)
    return handed_over
