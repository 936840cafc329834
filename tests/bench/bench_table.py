"""What the benchmark measures with, and the table that it prints."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

PACKAGES = ("numpy", "torch", "scipy", "numba", "pyarrow", "orjson", "pysimdjson", "kafka-python", "crc32c")
Unit = Literal["ms", "MB", "rows/s", "values/s"]
_SMALL_IS_GOOD = ("ms", "MB")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: what was done.
        unit: of `peer` and `ours`.
        ours: the median over the repetitions, like `peer`.
        peer_name, peer: who did the same beside us, in the same run; None where there is nobody to compare with.
        ratio_min: how many times better than the peer we must be.
        limit: what `ours` must reach: at most so many ms or MB, at least so many rows/s or values/s.
        skipped: why nothing was measured.
        where: where it missed, the entries of a profile with the most time.
        next_step: and what the next factor of two would take.
    """

    work: str
    unit: Unit
    ours: float | None
    peer_name: str = ""
    peer: float | None = None
    ratio_min: float | None = None
    limit: float | None = None
    skipped: str = ""
    where: tuple[str, ...] = ()
    next_step: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; below 1: worse."""
        if self.peer is None or self.ours is None:
            return None
        return self.peer / self.ours if self.unit in _SMALL_IS_GOOD else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None without a target or a measurement."""
        if self.ours is None:
            return None
        if self.ratio_min is not None:
            return self.ratio is not None and self.ratio >= self.ratio_min
        if self.limit is None:
            return None
        return self.ours <= self.limit if self.unit in _SMALL_IS_GOOD else self.ours >= self.limit

    @property
    def target(self) -> str:
        if self.ratio_min is not None:
            return f"≥ {self.ratio_min:g}×"
        if self.limit is None:
            return ""
        return f"{'≤' if self.unit in _SMALL_IS_GOOD else '≥'} {_amount(self.limit, self.unit)}"

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]

    def cells(self) -> tuple[str, ...]:
        peer = self.peer_name if self.peer is None else f"{self.peer_name} {_amount(self.peer, self.unit)}"
        ours = "" if self.ours is None else _amount(self.ours, self.unit)
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}×"
        verdict = self.skipped or self.verdict
        return (self.work, peer, ours, ratio, self.target, verdict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "ratio": self.ratio,
            "target": self.target,
            "verdict": self.verdict,
            "cells": self.cells(),
        }


def side_by_side(
    ours: Callable[[], object], peer: Callable[[], object], turns: int, ours_a_turn: int = 1, peer_a_turn: int = 1
) -> tuple[float, float]:
    """The median milliseconds of both, taken in turns: what else the machine does then disturbs both alike.

    Work of less than a millisecond is done some times a turn, since what the other left in the caches is not its.
    """
    both: tuple[list[float], list[float]] = [], []
    for turn in range(turns + 1):
        for work, times, taken in zip((ours, peer), (ours_a_turn, peer_a_turn), both, strict=True):
            for _ in range(times):
                started = time.perf_counter()
                work()
                if turn:  # the first is a warm-up
                    taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(both[0]), statistics.median(both[1])


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **packages,
    }


def print_machine(facts: dict[str, Any]) -> None:
    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, load {facts['load']} at the start")
    print(", ".join(f"{name} {facts[name]}" for name in ("python", *PACKAGES)), flush=True)


def print_rows(rows: Sequence[Row]) -> None:
    """The table, each column as wide as it must be."""
    lines = [("work", "peer", "ours", "ratio", "target", "verdict"), *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    for line in lines:
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row.where or row.next_step:
            print(f"\n{row.work}: {row.verdict or 'no target'}")
            for entry in row.where:
                print(f"    {entry}")
            print(f"    Next factor of two: {row.next_step}.")


def _amount(value: float, unit: Unit) -> str:
    if unit == "ms" and value < 1000:
        return f"{value:.3g} ms"
    return f"{value:,.0f} {unit}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
