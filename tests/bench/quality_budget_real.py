"""The alarm budget on real healthy data: Elec2, New York's taxis, the census model, training runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import peer_budget
import pyarrow as pa
import quality_training
from budget_inputs import DAY_MS, ROWS, T0_MS, Floats
from budget_watch import DEFAULT, HEAD, HOUR_MS, REFERENCE_ROWS, Healthy, Sent, Watch, follow, has_season

from streamd.config import Config

BATCH_ROWS = 8
PART_ROWS = 10_000  # of one record of a reference


def elec2(data: Path, season: str | None) -> tuple[Config, list[Sent]]:
    """New South Wales before Victoria joined its market: 17,424 half hours."""
    table = np.genfromtxt(data / "elec2/elec.csv", delimiter=",", skip_header=1)[: 363 * 48]
    return _config(season), _batches(table[:, 1:3], ("price", "demand"), 1_715_040_000_000)


def taxi(data: Path, season: str | None) -> tuple[Config, list[Sent]]:
    """New York's taxi rides without the days of the five windows of known causes."""
    name = "realKnownCause/nyc_taxi.csv"
    windows = json.loads((data / "nab/labels/combined_windows.json").read_text())[name]
    with (data / "nab/data" / name).open() as file:
        rows = [
            (datetime.fromisoformat(row["timestamp"] + "+00:00"), float(row["value"])) for row in csv.DictReader(file)
        ]
    ends = [[datetime.fromisoformat(end + "+00:00") for end in window] for window in windows]
    calm = [
        all(not first.date() <= moment.date() <= last.date() for first, last in ends) for moment, _ in rows
    ]  # whole days
    values = np.array([[value] for _, value in rows])
    sent = _batches(values, ("rides",), int(rows[0][0].timestamp() * 1000))
    return _config(season), [each for i, each in enumerate(sent) if calm[BATCH_ROWS * i]]


def _config(season: str | None) -> Config:
    rows = 4000 if season == "7d" else REFERENCE_ROWS  # 12 weeks
    return Config.model_validate({"reference": {"first_rows": rows} | ({} if season is None else {"season": season})})


def _batches(values: Floats, names: tuple[str, ...], start_ms: int) -> list[Sent]:
    """Half hours as batches of four hours: a batch has one time, and `zscore` asks for eight rows."""
    return [
        (
            "s",
            start_ms + first * HOUR_MS // 2,
            [pa.table(dict(zip(names, values[first : first + BATCH_ROWS].T, strict=True)))],
        )
        for first in range(0, len(values), BATCH_ROWS)
    ]


def census(data: Path, limit: int | None) -> tuple[Watch, list[Sent]]:
    """The census employment model with its reference, and its quiet windows, one an hour."""
    import quality  # which imports this

    watch, batches = Watch(Config()), list[Sent]()
    reference, probabilities = quality.read_census(data, "reference")
    parts = -(-reference.num_rows // PART_ROWS) if limit is None else 1
    for i in range(parts):
        rows = slice(i * PART_ROWS, (i + 1) * PART_ROWS)
        table, logits = reference.slice(rows.start, PART_ROWS), np.log(probabilities[rows])
        watch.send("s", T0_MS, table, logits, role="reference", part=(i + 1, parts))
    analysis, probabilities = quality.read_census(data, "analysis")
    for first in range(0, analysis.num_rows, ROWS):
        if first >= quality.EVENT.stop or first + ROWS <= quality.EVENT.start:
            content = [analysis.slice(first, ROWS), np.log(probabilities[first : first + ROWS])]
            batches.append(("s", T0_MS + len(batches) * HOUR_MS, content))
    return watch, batches[:limit]


def table(data: Path, limit: int | None = None) -> bool:
    """Print the table, of the first `limit` batches; whether false alarms are nowhere above the budget."""
    print(f"\nReal healthy data, budget {DEFAULT.false_alarms}, all detectors as shipped\n{HEAD}")
    good = True
    for name, build in (("Elec2 before May 1997", elec2), ("NAB nyc_taxi, calm", taxi)):
        for season in (None, "24h", "7d") if has_season() else (None,):
            config, batches = build(data, season)
            result = Healthy()
            follow(result, Watch(config), batches[:limit], made=False)
            _peers(result, batches[:limit])
            good &= result.holds()
            print(result.line(f"{name}{'' if season is None else f', {season}'}") + _said(result), flush=True)
    result = Healthy()
    follow(result, *census(data, limit), made=False)
    print(result.line("census, quiet windows") + _said(result))
    return good & result.holds() & _training(data, limit)


def _said(result: Healthy) -> str:
    return f"  {dict(result.ours)}" if result.ours else ""


def _peers(result: Healthy, batches: Sequence[Sent]) -> None:
    """The peers on windows of a day of the same rows; the first ones are the textbook's reference."""
    table = np.concatenate([np.column_stack([c.to_numpy() for c in sent[0].columns]) for _, _, sent in batches])
    if len(table) <= REFERENCE_ROWS:
        return
    others = peer_budget.peers(table[:REFERENCE_ROWS], None)
    for first in range(REFERENCE_ROWS, len(table) - 47, 48):
        result.peers.update(name for name, peer in others.items() if peer.update(table[first : first + 48], None))
        result.peer_span_ms += DAY_MS


def _training(data: Path, limit: int | None) -> bool:
    runs = quality_training.healthy_runs(data / "train_telemetry")[: limit and 1]
    said = quality_training.judged({"preset": "streamd"}, runs)
    days = said.steps / 86_400
    print(
        f"train_telemetry: {len(said.alerts)} in {len(runs)} healthy runs, {said.steps:,} steps ({days:.1f} days "
        "at one a second); rules give no p-values, so no budget is theirs: at most 1 per 100,000 steps is their promise"
    )
    return len(said.alerts) * 1e5 <= quality_training.WARNINGS_MAX * max(said.steps, 100_000)
