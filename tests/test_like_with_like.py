"""With a season, a window is compared with the reference's rows of the same hours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import hours
import numpy as np
import orjson
import pytest
from envelopes import Producer
from pydantic import ValidationError
from scipy.stats import ks_2samp

from streamd.codec.limits import Limits
from streamd.detectors.base import Reference
from streamd.detectors.chi2 import Chi2Config
from streamd.detectors.iqr import IqrConfig
from streamd.detectors.ks import KsConfig
from streamd.detectors.quality import QualityConfig
from streamd.detectors.zscore import ZscoreConfig
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.kept import Kept
from streamd.model import Alert, BatchJudged, Effect, Envelope, FeatureBatch, StreamChanged, Verdict
from streamd.policy import PolicySettings
from streamd.profiles import Profiles
from streamd.seasons import HOUR_MS, ByPhase, LikeWithLike
from streamd.state import pack, unpack
from streamd.table import Categorical, Table, beside

T0 = 1_763_769_600_000
ROWS = 100  # a batch, one an hour
AMPLITUDE = 2.0


def table_of(days: int, seed: int = 0, rows: int = 50) -> Table:
    hours = np.repeat(np.arange(24 * days), rows)
    values = np.random.default_rng(seed).normal(size=len(hours)) + AMPLITUDE * np.sin(2 * np.pi * hours / 24)
    return Table(len(hours), {"x": values}, times_ms=T0 + hours * HOUR_MS)


def engine(season: str | None, **more: Any) -> PartitionEngine:
    reference = ReferenceSettings.model_validate({"first_rows": 1000, "season": season} | more)
    which = {"ks": KsConfig(window_rows=200), "iqr": IqrConfig(window_rows=200), "zscore": ZscoreConfig()}
    settings = StreamSettings(which, reference, PolicySettings())
    return PartitionEngine(
        "streamd.features", 0, "features", Limits(), EngineSettings(), lambda _: settings, Profiles()
    )


def hourly(hours: int, first: int = 0, shift: float = 0.0, rho: float = 0.5, seed: int = 0) -> list[Envelope]:
    """A batch an hour: a daily sine, with an AR(1) from row to row."""
    send, rng = Producer(), np.random.default_rng(seed)
    send.offset, last, out = first, 0.0, []
    for hour in range(first, first + hours):
        values = []
        for noise in rng.normal(size=ROWS) * np.sqrt(1 - rho**2):
            last = rho * last + noise
            values.append(last + shift + AMPLITUDE * np.sin(2 * np.pi * hour / 24))
        out.append(replace(send.batch({"x": values}), timestamp_ms=T0 + hour * HOUR_MS))
    return out


def run(watch: PartitionEngine, envelopes: list[Envelope]) -> list[Effect]:
    return [effect for envelope in envelopes for effect in watch.step(envelope)]


def detectors_that_fire(effects: list[Effect]) -> set[str]:
    return {e.detector for e in effects if isinstance(e, Alert) and e.status == "firing"}


def test_a_value_is_as_far_up_in_all_as_it_was_in_its_phase() -> None:
    """scipy-free oracle: the share of the phase's rows below, and the quantile of all rows at that share."""
    table = table_of(20)
    season = LikeWithLike("24h", table)
    phases = (np.arange(table.rows) // 50) % 24
    for phase in (0, 6, 18):
        own = table.numeric["x"][phases == phase]
        values = np.quantile(own, [0.1, 0.5, 0.9])
        batch = FeatureBatch("s", T0 + (48 + phase) * HOUR_MS, 0, Table(3, {"x": values}))
        adjusted = season.adjusted(batch)
        shares = (own[:, None] < values).mean(axis=0)
        assert adjusted.phase == phase
        assert adjusted.table.numeric["x"] == pytest.approx(np.quantile(table.numeric["x"], shares), abs=0.05)


def test_values_that_many_rows_share_are_spread_over_their_step_whatever_the_phase() -> None:
    """Brute force: told lies between the quantiles of the shares below and up to the value, and all phases alike."""
    rng, phases = np.random.default_rng(0), np.repeat(np.arange(24), 200)
    values = rng.poisson(1.0 + 3.0 * (phases < 12)).astype(float)
    scale = ByPhase(values, phases, 24)
    distinct, counts = np.unique(values, return_counts=True)
    middles = (np.cumsum(counts) - counts / 2) / len(values)
    for phase in (0, 20):
        own = values[phases == phase]
        told = scale(own, phase, 5)
        for value, got in zip(own, told, strict=True):
            shares = np.array([np.count_nonzero(own < value), np.count_nonzero(own <= value)]) / len(own)
            low, high = np.interp(shares, middles, distinct)
            assert low - 1e-9 <= got <= high + 1e-9
        assert ks_2samp(told, scale.told(values, phases)).statistic < 0.08
        assert ks_2samp(own, values).statistic > 0.2


def test_a_value_that_most_rows_share_is_kept_among_many_others() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.uniform(size=6000) < 0.6, 0.5, rng.uniform(size=6000))
    scale = ByPhase(values, np.zeros(6000, np.intp), 1)
    told = scale(values[:500], 0, 0)
    assert ks_2samp(told, scale.told(values, np.zeros(6000, np.intp))).statistic < 0.08


def test_a_column_with_too_few_values_in_a_phase_is_not_judged_there() -> None:
    phases = np.repeat(np.arange(2), 50)
    values = np.where(np.arange(100) < 85, np.arange(100.0), np.nan)[::-1].copy()
    values[:40] = np.nan
    scale = ByPhase(values, phases, 2)
    assert scale.rows.tolist() == [10, 50]
    assert np.isnan(scale(np.ones(3), 0, 0)).all()
    assert np.isfinite(scale(np.ones(3), 1, 0)).all()


COUNTS = {"ks": KsConfig(window_rows=200), "zscore": ZscoreConfig()}


def counted(hour: int, rng: np.random.Generator) -> dict[str, Any]:
    """A flag and a count, each with a day."""
    level = 0.5 + 0.4 * np.sin(2 * np.pi * hour / 24)
    flag = (rng.uniform(size=ROWS) < level).astype(float)
    return {"features": {"flag": flag, "count": rng.poisson(1.0 + 5.0 * level, ROWS).astype(float)}}


@pytest.mark.slow
def test_counts_and_flags_with_a_daily_pattern_are_no_alarm_and_their_change_is() -> None:
    plain, watch = hours.engine(COUNTS, None), hours.engine(COUNTS, "24h")
    assert hours.fired(run(plain, hours.hourly(counted, 24 * 10))) != set()
    assert hours.fired(run(watch, hours.hourly(counted, 24 * 10))) == set()
    turned = hours.hourly(lambda hour, rng: counted(hour + 12, rng), 24, first=24 * 10)
    assert {detector for detector, _ in hours.fired(run(watch, turned))} == {"ks", "zscore"}


def sine(hour: int, rng: np.random.Generator, shift: float = 0.0) -> dict[str, Any]:
    wave = AMPLITUDE * np.sin(2 * np.pi * hour / 24)
    return {"features": {"x": rng.normal(size=ROWS) + wave + shift, "y": rng.normal(size=ROWS)}}


@pytest.mark.slow
def test_an_accepted_column_is_learned_over_whole_seasons_and_put_beside_its_own_hours() -> None:
    watch = hours.engine(COUNTS, "24h")
    run(watch, hours.hourly(sine, 24 * 4))
    send = Producer()
    send.offset = 24 * 4
    order = replace(send.record(orjson.dumps({"stream": "fraud/7", "role": "reset", "columns": ["x"], "author": "a"})))
    (told,) = hours.references(watch.step(order))
    assert told.endswith("the next 1000 rows, over 2 x 24h at least, become the reference")
    raised = hours.hourly(lambda hour, rng: sine(hour, rng, 3.0), 24 * 8, first=24 * 4 + 1)
    effects = run(watch, raised)
    assert hours.fired(effects) == set()
    assert len(hours.references(effects)) == 1
    assert {name for v in hours.verdicts(effects[-200:]) for name in v.columns} == {"x", "y"}
    again = run(watch, hours.hourly(lambda hour, rng: sine(hour, rng, 4.0), 12, first=24 * 12 + 1))
    assert "ks" in {detector for detector, _ in hours.fired(again)}


@pytest.mark.slow
def test_what_the_reference_does_not_know_of_an_hour_is_no_alarm_of_every_batch_in_it() -> None:
    """The mean of each hour is known from 24 rows: many batches of 256 that follow differ from it, all alike."""
    rng, reference_hours = np.random.default_rng(0), np.repeat(np.arange(48), 12)
    names = [f"c{i}" for i in range(8)]
    told = {name: rng.normal(size=len(reference_hours)) for name in names}
    season = LikeWithLike("24h", Table(len(reference_hours), told, times_ms=T0 + reference_hours * HOUR_MS))
    knowing, not_knowing = ZscoreConfig().build("zscore", None), ZscoreConfig().build("zscore", None)
    loud = [0, 0]
    for minute in range(24 * 60):
        table = Table(256, {name: rng.normal(size=256) for name in names})
        batch = season.adjusted(FeatureBatch("s", T0 + minute * 60_000, minute, table))
        for i, outcomes in enumerate((knowing.update(batch), not_knowing.update(replace(batch, phase_rows=0)))):
            for v in outcomes:
                assert v.adjusted is not None
                loud[i] += bool(((v.effects > v.effect_threshold) & (v.adjusted <= 1e-7)).any())
    assert loud[0] == 0 < loud[1]


def absent_by_night(hour: int, rng: np.random.Generator) -> dict[str, Any]:
    """By night `x` is missing and `y` always the same; by day one value of `x` in twenty is missing."""
    x, y = rng.normal(size=ROWS), rng.normal(size=ROWS)
    x[rng.uniform(size=ROWS) < 0.05] = np.nan
    if hour % 24 < 6:
        x[:], y[:] = np.nan, 0.0
    return {"features": {"x": x, "y": y}}


@pytest.mark.slow
def test_what_is_missing_or_constant_every_night_is_no_alarm_and_by_day_it_is() -> None:
    quality: dict[str, Any] = {"quality": QualityConfig()}
    plain, watch = hours.engine(quality, None), hours.engine(quality, "24h", first_rows=4800)
    past = hours.hourly(absent_by_night, 24 * 8)
    assert hours.fired(run(plain, past)) == {("quality", "rule")}
    effects = run(watch, past)
    assert hours.fired(effects) == set()
    assert len(hours.verdicts(effects)) > 24 * 3
    assert hours.fired(run(watch, hours.hourly(lambda _, rng: absent_by_night(0, rng), 1, first=24 * 8 + 12)))


def test_shares_of_missing_values_are_those_of_the_hour() -> None:
    phases = np.repeat(np.arange(2), 100)
    x = np.where((np.arange(200) % 100) < np.where(phases == 0, 90, 10), np.nan, np.arange(200.0))
    reference = Reference(Table(200, {"x": x}), "x", "first_rows", phases, np.bincount(phases))
    profile = QualityConfig().profile(reference, None)
    assert [profile.at(phase).missing.tolist() for phase in (0, 1, None)] == [[0.9], [0.1], [0.5]]


def test_columns_are_put_beside_rows_of_their_own_phase() -> None:
    table = Table(8, {"a": np.arange(8.0)})
    country = Categorical(np.array([0, 1, 0], np.int32), ("DE", "FR"))
    other = Table(3, {"b": np.array([10.0, 11.0, 30.0])}, categorical={"c": country})
    both = beside(table, other, np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 2]))
    assert both.numeric["a"].tolist() == list(range(8))
    assert repr(both.numeric["b"].tolist()) == "[10.0, 10.0, 11.0, 11.0, nan, nan, 30.0, 30.0]"
    assert both.categorical["c"].codes.tolist() == [0, 0, 1, 1, -1, -1, 0, 0]


def test_order_is_kept_and_what_lies_beyond_or_is_missing_stays_so() -> None:
    season = LikeWithLike("24h", table_of(4))
    values = np.array([-np.inf, -50.0, -1.0, 0.0, 1.0, 50.0, np.inf, np.nan])
    told = season.adjusted(FeatureBatch("s", T0, 0, Table(8, {"x": values, "new": values}))).table.numeric
    assert np.all(np.diff(told["x"][:7]) > 0)
    assert np.isinf(told["x"][[0, 6]]).all()
    assert np.isnan(told["x"][7])
    assert told["x"][5] > 45
    assert told["new"] is values


def test_a_phase_with_too_few_rows_is_not_judged() -> None:
    hours = np.repeat(np.arange(12), 50)  # the morning alone
    season = LikeWithLike("24h", Table(600, {"x": np.arange(600.0)}, times_ms=T0 + hours * HOUR_MS))
    assert season.covered == 12
    evening = season.adjusted(FeatureBatch("s", T0 + 20 * HOUR_MS, 0, Table(2, {"x": np.ones(2)})))
    assert np.isnan(evening.table.numeric["x"]).all()


@pytest.mark.slow
def test_with_a_season_a_daily_sine_is_no_alarm_and_a_shift_still_is() -> None:
    watch, plain = engine("24h"), engine(None)
    past = hourly(24 * 14)
    assert detectors_that_fire(run(plain, past)) != set()
    effects = run(watch, past)
    assert detectors_that_fire(effects) == set()
    assert sum(isinstance(v, Verdict) for e in effects if isinstance(e, BatchJudged) for v in e.outcomes) > 400
    (reference,) = [e.detail for e in effects if isinstance(e, StreamChanged) and e.what == "reference"]
    assert reference == "4900 rows from its own first rows; season 24h"
    assert "ks" in detectors_that_fire(run(watch, hourly(24, first=24 * 14, shift=1.0, seed=1)))


@pytest.mark.slow
def test_a_restart_anywhere_changes_nothing_with_a_season() -> None:
    once, again, parts = engine("24h"), engine("24h"), {}
    for envelope in hourly(24 * 4):
        saved, names = unpack(pack(again.snapshot())), again.kept().names()
        again = engine("24h")
        assert again.restore(saved, Kept.unpacked({name: parts[name] for name in names})) == []
        said = once.step(envelope), again.step(envelope)
        parts |= {effect.name: effect.data for effect in said[1] if type(effect).__name__ == "Keep"}
        told = [
            [
                v.statistics.tolist()
                for e in each
                if isinstance(e, BatchJudged)
                for v in e.outcomes
                if isinstance(v, Verdict)
            ]
            for each in said
        ]
        assert repr(told[0]) == repr(told[1])
    assert pack(once.snapshot()) == pack(again.snapshot())


def test_a_long_season_is_learned_within_the_limit_of_rows() -> None:
    watch = engine("7d", rows_max=2000)
    effects = run(watch, hourly(24 * 15))
    (told,) = [e.detail for e in effects if isinstance(e, StreamChanged) and e.what == "reference"]
    rows = int(told.split()[0])
    assert 500 <= rows <= 2100
    assert "of 168 hours have 20 rows or more" in told or told.endswith("season 7d")


def test_a_reference_without_the_times_of_its_rows_is_a_sentence() -> None:
    watch, send = engine("24h"), Producer()
    effects = watch.step(send.batch({"x": np.arange(1000.0)}, role="reference", ts=T0))
    (told,) = [e.detail for e in effects if isinstance(e, StreamChanged) and e.what == "reference"]
    assert "1 of 24 hours have 20 rows or more" in told
    assert "each part with its own ts" in told
    assert orjson.dumps(told)


def test_a_season_and_a_bundle_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="the rows of a bundle have no times"):
        ReferenceSettings(season="24h", bundle="monitors/x")


def mixed(hours: int, first: int = 0, swap: bool = False, seed: int = 0) -> list[Envelope]:
    """A batch an hour: by day most rows are `DE`, by night most are `FR`; or the other way round."""
    send, rng = Producer(), np.random.default_rng(seed)
    send.offset, out = first, []
    for hour in range(first, first + hours):
        day = (hour % 24 < 12) != swap
        rows = rng.choice(["DE", "FR"], ROWS, p=[0.8, 0.2] if day else [0.2, 0.8]).tolist()
        out.append(replace(send.batch({"country": rows}), timestamp_ms=T0 + hour * HOUR_MS))
    return out


def test_a_mix_of_categories_is_compared_with_that_of_its_hours() -> None:
    def watch(
        season: str | None, dependence: Literal["autocorrelation", "none"] = "autocorrelation"
    ) -> PartitionEngine:
        settings = StreamSettings(
            {"chi2": Chi2Config(window_rows=400, dependence=dependence)},
            ReferenceSettings.model_validate({"first_rows": 4800, "season": season}),
            PolicySettings(false_alarms=None),
        )
        profiles = Profiles()
        return PartitionEngine("t", 0, "features", Limits(), EngineSettings(), lambda _: settings, profiles)

    plain, seasonal = watch(None, "none"), watch("24h")
    assert detectors_that_fire(run(plain, mixed(24 * 6))) == {"chi2"}
    assert detectors_that_fire(run(seasonal, mixed(24 * 6))) == set()
    assert detectors_that_fire(run(seasonal, mixed(8, first=24 * 6, swap=True))) == {"chi2"}


def test_the_mixture_is_the_mean_of_the_phases_weighted_as_the_window_has_them() -> None:
    rng = np.random.default_rng(0)
    phases = np.repeat(np.arange(24), 100)
    codes = (rng.uniform(size=2400) < 0.2 + 0.6 * (phases < 12)).astype(np.int32)
    table = Table(2400, categorical={"c": Categorical(codes, ("a", "b"))})
    reference = Reference(table, "x", "first_rows", phases, np.bincount(phases))
    profile = Chi2Config(dependence="none").profile(reference, None)
    shares = np.zeros(24)
    shares[[0, 20]] = 0.25, 0.75
    counts, rows = profile.counts_of(shares)
    b = 0.25 * codes[phases == 0].mean() + 0.75 * codes[phases == 20].mean()
    assert counts[0, profile.codes[0]["b"]] / counts[0].sum() == pytest.approx(b, abs=1e-9)
    assert rows[0] == pytest.approx(1 / (0.25**2 / 100 + 0.75**2 / 100))
    assert profile.counts_of(np.full(24, 1 / 24))[1][0] == pytest.approx(2400)  # all phases alike: all rows count


@pytest.mark.slow
def test_p_values_of_a_window_in_one_phase_know_from_how_few_rows_that_phase_is_known() -> None:
    """Of 150 healthy windows 1.5 would be under 1 %; taken for a window of all 960 rows over 30 are."""
    rng, hours, low = np.random.default_rng(1), np.repeat(np.arange(24), 40), 0
    for _ in range(150):
        table = Table(960, {"x": rng.normal(size=960) + hours}, times_ms=T0 + hours * HOUR_MS)
        season = LikeWithLike("24h", table)
        config = KsConfig(window_rows=200)
        reference = Reference(season.reference_table, "x", "first_rows", season.phases, season.phase_rows)
        detector = config.build("ks", config.profile(reference))
        batch = FeatureBatch("s", T0 + 3 * HOUR_MS, 0, Table(200, {"x": rng.normal(size=200) + 3}))
        (verdict,) = detector.update(season.adjusted(batch))
        assert verdict.p_values is not None
        low += bool(verdict.p_values[0] < 0.01)
    assert low <= 6  # Poisson(1.5): more once in 1,000
