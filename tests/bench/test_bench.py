from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from brokers import HOW_TO_GET_KAFKA, kafka_launcher
from needs import unavailable

HERE = Path(__file__).parent
# The other parts take minutes each, and `make test` has twelve.
WORK = {
    "ks": ("normal, judged", "beside alibi-detect", "lognormal", "Cauchy", "ten values", "100 features"),
    "columns": ("streaming z-score", "streaming entropy"),
    "codec": ("decode JSON columns", "decode Arrow"),
    "scorers": ("isolation forest", "dense autoencoder"),
    "engine": ("engine alone, JSON", "engine alone, Arrow"),
    "screening": ("screen, 50,000 × 50 Parquet", "beside evidently", "beside ydata"),
    "start": ("streamd --help", "without torch", "with torch imported"),
}
NEED_KAFKA = ("start",)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", [name for name in WORK if name not in NEED_KAFKA])
def test_each_part_runs_and_writes_its_rows(part: str, tmp_path: Path) -> None:
    check(part, tmp_path)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", NEED_KAFKA)
def test_each_part_that_needs_kafka_runs_and_writes_its_rows(part: str, tmp_path: Path) -> None:
    if kafka_launcher() is None and not os.environ.get("STREAMD_TEST_KAFKA"):
        unavailable(HOW_TO_GET_KAFKA)
    check(part, tmp_path)


def check(part: str, folder: Path) -> None:
    file = folder / "bench.json"
    command = [sys.executable, str(HERE / "bench.py"), "--quick", "--no-install", "--only", part, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert written["machine"]["cores"] >= 1
    rows = written["parts"][part]
    for work in WORK[part]:
        assert any(work in row["work"] for row in rows), (work, [row["work"] for row in rows])
    for row in rows:
        assert (row["ours"] or 0) > 0 or row["skipped"], row
        assert row["verdict"] != "MISSED" or row["work"] in done.stdout


def test_a_second_run_of_one_part_leaves_the_rows_of_the_others(tmp_path: Path) -> None:
    from bench import keep

    file, facts = tmp_path / "bench.json", {"cpu": "a", "load": 0.5}
    row = a_row()
    keep(file, facts, "codec", [row], quick=False)
    keep(file, {**facts, "load": 2.0}, "ks", [row], quick=False)
    assert list(json.loads(file.read_text())["parts"]) == ["ks", "codec"]
    keep(file, {**facts, "cpu": "another"}, "codec", [row], quick=False)
    assert list(json.loads(file.read_text())["parts"]) == ["codec"]


def test_a_row_is_met_by_less_time_or_more_rows_than_its_target() -> None:
    from bench_table import Row

    assert Row("w", "ms", 0.5, limit=0.6).verdict == "met"
    assert Row("w", "ms", 0.7, limit=0.6).verdict == "MISSED"
    assert Row("w", "rows/s", 10.0, limit=9.0).verdict == "met"
    assert Row("w", "rows/s", 10.0, "peer", 1.0, ratio_min=10).verdict == "met"
    assert Row("w", "ms", 10.0, "peer", 100.0, ratio_min=11).verdict == "MISSED"
    assert Row("w", "ms", 10.0, "peer", 100.0).verdict == ""


def test_the_readme_gets_the_figures_between_its_markers(tmp_path: Path) -> None:
    from readme import BEGIN, END, main

    results, page = tmp_path / "results.json", tmp_path / "README.md"
    facts = {"cpu": "a CPU", "cores": 2, "memory_gb": 8.0, "load": 0.1}
    document = {"quick": False, "machine": facts, "parts": {"codec": [a_row().as_json()]}}
    results.write_text(json.dumps(document))
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = ["--json", str(results), "--readme", str(page)]
    assert main(arguments) == 0
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "| decode | peer 1 ms | 2 ms | 0.5× | ≤ 1 ms | MISSED |" in once
    main(arguments)
    assert page.read_text() == once
    results.write_text(json.dumps({**document, "quick": True}))
    with pytest.raises(SystemExit):
        main(arguments)


def a_row() -> Any:
    from bench_table import Row

    return Row("decode", "ms", 2.0, "peer", 1.0, limit=1.0, where=("80% of it in f",), next_step="without f")
