"""Speed, side by side with its peers: the judge, decoding, the engine, the whole daemon, the command line.

    make bench                              # everything, some minutes; a real Kafka if there is one
    make bench ARGS="--quick"               # less often and without the daemon
    make bench ARGS="--only ks,engine"

Every ratio is of two medians that were measured in turns, in the same run. The figures are also written as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_table import Row, machine, print_machine, print_rows, side_by_side

sys.path.append(str(Path(__file__).parents[1] / "support"))  # the brokers and daemons of the tests

PARTS = ("ks", "codec", "engine", "daemon", "help")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less often, and without the daemon")
    parser.add_argument("--only", default="", metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: bench.json")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else [p for p in PARTS if not (options.quick and p == "daemon")]
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    facts = machine()
    print_machine(facts)
    rows: list[Row] = []
    for part in chosen:
        print(f"measuring: {part} …", file=sys.stderr, flush=True)
        rows += _help(options.quick) if part == "help" else importlib.import_module(f"bench_{part}").rows(options.quick)
    print_rows(rows)
    document = {"machine": facts, "rows": [row.as_json() for row in rows]}
    options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0


def _help(quick: bool) -> Iterator[Row]:
    def run(*command: str) -> None:
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)

    ours, peer = side_by_side(lambda: run("-m", "streamd", "--help"), lambda: run("-c", "pass"), 3 if quick else 10)
    yield Row("streamd --help", "ms", ours, "python -c pass", peer, limit=300)


if __name__ == "__main__":
    sys.exit(main())
