"""Other detectors of drift on the inputs of the alarm budget: river and the textbook here, alibi-detect elsewhere.

    .venv-peers/bin/python tests/bench/peer_budget.py       writes peer_budget.json, which `make quality` prints: 10 min

alibi-detect's online detectors take an expected run time, which is a budget too; they are told the same one, and
begin anew after an alarm, as its documentation asks for.
"""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from budget_inputs import (
    CATEGORIES,
    CHANGE_BATCHES,
    CHANGES,
    COLUMNS,
    DAY_MS,
    INPUTS,
    LOOKED_BATCHES,
    ROWS,
    T0_MS,
    Codes,
    Floats,
    Series,
    changed_batches,
    found,
)
from scipy.special import kolmogorov
from scipy.stats import chi2

GOLDEN = Path(__file__).with_suffix(".json")
GAP_MS = 5 * 3_600_000  # all hours of the day come by in turn
MONTH_BATCHES = 30 * DAY_MS / GAP_MS


class Peer(Protocol):
    """Takes one batch; whether it alarms."""

    def update(self, values: Floats, codes: Codes | None) -> bool: ...


class RiverPeer:
    """One of river's detectors with its defaults on each column: on rows; KSWIN, at 0.7 ms a value, on batch means."""

    def __init__(self, name: str, columns: int) -> None:
        from river import drift

        more = {"seed": 0} if name == "KSWIN" else {}
        self._detectors = [getattr(drift, name)(**more) for _ in range(columns)]
        self._means = name == "KSWIN"

    def update(self, values: Floats, codes: Codes | None) -> bool:
        alarm = False
        seen = values.mean(axis=0, keepdims=True) if self._means else values
        for detector, column in zip(self._detectors, seen.T.tolist(), strict=True):
            for value in column:
                detector.update(value)
                alarm |= detector.drift_detected
        return alarm


class TextbookPeer:
    """Two-sample KS of each column and chi-squared of the category, p ≤ 0.05 after Bonferroni, with nothing else.

    The asymptotic p-values of scipy's `ks_2samp` and `chi2_contingency`, without their checks: those cost 1.7 ms.
    """

    def __init__(self, values: Floats, codes: Codes | None) -> None:
        self._sorted = np.sort(values, axis=0)
        self._counts = None if codes is None else np.bincount(codes, minlength=len(CATEGORIES))

    def update(self, values: Floats, codes: Codes | None) -> bool:
        p_values = [ks_p_value(a, np.sort(b)) for a, b in zip(self._sorted.T, values.T, strict=True)]
        if codes is not None and self._counts is not None:
            p_values.append(_chi2_p_value(self._counts, np.bincount(codes, minlength=len(CATEGORIES))))
        return bool(min(p_values) * len(p_values) <= 0.05)


def ks_p_value(a: Floats, b: Floats) -> float:
    """Of two sorted samples, as `scipy.stats.ks_2samp` with the limit of large samples (Hodges 1958)."""
    both = np.concatenate([a, b])
    distance = np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max()
    return float(kolmogorov(distance * np.sqrt(len(a) * len(b) / (len(a) + len(b)))))


def _chi2_p_value(reference: Codes, window: Codes) -> float:
    table = np.stack([reference, window])
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chi2.sf(((table - expected) ** 2 / expected).sum(), table.shape[1] - 1))


RIVER = ("ADWIN", "KSWIN", "PageHinkley")


def peers(values: Floats, codes: Codes | None) -> dict[str, Peer]:
    """All that run in this process, given a reference (rows, columns)."""
    return {**{name: RiverPeer(name, values.shape[1]) for name in RIVER}, "textbook": TextbookPeer(values, codes)}


# --- alibi-detect, under the peers' Python ----------------------------------------------------------

WINDOW = 20  # batch means that its windows hold
REFERENCE = 300  # healthy batch means that it is given
BATCHES = 2000
TRIALS = 10


def _alibi(name: str, reference: Floats, run_time: float) -> Any:
    from alibi_detect import cd

    if name == "CVM":
        return cd.CVMDriftOnline(reference, run_time, [WINDOW], n_bootstraps=5000, verbose=False)
    return cd.MMDDriftOnline(reference, run_time, WINDOW, backend="pytorch", n_bootstraps=300, verbose=False)


def _means(series: Series, times_ms: list[int]) -> Floats:
    return np.stack([series.batch(time_ms)[0].mean(axis=0) for time_ms in times_ms])


def _alarms(detector: Any, means: Floats) -> int:
    alarms = 0
    detector.reset_state()
    for mean in means:
        if detector.predict(mean)["data"]["is_drift"]:
            alarms += 1
            detector.reset_state()
    return alarms


def _delay(detector: Any, means: Floats, first_row: int) -> float | None:
    """Batches from the change to the first alarm after it."""
    detector.reset_state()
    for i, mean in enumerate(means):
        after = (i - WINDOW + 1) * ROWS - first_row
        if detector.predict(mean)["data"]["is_drift"]:
            if after > 0:
                return after / ROWS
            detector.reset_state()
    return None


def _golden(which: str, number: int, name: str) -> dict[str, Any]:
    """What one of its detectors does on one input: healthy, and after each change."""
    kind = INPUTS[name]
    series = Series(kind, [number, 77])
    times_ms = [T0_MS + i * GAP_MS for i in range(REFERENCE + BATCHES)]
    means = _means(series, times_ms)
    np.random.seed(number)  # what alibi-detect draws its bootstraps with
    detector = _alibi(which, means[:REFERENCE], MONTH_BATCHES)
    alarms = _alarms(detector, means[REFERENCE:])
    changes = {}
    length = WINDOW + CHANGE_BATCHES + LOOKED_BATCHES
    after_ms = [times_ms[-1] + (i + 1) * GAP_MS for i in range(length)]
    for turn, change in enumerate(CHANGES):
        delays = []
        for trial in range(TRIALS):
            seed = [number, turn, trial]
            first_row = int(np.random.default_rng(seed).integers(CHANGE_BATCHES * ROWS))
            batches = changed_batches(series.onward(seed), kind, change, WINDOW * ROWS + first_row, after_ms)
            delay = _delay(detector, np.stack([values.mean(axis=0) for values, _ in batches]), first_row)
            delays += [] if delay is None or delay > LOOKED_BATCHES else [delay]
        changes[change] = found(delays, TRIALS)
    return {"batches": BATCHES, "alarms": alarms, "changes": changes}


def main() -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    document: dict[str, Any] = {
        "what": f"alibi-detect's online detectors on batch means of {len(COLUMNS)} columns ({ROWS} rows, a batch every "
        f"5 h), expected run time 30 days, reference {REFERENCE} batches, window {WINDOW}",
        "version": version("alibi-detect"),
        "detectors": {},
    }
    for which in ("CVM", "MMD"):
        rows = document["detectors"][which] = {}
        for number, name in enumerate(INPUTS):
            started = time.perf_counter()
            rows[name] = _golden(which, number, name)
            print(f"{which} {name}: {rows[name]['alarms']} alarms, {time.perf_counter() - started:.0f} s", flush=True)
            GOLDEN.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
