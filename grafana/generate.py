"""Writes the dashboards beside this file, or into a folder: `python grafana/generate.py [folder]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from boards import alerts, daemon, feature_drift, overview, predictions, training

BOARDS = {
    "overview": overview.board,
    "feature-drift": feature_drift.board,
    "predictions": predictions.board,
    "training": training.board,
    "alerts": alerts.board,
    "daemon": daemon.board,
}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, board in BOARDS.items():
        (folder / f"{name}.json").write_text(json.dumps(board(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
