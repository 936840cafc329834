"""What `streamd screen` finds of what was planted, and whom it accuses without reason."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.append(str(Path(__file__).parents[1] / "support"))
from planted import RULES, accused, clean_columns, missed, planted

from streamd.screening import screen
from streamd.screening.rules import Rules

SEEDS = 3
CLEAN_ROWS = (500, 5_000, 50_000)


def table() -> bool:
    """Print it; whether all was found and nobody accused."""
    print("\nScreening: every planted defect, and clean columns beside them")
    print(f"{'data':<34}{'planted':>8}{'found':>7}{'accused':>9}{'recall':>8}{'precision':>11}")
    good = True
    for seed in range(SEEDS):
        data = planted(seed)
        screening = screen(data.table, label=data.label, time=data.time, rules=Rules.model_validate(RULES))
        lost, wrong = missed(screening, data), accused(screening, data.clean)
        found = len(data.wanted) - len(lost)
        precision = found / max(1, found + len(wrong))
        print(
            f"{f'planted, {data.table.num_rows:,} rows, seed {seed}':<34}{len(data.wanted):>8}{found:>7}{len(wrong):>9}"
            f"{found / len(data.wanted):>8.2f}{precision:>11.2f}  {'; '.join(lost + wrong)}"
        )
        good &= not lost and not wrong
    for rows in CLEAN_ROWS:
        wrong = []
        for seed in range(SEEDS):
            columns = clean_columns(np.random.default_rng([seed, rows]), rows)
            wrong += accused(screen(pa.table(columns)), tuple(columns))
        print(f"{f'clean, {rows:,} rows, {SEEDS} seeds':<34}{0:>8}{0:>7}{len(wrong):>9}{'':>19}  {'; '.join(wrong)}")
        good &= not wrong
    return good


if __name__ == "__main__":
    raise SystemExit(0 if table() else 1)
