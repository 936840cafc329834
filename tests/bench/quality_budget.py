"""What the alarm budget keeps: false alarms on healthy streams, and what is found of what goes wrong with them.

    make quality ARGS="budget"              some minutes        (ARGS="budget --full": 500 trials, an hour of a core)

All of ours goes through the very engine of the daemon, bytes in, effects out, with the default configuration; of the
detectors only `autoencoder`, which is trained for each stream, is left out of the made-up ones. It judges by the same
KS as `ks` does.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peer_budget
import quality_budget_real
from budget_inputs import (
    CHANGE_BATCHES,
    CHANGES,
    INPUTS,
    LOOKED_BATCHES,
    ROWS,
    Input,
    Series,
    changed_batches,
    found,
)
from budget_watch import (
    BOUNDS,
    DEFAULT,
    HEAD,
    Ear,
    Healthy,
    Past,
    Sent,
    follow,
    has_season,
    healthy_past,
    judged,
)

from streamd.model import Alert

GAP_MS = peer_budget.GAP_MS  # between two batches, where false alarms are counted
FAST_MS = 60_000  # where delays are: levels are 300 times smaller
OURS = ("budget", "without", "calibrated")  # by default, the same without a budget, with the thresholds of `calibrate`


@dataclass(frozen=True)
class Sizes:
    """How much is tried."""

    batches: int = 4000  # of each healthy input; eight tests judge each: 30,000 judgements
    streams: int = 10  # that share them: a reference is a matter of chance too, and all of a stream's windows see it
    past: int = 500  # healthy batches before all that, which thresholds are calibrated on
    peer_batches: int = 500
    trials: int = 10  # of each change in each input
    peer_trials: int = 10  # of those, with the peers beside
    warm: int = 2  # streams that the trials begin with


FULL = Sizes(trials=500, peer_trials=50, warm=10)
TINY = Sizes(batches=80, streams=2, past=60, peer_batches=20, trials=1, peer_trials=1, warm=1)
SIZES = {"default": Sizes(), "full": FULL, "tiny": TINY}


# --- Healthy: false alarms --------------------------------------------------------------------------


def healthy_made(name: str, number: int, sizes: Sizes, season: bool) -> Healthy:
    """One made-up input."""
    result, kind = Healthy(), INPUTS[name]
    for i in range(sizes.streams):
        series = Series(kind, [number, i])
        past = healthy_past(f"s{i}", series, season, GAP_MS, sizes.past)
        others = peer_budget.peers(*past.reference)

        def batches(
            series: Series = series, stream: str = f"s{i}", others: Any = others, start_ms: int = past.now_ms
        ) -> Iterator[Sent]:
            for j in range(sizes.batches // sizes.streams):
                time_ms = start_ms + j * GAP_MS
                batch = series.batch(time_ms)
                if j < sizes.peer_batches // sizes.streams:
                    result.peers.update(peer for peer, each in others.items() if each.update(*batch))
                yield stream, time_ms, batch

        follow(result, past.watch, batches(), made=True, calibrated=past.calibrated)
        result.peer_span_ms += sizes.peer_batches // sizes.streams * GAP_MS
    return result


def healthy_inputs(sizes: Sizes) -> bool:
    """Table 1; whether the whole path is nowhere above the budget."""
    print(
        f"\nFalse alarms on healthy streams, budget {DEFAULT.false_alarms} a stream: {sizes.batches:,} batches of "
        f"{ROWS:,} rows on {sizes.streams} streams, one every 5 h; peers on {sizes.peer_batches:,} of them\n{HEAD}"
    )
    good = True
    for number, name in enumerate(INPUTS):
        seasonal = INPUTS[name].sine > 0
        for season in (False, True) if seasonal else (False,):
            label = f"{name}{', season: 24h' if season else ''}".replace("daily ", "")
            if season and not has_season():
                print(f"{label:<30} left out: there is no `reference.season` yet")
                continue
            result = healthy_made(name, number, sizes, season)
            promised = season or not seasonal  # without the option a daily sine is a change, every day
            good &= result.holds() or not promised
            said = "" if result.holds() else f"  ABOVE {dict(result.ours)} {dict(result.calibrated or {})}"
            said += "" if promised else ", a season that nobody named: nothing is promised"
            print(result.line(label) + said, flush=True)
    print(BOUNDS)
    _print_golden()
    return good


def _golden() -> dict[str, Any]:
    file = peer_budget.GOLDEN
    return json.loads(file.read_text()) if file.exists() else {"detectors": {}}


def _print_golden() -> None:
    golden = _golden()
    if not golden["detectors"]:
        return
    print(f"alarms per 30 d of {golden['what']}; recorded with alibi-detect {golden['version']}:")
    for which, rows in golden["detectors"].items():
        month = peer_budget.MONTH_BATCHES
        print(
            f"  {which}: "
            + ", ".join(f"{name} {row['alarms'] * month / row['batches']:.1f}" for name, row in rows.items())
        )


# --- What goes wrong --------------------------------------------------------------------------------


@dataclass
class Warm:
    """A stream from which trials begin, and its peers."""

    past: Past
    series: Series
    peers: dict[str, peer_budget.Peer]

    @classmethod
    def of(cls, name: str, number: int, which: int, batches: int) -> Warm:
        kind = INPUTS[name]
        series = Series(kind, [number, which, 5])
        past = healthy_past("s", series, kind.sine > 0 and has_season(), FAST_MS, batches)
        others = peer_budget.peers(*past.reference)
        for _, batch in past.last:
            for peer in others.values():
                peer.update(*batch)
        return cls(past, series, others)


def trial(
    warm: Warm, kind: Input, change: str, seed: list[int], with_peers: bool
) -> tuple[dict[str, float], dict[str, str]]:
    """Who found the change, and after how many batches; the first of our detectors that did."""
    first_row = int(np.random.default_rng(seed).integers(CHANGE_BATCHES * ROWS))
    times_ms = [warm.past.now_ms + i * FAST_MS for i in range(CHANGE_BATCHES + LOOKED_BATCHES)]
    batches = changed_batches(warm.series.onward(seed), kind, change, first_row, times_ms)
    ours = {"budget": warm.past.watch.branch(), "calibrated": warm.past.calibrated.branch()}
    others = copy.deepcopy(warm.peers) if with_peers else {}
    unlimited = Ear(DEFAULT.model_copy(update={"false_alarms": None}))
    waiting = {*OURS, *others}
    delays: dict[str, float] = {}
    detectors: dict[str, str] = {}
    for i, (time_ms, batch) in enumerate(zip(times_ms, batches, strict=True)):
        after = ((i + 1) * ROWS - first_row) / ROWS
        said: set[str] = set()
        for name, watch in ours.items():
            if not waiting & ({"budget", "without"} if name == "budget" else {name}):
                continue
            effects = watch.send_made("s", time_ms, *batch)
            alerts = [e for e in effects if isinstance(e, Alert) and e.status == "firing"]
            if alerts:
                said |= {name}
                if after > 0:
                    detectors.setdefault(name, f"{alerts[0].detector} {alerts[0].test}")
            if name == "budget":
                heard = [a for each in judged(effects) for a in unlimited.hear(each, watch.occasion("s", time_ms))]
                said |= {"without"} if alerts or any(a.status == "firing" for a in heard) else set()
        said |= {name for name, peer in others.items() if name in waiting and peer.update(*batch)}
        if 0 < after <= LOOKED_BATCHES:
            delays |= dict.fromkeys(said & waiting, after)
            waiting -= said
        if not waiting or after > LOOKED_BATCHES:
            break
    return delays, detectors


def changes(sizes: Sizes) -> None:
    """Table 3."""
    who = (*OURS, *peer_budget.RIVER, "textbook")
    print(
        f"\nChanges at a random row, {sizes.trials} of each ({sizes.peer_trials} for peers), {ROWS:,} rows a minute: "
        f"share found within {LOOKED_BATCHES} batches, median and 90 % of the delay in batches\n"
        f"{'':<25}{'':<19}" + "".join(f"{name:>17}" for name in who) + "  calibrated: first found by"
    )
    golden = _golden()["detectors"]
    for number, (name, kind) in enumerate(INPUTS.items()):
        starts = [Warm.of(name, number, which, sizes.past) for which in range(sizes.warm)]
        for turn, change in enumerate(CHANGES):
            delays: dict[str, list[float]] = {each: [] for each in who}
            first: Counter[str] = Counter()
            for i in range(sizes.trials):
                seed = [number, turn, i]
                one, detectors = trial(starts[i % len(starts)], kind, change, seed, i < sizes.peer_trials)
                for each, delay in one.items():
                    delays[each].append(delay)
                first.update(detector for each, detector in detectors.items() if each == "calibrated")
            tried = {each: sizes.trials if each in OURS else sizes.peer_trials for each in who}
            cells = "".join(f"{_found(found(delays[each], tried[each])):>17}" for each in who)
            words = ", ".join(f"{detector} {count}" for detector, count in first.most_common(3))
            print(f"{name:<25}{change:<19}{cells}  {words}", flush=True)
    for which, rows in golden.items():
        print(f"alibi-detect {which}, recorded, {peer_budget.TRIALS} of each, a batch every 5 h:")
        for name, row in rows.items():
            print(f"  {name:<25}" + "; ".join(f"{change} {_found(row['changes'][change])}" for change in CHANGES))


def _found(cell: dict[str, Any]) -> str:
    if cell["median"] is None:
        return "0 %"
    return f"{cell['found']:.0%} {cell['median']:.1f}/{cell['p90']:.1f}".replace("%", " %")


def table(data: Path, sizes: Sizes) -> bool:
    """Print all three; whether the budget held where it is promised."""
    held = healthy_inputs(sizes)
    changes(sizes)
    return quality_budget_real.table(data, 24 if sizes is TINY else None) and held
