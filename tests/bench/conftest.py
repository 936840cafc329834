"""The benchmarks are programs: they find each other's modules when they are run, and hold no doctests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

collect_ignore_glob = ["bench*.py", "peer_*.py"]
