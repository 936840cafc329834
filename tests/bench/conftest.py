"""The benchmarks are programs: they find each other's modules when they are run, and hold no doctests."""

from __future__ import annotations

collect_ignore_glob = ["bench*.py"]
