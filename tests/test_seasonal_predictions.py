"""With a season, what the model says is compared with what it said at the same hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hours
import numpy as np
import pytest
from envelopes import T0
from hours import ROWS, engine, fired, hourly, references, run, verdicts
from scipy.stats import entropy as entropy_of

from streamd.detectors.base import Reference
from streamd.detectors.cardinality import CardinalityConfig
from streamd.detectors.entropy import EntropyConfig
from streamd.detectors.ks import KsConfig
from streamd.detectors.river import RiverConfig
from streamd.kept import Kept
from streamd.model import FeatureBatch, Keep
from streamd.seasons import HOUR_MS, ByPhase, LikeWithLike, phases_of
from streamd.state import pack, unpack
from streamd.table import Predictions, Table

WHICH = {"ks": KsConfig(window_rows=200), "entropy": EntropyConfig.model_validate({"judge": {"window_rows": 200}})}
Z = np.random.Generator


def sure_by_day(hour: int, rng: Z, times: float = 1.0) -> Mapping[str, Any]:
    """By night the model hardly knows, by day it does."""
    day = 1.0 + np.sin(2 * np.pi * hour / 24)
    return {"logits": times * (0.5 + 3.0 * day) * rng.normal(size=(ROWS, 3))}


def half_as_sure(hour: int, rng: Z) -> Mapping[str, Any]:
    return sure_by_day(hour, rng, 0.5)


def certain_by_day(hour: int, rng: Z) -> Mapping[str, Any]:
    """By day more rows have one certain class and no entropy at all: equal values, more by day than by night."""
    logits = rng.normal(size=(ROWS, 3))
    logits[rng.uniform(size=ROWS) < 0.5 + 0.4 * np.sin(2 * np.pi * hour / 24)] = [800.0, 0.0, 0.0]
    return {"logits": logits}


def certain_by_night(hour: int, rng: Z) -> Mapping[str, Any]:
    return certain_by_day(hour + 12, rng)


def one_class_by_night(hour: int, rng: Z) -> Mapping[str, Any]:
    logits = rng.normal(size=(ROWS, 3))
    logits[:, 0] += 30.0 * (hour % 24 >= 12)
    return {"logits": logits}


def one_class_always(hour: int, rng: Z) -> Mapping[str, Any]:
    return one_class_by_night(12, rng)


def rounded(hour: int, rng: Z) -> Mapping[str, Any]:
    """Probabilities with one digit: few values, which many rows share."""
    p = np.clip(0.5 + 0.3 * np.sin(2 * np.pi * hour / 24) + 0.1 * rng.normal(size=ROWS), 0, 1).round(1)
    return {"probabilities": np.stack([1 - p, p], axis=1)}


def rounded_the_other_way(hour: int, rng: Z) -> Mapping[str, Any]:
    return rounded(hour + 12, rng)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("healthy", "changed"),
    [
        (sure_by_day, half_as_sure),
        (certain_by_day, certain_by_night),
        (one_class_by_night, one_class_always),
        (rounded, rounded_the_other_way),
    ],
)
def test_a_daily_pattern_of_predictions_is_no_alarm_and_a_change_against_its_own_hour_is(
    healthy: hours.Make, changed: hours.Make
) -> None:
    plain, seasonal = engine(WHICH, None), engine(WHICH, "24h")
    effects = run(seasonal, hourly(healthy, 24 * 10))
    assert fired(effects) == set()
    assert references(effects) == ["4900 rows from its own first rows; season 24h"]
    assert len({(v.detector, v.test) for v in verdicts(effects)}) == 4
    found = fired(run(seasonal, hourly(changed, 24, first=24 * 10)))
    assert "ks" in {detector for detector, _ in found}
    if healthy is not rounded:  # of that, without a season, the tests see dependence, and are quiet
        assert fired(run(plain, hourly(healthy, 24 * 10))) != set()
        assert {detector for detector, _ in found} == {"ks", "entropy"}


@pytest.mark.slow
def test_a_collapse_by_day_of_what_has_one_class_by_night_is_named() -> None:
    watch = engine(WHICH, "24h")
    run(watch, hourly(one_class_by_night, 24 * 8))
    effects = run(watch, hourly(one_class_always, 6, first=24 * 8))
    assert ("entropy", "binomial") in fired(effects)
    collapsed = [v for v in verdicts(effects) if v.test == "binomial"]
    assert collapsed[0].finding.startswith("the model collapsed to one class: 1 of 100 predictions are class 0 (0.3")


def reference_of(days: int = 4, rows: int = 40) -> tuple[Reference, Table, np.ndarray]:
    """A reference by phase; its logits' entropies by scipy."""
    hour, rng = np.repeat(np.arange(24 * days), rows), np.random.default_rng(0)
    logits = (1.0 + 3.0 * (hour % 24 < 12))[:, None] * rng.normal(size=(len(hour), 3))
    logits[hour % 24 == 3] += [20.0, 0.0, 0.0]
    table = Table(len(hour), predictions=Predictions("logits", logits), times_ms=T0 + hour * HOUR_MS)
    phases = phases_of(T0 + hour * HOUR_MS, "24h")
    odds = np.exp(logits)
    entropies = np.asarray(entropy_of(odds / odds.sum(axis=1, keepdims=True), axis=1))
    return Reference(table, "x", "batches", phases, np.bincount(phases)), table, entropies


def test_entropies_are_told_as_the_share_of_their_own_hour_that_lies_below() -> None:
    """A brute-force loop over the rows of the hour, and numpy's quantile of all rows."""
    reference, _, entropies = reference_of()
    profile = EntropyConfig().profile(reference)
    assert profile is not None
    assert profile.season is not None
    phases = reference.phases
    assert phases is not None
    for phase in (0, 3, 15):
        own = entropies[phases == phase]
        told = profile.season(own, phase, 0)
        for value, got in zip(own, told, strict=True):
            share = (np.count_nonzero(own < value) + 0.5) / len(own)
            assert got == pytest.approx(np.quantile(entropies, share), abs=0.02)
    everything = profile.season.told(entropies, phases)
    assert profile.scale == pytest.approx(everything.std(ddof=1))
    assert profile.judge.phase_rows is not None
    assert profile.judge.phase_rows.tolist() == [160] * 24


def test_a_class_is_as_common_as_it_is_among_the_reference_rows_of_the_same_hours() -> None:
    reference, table, _ = reference_of()
    profile = EntropyConfig().profile(reference)
    assert profile is not None
    assert table.predictions is not None
    assert reference.phases is not None
    winners = table.predictions.values.argmax(axis=1)
    share_at = {phase: float((winners[reference.phases == phase] == 0).mean()) for phase in (3, 15)}
    known = profile.class_share(0, {3: 30, 15: 10})
    assert known.share == pytest.approx(0.75 * share_at[3] + 0.25 * share_at[15])
    assert known.rows == pytest.approx(1 / (0.75**2 / 160 + 0.25**2 / 160))
    assert share_at[3] > 0.95 > 0.5 > share_at[15]


def test_rows_of_an_hour_that_the_reference_hardly_has_are_not_judged() -> None:
    _, table, _ = reference_of()
    assert table.times_ms is not None
    morning = table.take(np.flatnonzero((table.times_ms // HOUR_MS) % 24 < 6))
    season = LikeWithLike("24h", morning)
    reference = Reference(morning, "x", "batches", season.phases, season.phase_rows)
    config = EntropyConfig.model_validate({"judge": {"window_rows": 50}})
    detector = config.build("entropy", config.profile(reference))
    logits = Predictions("logits", np.random.default_rng(1).normal(size=(60, 3)))
    for hour, outcomes in ((20, 0), (3, 2)):
        batch = season.dated(FeatureBatch("s", T0 + hour * HOUR_MS, hour, Table(60, predictions=logits)))
        assert len([v for v in detector.update(batch) if not np.isnan(v.effects).all()]) == outcomes


def test_predictions_of_another_shape_stay_as_they_are() -> None:
    _, table, _ = reference_of()
    season = LikeWithLike("24h", table)
    for other in (Predictions("logits", np.ones((2, 4))), Predictions("probabilities", np.full((2, 3), 1 / 3))):
        batch = season.adjusted(FeatureBatch("s", T0, 0, Table(2, predictions=other)))
        assert batch.table.predictions is other


def test_each_class_is_told_by_its_own_column() -> None:
    _, table, _ = reference_of()
    season = LikeWithLike("24h", table)
    assert table.predictions is not None
    own = table.predictions.values[season.phases == 5]
    batch = season.adjusted(FeatureBatch("s", T0 + 5 * HOUR_MS, 7, Table(160, predictions=Predictions("logits", own))))
    assert batch.table.predictions is not None
    for told, column, whole in zip(batch.table.predictions.values.T, own.T, table.predictions.values.T, strict=True):
        scale = ByPhase(whole, season.phases, 24)
        assert told.tolist() == scale(column, 5, 7).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("make", [sure_by_day, one_class_by_night])
def test_a_restart_anywhere_changes_nothing_with_a_season_of_predictions(make: hours.Make) -> None:
    config = {**WHICH, "entropy": EntropyConfig.model_validate({"judge": {"window_rows": 200}, "batch_rows_min": 250})}
    once, again = engine(config, "24h"), engine(config, "24h")
    parts: dict[str, bytes] = {}
    for envelope in hourly(make, 24 * 4):
        saved, names = unpack(pack(again.snapshot())), again.kept().names()
        again = engine(config, "24h")
        assert again.restore(saved, Kept.unpacked({name: parts[name] for name in names})) == []
        said = once.step(envelope), again.step(envelope)
        parts |= {effect.name: effect.data for effect in said[1] if isinstance(effect, Keep)}
        assert repr([v.statistics.tolist() for v in verdicts(said[0])]) == repr(
            [v.statistics.tolist() for v in verdicts(said[1])]
        )
    assert pack(once.snapshot()) == pack(again.snapshot())


def test_what_was_seen_with_a_season_is_not_taken_up_without_one() -> None:
    """The bins of a ring are those of other values: a change of the season begins anew."""
    before, after = engine(WHICH, "24h"), engine(WHICH, None)
    effects = run(before, hourly(sure_by_day, 24 * 3))
    parts = {effect.name: effect.data for effect in effects if isinstance(effect, Keep)}
    saved, names = unpack(pack(before.snapshot())), before.kept().names()
    assert after.restore(saved, Kept.unpacked({name: parts[name] for name in names})) == []
    (stream,) = after.snapshot()["streams"]
    assert stream["detectors"]["ks"]["state"]["predictions"]["seen"] == 0
    assert saved["streams"][0]["detectors"]["ks"]["state"]["predictions"]["seen"] > 0


def test_detectors_that_cannot_see_the_season_are_named_also_after_a_restart() -> None:
    which = {**WHICH, "cardinality": CardinalityConfig(), "odd": RiverConfig(detector="NoDrift", input="entropy")}
    watch = engine(which, "24h")
    effects = run(watch, hourly(sure_by_day, 24 * 3))
    said = "4900 rows from its own first rows; season 24h, which cardinality, odd cannot see"
    assert references(effects) == [said]
    assert references(watch.standing()) == [said]


def test_the_state_of_a_stream_grows_by_one_byte_a_row_of_its_windows() -> None:
    plain, seasonal = engine(WHICH, None), engine(WHICH, "24h")
    for watch in (plain, seasonal):
        run(watch, hourly(sure_by_day, 24 * 4))
    assert seasonal.nbytes - plain.nbytes <= 2 * 200 + 64 + 8 * 24
