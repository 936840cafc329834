"""Writes the figures of results.json into the README, between its two markers.

make bench ARGS="--json tests/bench/results.json" && .venv/bin/python tests/bench/readme.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench: begin, written by tests/bench/readme.py -->", "<!-- bench: end -->"
HEADER = ("work", "peer", "streamd", "ratio", "to reach", "")


def main(arguments: Sequence[str] | None = None) -> int:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=here / "results.json", metavar="FILE")
    parser.add_argument("--readme", type=Path, default=here.parents[1] / "README.md", metavar="FILE")
    options = parser.parse_args(arguments)
    document = json.loads(options.json.read_text())
    if document["quick"]:
        parser.error(f"{options.json} is of a --quick run, which says nothing about speed")
    before, begin, rest = options.readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        parser.error(f"{options.readme} has no place for it: put these two lines there\n{BEGIN}\n{END}")
    options.readme.write_text(f"{before}{BEGIN}\n{text(document)}\n{END}{after}")
    return 0


def text(document: dict[str, Any]) -> str:
    """The machine in a sentence, and the table. Where the time goes is said by `make bench`."""
    facts = document["machine"]
    rows = [row for part in document["parts"].values() for row in part]
    lines = [f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB; load {facts['load']} at the start.", ""]
    lines += [_line(HEADER), _line(("---",) * len(HEADER)), *(_line(row["cells"]) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
