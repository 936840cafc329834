"""What the alarm budget is tried with: an engine of the daemon, other policies that hear it, and what they said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import peer_budget
import pyarrow as pa
from budget_inputs import CATEGORIES, COLUMNS, DAY_MS, T0_MS, Codes, Floats, Series

from streamd.budget import START_MS, per_ms
from streamd.calibration import Calibration, advised, overrides, poisson_range
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
SPEAKING = 8  # judges that give p-values which can be small here: ks 2, chi2 2, entropy 3, zscore
REMEMBERED = 120  # by the detectors of these at most: `zscore` remembers 100, and so does KSWIN
REFERENCE_ROWS = 2000
SEASON_HOURS = 96  # of the reference where there is a season, 100 rows each
DEFAULT = PolicySettings()
Sent = tuple[str, int, Sequence[Any]]  # stream, event time, and what is sent
RATE = per_ms(DEFAULT.false_alarms or "")


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
        effects = self.engine.step(envelope, shown=False)  # readings are judged by nobody
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


Parts = list[tuple[int, tuple[Floats, Codes]]]  # times, and what is sent at them


def _send_reference(watch: Watch, stream: str, parts: Parts) -> None:
    for i, (time_ms, batch) in enumerate(parts):
        watch.send_made(stream, time_ms, *batch, role="reference", part=(i + 1, len(parts)))


@dataclass(frozen=True)
class Past:
    """A stream that was healthy for a while: as the daemon watches it by default, and with what `calibrate` proposes.

    Attributes:
        reference: its rows.
        last: the latest REMEMBERED batches.
        now_ms: when the next one is due.
    """

    watch: Watch
    calibrated: Watch
    reference: tuple[Floats, Codes]
    last: Parts
    now_ms: int


def healthy_past(stream: str, series: Series, season: bool, gap_ms: int, batches: int) -> Past:
    """A reference, then batches; thresholds are calibrated on these, and another engine is brought to the same place
    with them."""
    watch, calibration = Watch(configured("24h" if season else None)), Calibration()
    hours, rows = (SEASON_HOURS, 100) if season else (1, REFERENCE_ROWS)
    begun_ms = T0_MS + hours * HOUR_MS
    parts = [(time_ms, series.batch(time_ms, rows)) for time_ms in range(T0_MS, begun_ms, HOUR_MS)]
    _send_reference(watch, stream, parts)
    last: Parts = []
    for i in range(batches):
        last.append((begun_ms + i * gap_ms, series.batch(begun_ms + i * gap_ms)))
        del last[:-REMEMBERED]
        effects = watch.send_made(stream, last[-1][0], *last[-1][1])
        calibration.observe(effects, watch.config.policy.warning_p_value)
    advice, _ = advised(calibration.pasts[stream], watch.config.for_stream(stream))
    settings = {**watch.config.model_dump(exclude_unset=True), "streams": [overrides(stream, advice)]}
    calibrated = Watch(Config.model_validate(settings))
    _send_reference(calibrated, stream, parts)
    for time_ms, batch in last:
        calibrated.send_made(stream, time_ms, *batch)
    values, codes = (np.concatenate(each) for each in zip(*(batch for _, batch in parts), strict=True))
    return Past(watch, calibrated, (values, codes), last, begun_ms + batches * gap_ms)


def has_season() -> bool:
    return "season" in ReferenceSettings.model_fields


@dataclass
class Healthy:
    """What was said of one healthy input."""

    batches: int = 0
    span_ms: int = 0
    streams: int = 0
    ours: Counter[str] = field(default_factory=Counter)  # by test, with the budget
    unlimited: int = 0  # the same without a budget
    calibrated: Counter[str] | None = None  # by test, with the thresholds of `calibrate`
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
        alarms = self.ours.total()
        cells = [f"{self.judgements:>8,}{self.allowed:>8.1f}{f'{low} to {high}':>10}{alarms:>6}"]
        calibrated = "–" if self.calibrated is None else self.calibrated.total()
        cells.append(f"{calibrated:>7}{self.unlimited:>9}{self.p_alone.total():>9}")
        for peer in (*peer_budget.RIVER, "textbook"):
            month = 30 * DAY_MS / max(self.peer_span_ms, 1)
            cells.append(f"{self.peers[peer] * month:>12.1f}" if self.peer_span_ms else f"{'–':>12}")
        return f"{name:<30}" + "".join(cells)

    def holds(self) -> bool:
        """Whether the whole path is not above the interval, nor is it with the thresholds of `calibrate`."""
        return max(self.ours.total(), (self.calibrated or Counter()).total()) <= poisson_range(self.allowed)[1]


HEAD = (
    f"{'':<30}{'judged':>8}{'allowed':>8}{'95 %':>10}{'ours':>6}{'calib.':>7}{'no budg.':>9}{'p alone':>9}"
    f"{'ADWIN/30d':>12}{'KSWIN/30d':>12}{'PageH./30d':>12}{'textbk./30d':>12}"
)


BOUNDS = """\
ours, calib.: p-value and effect, with the default thresholds and with those of `streamd calibrate`: at most what is
allowed. no budg.: p <= 0.001 and effect: at most one in 1,000 judged. p alone: the budget's levels without effects: at
most what is allowed, and near it where p-values are exact; those that allow for dependence are larger than that."""


def _test(alert: Alert) -> str:
    return f"{alert.detector} {alert.kind.value} ({alert.test})"


def follow(result: Healthy, watch: Watch, batches: Iterable[Sent], made: bool, calibrated: Watch | None = None) -> None:
    """Send batches (stream, time, what to send) and count the incidents that begin."""
    ears: dict[str, tuple[Ear, Ear]] = {}
    is_open: tuple[set[tuple[str, ...]], ...] = (set(), set(), set(), set())
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
        if calibrated is not None:
            result.calibrated = result.calibrated or Counter()
            alerts = [e for e in calibrated.send_made(stream, time_ms, *batch) if isinstance(e, Alert)]
            result.calibrated.update(map(_test, opened(alerts, is_open[3])))
        result.batches += 1
    result.span_ms += sum(max(each) - min(each) for each in times.values())
    result.streams += len(times)
