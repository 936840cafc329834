"""What each preset of rules finds, and what it costs in false alarms, on the telemetry of real training runs.

Healthy: 37 runs of modded-nanogpt (172,499 steps), none of which diverged, and one of llm.c with gradient norms. The
same again with every tenth step alone, as a sparse log has it. Events: the excerpts of BigScience's chronicles.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from streamd.config import Config
from streamd.model import Alert, Effect, Envelope, RunJudged, Severity
from streamd.rules.presets import PRESETS
from streamd.transport.base import Partition
from streamd.wiring import engine_factory

TOPIC = "streamd.telemetry"
T0 = 1_700_000_000_000
HOLE_STEPS = 1000  # lines of one file that are further apart, or go back, are of another run
WARNINGS_MAX = 1.0  # per 100,000 healthy steps, of the preset that everybody gets

# Event -> the step at which the loss jumps, and the last step of the excerpt.
EVENTS = {
    "13B, 29050: 3 to 9": (29050, 29090),
    "104B, 7010: 6 to 11": (7010, 7220),
    "104B, 6920: abandoned": (6910, 6940),
    "104B, 11448: huge spike": (11448, 11448),
    "104B, 8741: spike": (8741, 8743),
    "104B, 9026: diverged": (9026, 9027),
    "104B, 17062: diverged": (17062, 17068),
    "176B, 31219: 30 steps": (31219, 31251),
}

# A causal window of 25 and k = 6, with nothing else: what every step-by-step alarm on the loss comes to.
BASELINE = {"preset": "none", "changes": {"spike": {"in_a_row": 1, "rise": 0.0}}}
SETS: dict[str, Mapping[str, object]] = {
    **{name: {"preset": name} for name in PRESETS if name != "none"},
    "median 25, k = 6": BASELINE,
}

Point = tuple[int, dict[str, float]]  # step, metrics
Run = tuple[str, Sequence[Point]]


@dataclass
class Said:
    """What the rules said of some runs."""

    steps: int = 0
    loud: int = 0  # steps at warning or worse
    alerts: list[Alert] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)  # of the alerts


def watched(config: Config, runs: Iterable[Run], points: int = 200) -> Iterator[list[Effect]]:
    """Send each run through the very engine of the daemon, `points` to a record, a second a step."""
    engine = engine_factory(config)(Partition(TOPIC, 0), 0)
    offset = 0
    for run, series in runs:
        for first in range(0, len(series), points):
            value = b"\n".join(
                json.dumps({"run": run, "step": step, "ts": T0 + 1000 * (first + i), "metrics": metrics}).encode()
                for i, (step, metrics) in enumerate(series[first : first + points])
            )
            headers = (("content-type", b"application/x-ndjson"),)
            yield engine.step(Envelope(TOPIC, 0, offset, T0 + 1000 * first, run.encode(), value, headers))
            offset += 1


def judged(rules: Mapping[str, object], runs: Sequence[Run]) -> Said:
    """All that some rules say of these runs."""
    said = Said(steps=sum(len(series) for _, series in runs))
    for effects in watched(Config.model_validate({"rules": rules, "policy": {"cooldown_seconds": 0}}), runs):
        for effect in effects:
            if isinstance(effect, RunJudged):
                said.loud += sum(severity >= Severity.WARNING for severity in effect.severities)
            elif isinstance(effect, Alert) and effect.status == "firing":
                said.alerts.append(effect)
                said.rules[effect.detector] += 1
    return said


def healthy_runs(data: Path) -> list[Run]:
    with gzip.open(data / "modded_nanogpt_train.csv.gz", "rt") as file:
        rows = csv.DictReader(file)
        return [
            (run, [(int(row["step"]), {"loss": float(row["train_loss"])}) for row in group])
            for run, group in groupby(rows, key=lambda row: row["run"])
        ]


def llmc_run(data: Path) -> list[Point]:
    with gzip.open(data / "llmc_gpt2_124M.csv.gz", "rt") as file:
        names = {"train_loss": "loss", "val_loss": "val/loss", "lr": "lr", "grad_norm": "grad_norm"}
        return [
            (int(row["step"]), {names[key]: float(row[key]) for key in names if row[key]})
            for row in csv.DictReader(file)
        ]


def chronicles(data: Path) -> list[Run]:
    """Excerpts by run: the lines of one file whose steps ascend without a hole."""
    runs: list[tuple[str, list[Point]]] = []
    before: dict[str, int] = defaultdict(int)
    with (data / "bigscience_chronicles.csv").open() as file:
        for row in csv.DictReader(file):
            step, name = int(float(row["iteration"])), row["file"]
            metrics = {key: float(row[column]) for key, column in _COLUMNS.items() if row[column]}
            if not runs or runs[-1][0].partition("#")[0] != name or not 0 < step - before[name] <= HOLE_STEPS:
                runs.append((f"{name}#{len(runs)}", []))
            before[name] = step
            runs[-1][1].append((step, metrics))
    return list(runs)


_COLUMNS = {"loss": "lm_loss", "grad_norm": "grad_norm", "loss_scale": "loss_scale", "lr": "lr"}


def table(data: Path) -> bool:
    """Print the table; whether the preset that everybody gets keeps its promise."""
    healthy, llmc, excerpts = healthy_runs(data), [("llm.c", llmc_run(data))], chronicles(data)
    sparse = [(run, series[::10]) for run, series in healthy]
    steps = sum(len(series) for _, series in healthy)
    print(f"\nTraining rules: {len(healthy)} healthy runs of {steps:,} steps; 8 events in BigScience's chronicles")
    print(f"{'':<20}{'alerts per 100,000 healthy steps':^38}{'events':>8}{'norm':>7}{'other':>7}")
    head = ("preset", "37 runs", "loud steps", "every 10th", "llm.c", "found", "first", "alerts")
    print(f"{head[0]:<20}{head[1]:>9}{head[2]:>11}{head[3]:>11}{head[4]:>7}{head[5]:>8}{head[6]:>7}{head[7]:>7}")
    good, ours = True, None
    for preset, rules in SETS.items():
        quiet, thin, single = judged(rules, healthy), judged(rules, sparse), judged(rules, llmc)
        events = judged(rules, excerpts)
        found = {event: [a for a in events.alerts if _is_of(a, span)] for event, span in EVENTS.items()}
        led = sum(_leads(alerts, EVENTS[event][0]) for event, alerts in found.items())
        elsewhere = [a for a in events.alerts if not any(_is_of(a, span) for span in EVENTS.values())]
        rate = len(quiet.alerts) * 1e5 / quiet.steps
        print(
            f"{preset:<20}{rate:>9.1f}{quiet.loud * 1e5 / quiet.steps:>11.1f}"
            f"{len(thin.alerts) * 1e5 / thin.steps:>11.1f}{len(single.alerts) * 1e5 / single.steps:>7.1f}"
            f"{sum(map(bool, found.values())):>6}/8{led:>7}{len(elsewhere):>7}"
        )
        if preset == "streamd":
            ours = found
            good &= rate <= WARNINGS_MAX and all(found.values())
    assert ours is not None
    print("\nthe preset streamd on the events (first alert of each):")
    for event, alerts in ours.items():
        print(f"  {event:<26}{alerts[0].summary.partition(': ')[2] if alerts else 'NOT FOUND'}")
    return power(healthy) and good


PLANTED_AT = 400  # a point of each healthy run after its first steep steps
PLANTED_STEPS = 60
POWER_MIN = 0.9  # of the planted faults, by the preset that everybody gets: 20 % is within the noise of three runs


def planted(fault: Callable[[int, float], float], runs: Sequence[Run]) -> list[Run]:
    """The runs up to `PLANTED_AT`, and then as many steps in which the loss is `fault(steps since then, loss)`."""
    faulty: list[Run] = []
    for run, series in runs:
        calm, rest = series[:PLANTED_AT], series[PLANTED_AT : PLANTED_AT + PLANTED_STEPS]
        bad = [(step, {"loss": fault(i, metrics["loss"])}) for i, (step, metrics) in enumerate(rest)]
        faulty.append((run, [*calm, *bad]))
    return faulty


# A fault of the loss alone, as a function of the steps since it began.
FAULTS: dict[str, Callable[[int, float], float]] = {
    "+20 % and stays": lambda i, loss: 1.2 * loss,
    "+2 % a step": lambda i, loss: (1 + 0.02 * i) * loss,
    "x2.5 for 10 steps": lambda i, loss: 2.5 * loss if i < 10 else loss,
    "halved and stays": lambda i, loss: 0.5 * loss,
    "NaN": lambda i, loss: math.nan,
}


def power(healthy: Sequence[Run]) -> bool:
    """What is found of faults that are planted into the healthy runs, and after how many steps (the median)."""
    print(
        f"\nFaults planted into the {len(healthy)} healthy runs at step {PLANTED_AT}: found, and after how many steps"
    )
    print(f"{'':<20}" + "".join(f"{name:>18}" for name in FAULTS))
    good = True
    for name, rules in SETS.items():
        cells = []
        for fault in FAULTS.values():
            runs = planted(fault, healthy)
            began = {run: series[PLANTED_AT][0] for run, series in runs}
            first: dict[str, int] = {}
            for alert in judged(rules, runs).alerts:
                if alert.step is not None and alert.step >= began[alert.stream]:
                    first.setdefault(alert.stream, alert.step - began[alert.stream])
            delay = f" ({sorted(first.values())[len(first) // 2]})" if first else ""
            cells.append(f"{len(first)}/{len(runs)}{delay}")
            good &= name != "streamd" or len(first) >= POWER_MIN * len(runs)
        print(f"{name:<20}" + "".join(f"{cell:>18}" for cell in cells))
    return good


def _is_of(alert: Alert, span: tuple[int, int]) -> bool:
    """From ten steps before the loss jumped to the end of the excerpt."""
    return alert.step is not None and span[0] - 10 <= alert.step <= span[1]


def _leads(alerts: list[Alert], jump: int) -> bool:
    return any(a.detector.startswith("grad_norm") and a.step is not None and a.step < jump for a in alerts)


if __name__ == "__main__":
    import os
    import sys

    folder = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
    sys.exit(0 if table(folder / "train_telemetry") else 1)
