"""What the alarm budget keeps: false alarms on healthy streams, and what is found of what goes wrong with them.

    make quality ARGS="budget"              some minutes        (ARGS="budget --full": the sizes of a release, hours)

All of ours goes through the very engine of the daemon, bytes in, effects out, with the default configuration; of the
detectors only `autoencoder`, which is trained for each stream, is left out of the made-up ones. It judges by the same
KS as `ks` does.
"""

from __future__ import annotations

import copy
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import peer_budget
import pyarrow as pa
import quality_training
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
    Input,
    Series,
    changed_batches,
    found,
)

from streamd.budget import START_MS, per_ms
from streamd.calibration import poisson_range
from streamd.codec.encode import encode_features
from streamd.config import Config
from streamd.engine import PartitionEngine
from streamd.engine_settings import ReferenceSettings
from streamd.fitting import fit
from streamd.incidents import Occasion
from streamd.model import Alert, BatchJudged, Effect, Envelope, Verdict
from streamd.policy import Policy, PolicySettings
from streamd.transport.base import Partition
from streamd.wiring import engine_factory

TOPIC = "streamd.features"
HOUR_MS = 3_600_000
GAP_MS = peer_budget.GAP_MS  # between two batches, where false alarms are counted
FAST_MS = 60_000  # where delays are: levels are 300 times smaller
SPEAKING = 7  # judges that give p-values which can be small here: ks 2, chi2, entropy 3, zscore
REFERENCE_ROWS = 2000
SEASON_HOURS = 96  # of the reference where there is a season, 100 rows each
WARM_BATCHES = 120  # before a change: `zscore` remembers 100, and so does KSWIN
DEFAULT = PolicySettings()
Sent = tuple[str, int, Sequence[Any]]  # stream, event time, and what is sent
RATE = per_ms(DEFAULT.false_alarms or "")


@dataclass(frozen=True)
class Sizes:
    """How much is tried."""

    batches: int = 4000  # of each healthy input; each is judged by eight tests
    streams: int = 10  # that share them: a reference is a matter of chance too, and all of a stream's windows see it
    peer_batches: int = 1000
    trials: int = 10  # of each change in each input
    warm: int = 2  # streams that the trials begin with


FULL = Sizes(batches=20_000, streams=50, peer_batches=4000, trials=500, warm=10)
TINY = Sizes(batches=80, streams=2, peer_batches=20, trials=1, warm=1)
SIZES = {"default": Sizes(), "full": FULL, "tiny": TINY}


class Ear:
    """Another policy that hears the verdicts which the engine graded.

    Args:
        settings: its own.
        judges: that share its budget.
        effects: whether an effect must be over its threshold; else the p-value alone decides.
    """

    def __init__(self, settings: PolicySettings, judges: int = 1, effects: bool = True) -> None:
        self._policy = Policy(settings, judges)
        self._effects = effects

    def hear(self, judged: BatchJudged, occasion: Occasion) -> list[Alert]:
        self._policy.advance(judged.event_time_ms)
        told: list[object] = []
        for verdict in judged.outcomes:
            if not isinstance(verdict, Verdict) or verdict.adjusted is None:
                continue
            if not self._effects:
                if verdict.detector == "quality":
                    continue
                verdict = replace(verdict, effect_threshold=-1.0)
            told += self._policy.grade(verdict, occasion)[1]
        return [each for each in told if isinstance(each, Alert)]


def opened(alerts: Iterable[Alert], is_open: set[tuple[str, ...]]) -> list[Alert]:
    """Those that begin an incident and rest on a p-value; `is_open` remembers which there are."""
    began = []
    for alert in alerts:
        key = (alert.stream, alert.detector, alert.kind.value, alert.test)
        if alert.status == "resolved":
            is_open.discard(key)
        elif key not in is_open:
            is_open.add(key)
            began += [alert] if alert.p_value is not None else []
    return began


@dataclass
class Watch:
    """An engine of the daemon, and who else hears what it judges."""

    config: Config
    engine: PartitionEngine = field(init=False)
    offset: int = 0

    def __post_init__(self) -> None:
        self.factory = engine_factory(self.config)
        self.engine = self.factory(Partition(TOPIC, 0), 0)

    def send(self, stream: str, time_ms: int, features: Any, logits: Floats | None = None, **more: Any) -> list[Effect]:
        """Send one batch, and train what is to be trained."""
        value, headers = encode_features(stream, features, logits=logits, ts_ms=time_ms, format="arrow", **more)
        envelope = Envelope(TOPIC, 0, self.offset, time_ms, stream.encode(), value, tuple(headers))
        self.offset += 1
        effects = self.engine.step(envelope)
        while (job := self.engine.fit_wanted) is not None:
            effects += self.engine.fitted(fit(job.config, job.reference))
        return effects

    def send_made(self, stream: str, time_ms: int, values: Floats, codes: Codes, **more: Any) -> list[Effect]:
        """A made-up batch: its columns, its category, and the predictions of a model on two of the columns."""
        columns: dict[str, Any] = dict(zip(COLUMNS, np.ascontiguousarray(values.T), strict=True))
        columns["category"] = pa.array(CATEGORIES[codes])
        logits = np.column_stack([values[:, 0], values[:, 1], np.zeros(len(values))])
        return self.send(stream, time_ms, pa.table(columns), logits, **more)

    def occasion(self, stream: str, time_ms: int) -> Occasion:
        return Occasion(stream, TOPIC, 0, self.offset, time_ms, time_ms)

    def branch(self) -> Watch:
        """Another engine that goes on from here; what was prepared from the references is shared."""
        other = Watch.__new__(Watch)
        other.config, other.factory, other.offset = self.config, self.factory, self.offset
        other.engine = self.factory(Partition(TOPIC, 0), 0)
        other.engine.restore(self.engine.snapshot(), self.engine.kept())
        return other


def judged(effects: Iterable[Effect]) -> Iterator[BatchJudged]:
    return (effect for effect in effects if isinstance(effect, BatchJudged))


def configured(season: str | None = None) -> Config:
    """The defaults but for `autoencoder`."""
    reference = {} if season is None else {"season": season}
    return Config.model_validate({"detectors": {"autoencoder": None}, "reference": reference})


def begin(watch: Watch, stream: str, series: Series, season: bool) -> tuple[Floats, Codes, int]:
    """Send the reference: its rows, and the time from which batches may follow."""
    hours = SEASON_HOURS if season else 1
    rows = 100 if season else REFERENCE_ROWS
    sent = []
    for hour in range(hours):
        batch = series.batch(T0_MS + hour * HOUR_MS, rows)
        sent.append(batch)
        watch.send_made(stream, T0_MS + hour * HOUR_MS, *batch, role="reference", part=(hour + 1, hours))
    values, codes = (np.concatenate(each) for each in zip(*sent, strict=True))
    return values, codes, T0_MS + hours * HOUR_MS


# --- Healthy: false alarms --------------------------------------------------------------------------


@dataclass
class Healthy:
    """What was said of one healthy input."""

    batches: int = 0
    span_ms: int = 0
    streams: int = 0
    ours: Counter[str] = field(default_factory=Counter)  # by test, with the budget
    unlimited: int = 0  # the same without a budget
    p_alone: Counter[str] = field(default_factory=Counter)  # by test: the budget and no effects
    judgements: int = 0
    peers: Counter[str] = field(default_factory=Counter)
    peer_span_ms: int = 0

    @property
    def allowed(self) -> float:
        """False alarms that the budget allows."""
        return RATE * (self.span_ms + self.streams * START_MS)

    def line(self, name: str) -> str:
        low, high = poisson_range(self.allowed)
        alarms = sum(self.ours.values())
        cells = [f"{self.judgements:>8,}{self.allowed:>8.1f}{f'{low} to {high}':>10}{alarms:>6}"]
        cells.append(f"{self.unlimited:>9}{self.p_alone.total():>9}")
        month = 30 * DAY_MS / max(self.peer_span_ms, 1)
        cells += [f"{self.peers[peer] * month:>12.1f}" for peer in (*peer_budget.RIVER, "textbook")]
        return f"{name:<30}" + "".join(cells)

    def holds(self) -> bool:
        """Whether the whole path is not above the interval."""
        return sum(self.ours.values()) <= poisson_range(self.allowed)[1]


HEAD = (
    f"{'':<30}{'judged':>8}{'allowed':>8}{'95 %':>10}{'ours':>6}{'no budg.':>9}{'p alone':>9}"
    f"{'ADWIN/30d':>12}{'KSWIN/30d':>12}{'PageH./30d':>12}{'textbk./30d':>12}"
)


def _test(alert: Alert) -> str:
    return f"{alert.detector} {alert.kind.value} ({alert.test})"


def follow(result: Healthy, watch: Watch, batches: Iterable[Sent], made: bool) -> None:
    """Send batches (stream, time, what to send) and count the incidents that begin."""
    ears: dict[str, tuple[Ear, Ear]] = {}
    is_open: tuple[set[tuple[str, ...]], ...] = (set(), set(), set())
    times: dict[str, list[int]] = {}
    for stream, time_ms, batch in batches:
        effects = watch.send_made(stream, time_ms, *batch) if made else watch.send(stream, time_ms, *batch)
        times.setdefault(stream, [time_ms]).append(time_ms)
        unlimited, p_alone = ears.setdefault(
            stream, (Ear(DEFAULT.model_copy(update={"false_alarms": None})), Ear(DEFAULT, SPEAKING, effects=False))
        )
        alerts = [effect for effect in effects if isinstance(effect, Alert)]
        result.ours.update(map(_test, opened(alerts, is_open[0])))
        occasion = watch.occasion(stream, time_ms)
        for batch_judged in judged(effects):
            paid = [v for v in batch_judged.outcomes if isinstance(v, Verdict) and v.adjusted is not None]
            result.judgements += len(paid)
            result.unlimited += len(opened(unlimited.hear(batch_judged, occasion), is_open[1]))
            result.p_alone.update(map(_test, opened(p_alone.hear(batch_judged, occasion), is_open[2])))
        result.batches += 1
    result.span_ms += sum(max(each) - min(each) for each in times.values())
    result.streams += len(times)


def healthy_made(name: str, number: int, sizes: Sizes, season: bool) -> Healthy:
    """One made-up input."""
    result, kind = Healthy(), INPUTS[name]
    watch = Watch(configured("24h" if season else None))
    for i in range(sizes.streams):
        series = Series(kind, [number, i])
        values, codes, start_ms = begin(watch, f"s{i}", series, season)
        others = peer_budget.peers(values, codes)

        def batches(
            series: Series = series, stream: str = f"s{i}", others: Any = others, start_ms: int = start_ms
        ) -> Iterator[Sent]:
            for j in range(sizes.batches // sizes.streams):
                time_ms = start_ms + j * GAP_MS
                batch = series.batch(time_ms)
                if j < sizes.peer_batches // sizes.streams:
                    result.peers.update(peer for peer, each in others.items() if each.update(*batch))
                yield stream, time_ms, batch

        follow(result, watch, batches(), made=True)
        result.peer_span_ms += sizes.peer_batches // sizes.streams * GAP_MS
    return result


def has_season() -> bool:
    return "season" in ReferenceSettings.model_fields


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
            print(result.line(label) + ("" if result.holds() else f"  ABOVE {dict(result.ours)}"), flush=True)
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


# --- Healthy and real -------------------------------------------------------------------------------


def elec2(data: Path, season: str | None) -> tuple[Config, list[Sent]]:
    """New South Wales before Victoria joined its market: 17,424 half hours."""
    table = np.genfromtxt(data / "elec2/elec.csv", delimiter=",", skip_header=1)[: 363 * 48]
    return _config(season), _hours(table[:, 1:3], ("price", "demand"), 831_427_200_000)


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
    sent = _hours(values, ("rides",), int(rows[0][0].timestamp() * 1000))
    return _config(season), [each for i, each in enumerate(sent) if calm[2 * i]]


def _config(season: str | None) -> Config:
    rows = 4000 if season == "7d" else REFERENCE_ROWS  # 20 for each hour of the week
    return Config.model_validate({"reference": {"first_rows": rows} | ({} if season is None else {"season": season})})


def _hours(values: Floats, names: tuple[str, ...], start_ms: int) -> list[Sent]:
    """Half hours as batches of one hour: a batch has one time, and one phase of a season."""
    return [
        ("s", start_ms + first * HOUR_MS // 2, [pa.table(dict(zip(names, values[first : first + 2].T, strict=True)))])
        for first in range(0, len(values), 2)
    ]


def census(data: Path) -> tuple[Config, list[Sent]]:
    """The quiet windows of the census employment model, one an hour."""
    import quality

    batches: list[Sent] = []
    analysis, probabilities = quality.read_census(data, "analysis")
    for first in range(0, analysis.num_rows, ROWS):
        if first < quality.EVENT.stop and first + ROWS > quality.EVENT.start:
            continue
        part = slice(first, first + ROWS)
        batches.append(
            ("s", T0_MS + len(batches) * HOUR_MS, [analysis.slice(first, ROWS), np.log(probabilities[part])])
        )
    return Config(), batches


def real_streams(data: Path, sizes: Sizes) -> bool:
    """Table 2; whether it holds where we promise it."""
    print(f"\nReal healthy data, budget {DEFAULT.false_alarms}, shipped detectors\n{HEAD}")
    seasons = (None, "24h", "7d") if has_season() else (None,)
    good = True
    limit = 24 if sizes is TINY else None
    for name, build in (("Elec2 before May 1997", elec2), ("NAB nyc_taxi, calm", taxi)):
        for season in seasons:
            config, batches = build(data, season)
            result = Healthy()
            follow(result, Watch(config), islice(batches, limit), made=False)
            _real_peers(result, batches[:limit], REFERENCE_ROWS)
            print(result.line(f"{name}{'' if season is None else f', {season}'}") + _said(result), flush=True)
    config, batches = census(data)
    watch, result = Watch(config), Healthy()
    import quality

    reference, probabilities = quality.read_census(data, "reference")
    parts = -(-reference.num_rows // 10_000)
    for i in range(parts if limit is None else 1):
        rows = slice(i * 10_000, (i + 1) * 10_000)
        part = (i + 1, parts if limit is None else 1)
        watch.send(
            "s", T0_MS, reference.slice(rows.start, 10_000), np.log(probabilities[rows]), role="reference", part=part
        )
    follow(result, watch, batches[:limit], made=False)
    good &= result.holds()
    print(result.line("census, quiet windows") + _said(result))
    return good & _training(data, limit)


def _said(result: Healthy) -> str:
    return f"  {dict(result.ours)}" if result.ours else ""


def _real_peers(result: Healthy, batches: Sequence[Sent], reference_rows: int) -> None:
    """The peers on windows of a day of the same rows; the first ones are the textbook's reference."""
    table = np.concatenate([np.column_stack([c.to_numpy() for c in sent[0].columns]) for _, _, sent in batches])
    if len(table) <= reference_rows:
        return
    others = peer_budget.peers(table[:reference_rows], None)
    for first in range(reference_rows, len(table) - 47, 48):
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


# --- What goes wrong --------------------------------------------------------------------------------


@dataclass
class Warm:
    """A stream that was healthy for a while, from which trials begin."""

    watch: Watch
    series: Series
    peers: dict[str, peer_budget.Peer]
    now_ms: int

    @classmethod
    def of(cls, name: str, number: int, which: int) -> Warm:
        kind = INPUTS[name]
        season = kind.sine > 0 and has_season()
        watch, series = Watch(configured("24h" if season else None)), Series(kind, [number, which, 5])
        values, codes, now_ms = begin(watch, "s", series, season)
        others = peer_budget.peers(values, codes)
        for _ in range(WARM_BATCHES):
            batch = series.batch(now_ms)
            watch.send_made("s", now_ms, *batch)
            for peer in others.values():
                peer.update(*batch)
            now_ms += FAST_MS
        return cls(watch, series, others, now_ms)


def trial(warm: Warm, kind: Input, change: str, seed: list[int]) -> tuple[dict[str, float], str]:
    """Who found the change, and after how many batches; the first of our detectors that did."""
    first_row = int(np.random.default_rng(seed).integers(CHANGE_BATCHES * ROWS))
    times_ms = [warm.now_ms + i * FAST_MS for i in range(CHANGE_BATCHES + LOOKED_BATCHES)]
    batches = changed_batches(warm.series.onward(seed), kind, change, first_row, times_ms)
    watch, others = warm.watch.branch(), copy.deepcopy(warm.peers)
    unlimited = Ear(DEFAULT.model_copy(update={"false_alarms": None}))
    waiting = {"budget", "without", *others}
    delays: dict[str, float] = {}
    detector = ""
    for i, (time_ms, batch) in enumerate(zip(times_ms, batches, strict=True)):
        after = ((i + 1) * ROWS - first_row) / ROWS
        said: set[str] = set()
        if waiting & {"budget", "without"}:
            effects = watch.send_made("s", time_ms, *batch)
            alerts = [e for e in effects if isinstance(e, Alert) and e.status == "firing"]
            heard = [a for each in judged(effects) for a in unlimited.hear(each, watch.occasion("s", time_ms))]
            said |= {"budget"} if alerts else set()
            said |= {"without"} if alerts or any(a.status == "firing" for a in heard) else set()
            if alerts and after > 0:
                detector = detector or alerts[0].detector
        said |= {name for name, peer in others.items() if name in waiting and peer.update(*batch)}
        if 0 < after <= LOOKED_BATCHES:
            delays |= dict.fromkeys(said & waiting, after)
            waiting -= said
        if not waiting or after > LOOKED_BATCHES:
            break
    return delays, detector


def changes(sizes: Sizes) -> None:
    """Table 3."""
    who = ("budget", "without", *peer_budget.RIVER, "textbook")
    print(
        f"\nChanges at a random row, {sizes.trials} of each (a release: {FULL.trials}), {ROWS:,} rows a minute: "
        f"share found within {LOOKED_BATCHES} batches, median and 90 % of the delay in batches\n"
        f"{'':<25}{'':<19}" + "".join(f"{name:>17}" for name in who) + "  first found by"
    )
    golden = _golden()["detectors"]
    for number, (name, kind) in enumerate(INPUTS.items()):
        starts = [Warm.of(name, number, which) for which in range(sizes.warm)]
        for turn, change in enumerate(CHANGES):
            delays: dict[str, list[float]] = {each: [] for each in who}
            first: Counter[str] = Counter()
            for i in range(sizes.trials):
                one, detector = trial(starts[i % len(starts)], kind, change, [number, turn, i])
                for each, delay in one.items():
                    delays[each].append(delay)
                first.update([detector] if detector else [])
            cells = "".join(f"{_found(found(delays[each], sizes.trials)):>17}" for each in who)
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
    return real_streams(data, sizes) and held
