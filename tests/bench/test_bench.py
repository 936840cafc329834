from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_runs_without_a_broker_and_writes_what_it_measured(tmp_path: Path) -> None:
    script, file = Path(__file__).with_name("bench.py"), tmp_path / "bench.json"
    command = [sys.executable, str(script), "--quick", "--only", "ks,codec,engine", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert written["machine"]["cores"] >= 1
    measured = {row["work"].partition(":")[0].partition(",")[0] for row in written["rows"]}
    assert {"ks", "decode JSON columns", "decode Arrow", "engine alone"} <= measured
    assert all(row["ours"] > 0 for row in written["rows"])
