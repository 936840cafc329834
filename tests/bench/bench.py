"""Speed, side by side with its peers: judges, decoding, the engine, the whole daemon, many streams, starting.

    make bench                                          # everything, some 15 minutes; a real Kafka if there is one
    make bench ARGS="--only ks,daemon"                  # some parts; what the file has of the others stays there
    make bench ARGS="--quick"                           # small: whether it runs, not how fast
    make bench ARGS="--json tests/bench/results.json"   # what tests/bench/readme.py writes into the README

Every ratio is of two medians that were measured in turns, in the same run. Peers have environments of their own,
.venv-peers and .venv-peers-screening, made when they are missing; where that cannot be done their rows say so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_peers import NO_INSTALL
from bench_table import Row, machine, print_machine, print_rows

sys.path.append(str(Path(__file__).parents[1] / "support"))  # the brokers and daemons of the tests

PARTS = (
    "ks",
    "columns",
    "codec",
    "engine",
    "daemon",
    "workers",
    "latency",
    "command",
    "scorers",
    "streams",
    "screening",
    "monitor",
    "start",
)
FILE = Path(__file__).parents[2] / "build/bench.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small: whether it runs, not how fast")
    parser.add_argument("--only", default="", metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, default=FILE, metavar="FILE", help="default: build/bench.json")
    parser.add_argument("--no-install", action="store_true", help="use peers only where they are installed")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    if options.no_install:
        os.environ[NO_INSTALL] = "1"
    facts = machine()
    print_machine(facts)
    measured: dict[str, list[Row]] = {}
    for part in chosen:
        print(f"measuring: {part} …", file=sys.stderr, flush=True)
        measured[part] = list(importlib.import_module(f"bench_{part}").rows(options.quick))
        keep(options.json, facts, part, measured[part], options.quick)
    print_rows([row for rows in measured.values() for row in rows])
    return 0


def keep(file: Path, facts: dict[str, Any], part: str, rows: Sequence[Row], quick: bool) -> None:
    """Write the part's rows into the file, beside those of other parts that were measured on this machine."""
    document = json.loads(file.read_text()) if file.exists() else {}
    if document.get("quick") != quick or document["machine"] | {"load": 0} != facts | {"load": 0}:
        document = {"quick": quick, "parts": {}}
    document["machine"] = facts
    measured = {**document["parts"], part: [row.as_json() for row in rows]}
    document["parts"] = {name: measured[name] for name in PARTS if name in measured}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
