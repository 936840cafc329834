"""River's HalfSpaceTrees by default settings: the reference scales the features and shows the trees what is normal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import anomaly

from streamd.detectors.base import Reference
from streamd.detectors.river import RiverConfig
from streamd.model import FeatureBatch, Verdict
from streamd.state import pack, unpack
from streamd.table import FloatArray, Table

CONFIG = RiverConfig(detector="HalfSpaceTrees")
SCALES = np.array([1e-6, 1.0, 3e5])


def table(rng: np.random.Generator, rows: int, odd: float = 0.0) -> Table:
    """Three columns that move together, of very different units; a share of the rows is far out."""
    values = (rng.normal(size=rows)[:, None] + rng.normal(0, 0.3, (rows, 3))) * SCALES
    values[rng.random(rows) < odd] *= 5.0
    return Table(rows, {name: values[:, i] for i, name in enumerate(("tiny", "plain", "large"))})


def reference() -> Reference:
    return Reference(table(np.random.default_rng(0), 3000), "", "batches")


def loud(verdicts: list[Verdict]) -> list[bool]:
    assert all(v.adjusted is not None for v in verdicts)
    return [bool(v.adjusted[0] <= 0.001 and v.effects[0] > v.effect_threshold) for v in verdicts]  # type: ignore[index]


def judged(config: RiverConfig, tables: list[Table]) -> list[Verdict]:
    detector = config.build("trees", config.profile(reference(), None))
    return [v for offset, each in enumerate(tables) for v in detector.update(FeatureBatch("s", 0, offset, each))]


@pytest.mark.slow
def test_by_default_odd_rows_are_loud_and_forty_normal_windows_are_not() -> None:
    rng = np.random.default_rng(1)
    assert not any(loud(judged(CONFIG, [table(rng, 1000) for _ in range(40)])))
    assert all(loud(judged(CONFIG, [table(rng, 1000, odd=0.6)])))


@pytest.mark.slow
def test_the_worst_rows_are_named_with_the_values_farthest_out() -> None:
    rng = np.random.default_rng(2)
    odd = table(rng, 1000)
    for name, value in {"tiny": -3e-6, "plain": 4.0, "large": 9e6}.items():
        odd.numeric[name][17] = value
    [verdict] = judged(CONFIG, [odd])
    named = {row.id: row for row in verdict.rows}
    assert list(named["0:17"].features.items()) == [("large", 9e6), ("plain", 4.0), ("tiny", -3e-6)]


@pytest.mark.slow
def test_scores_are_those_of_river_on_features_scaled_by_the_range_of_the_reference() -> None:
    seen, live = reference().table, table(np.random.default_rng(3), 1000, odd=0.1)
    alone = anomaly.HalfSpaceTrees(seed=0)
    names = tuple(seen.numeric)
    low = {name: seen.numeric[name].min() for name in names}
    span = {name: seen.numeric[name].max() - low[name] for name in names}

    def fed(rows: Table) -> FloatArray:
        scores = []
        for i in range(rows.rows):
            row = {name: (rows.numeric[name][i] - low[name]) / span[name] for name in names}
            scores.append(alone.score_one(row))
            alone.learn_one(row)
        return np.array(scores)

    alone.learn_one(dict.fromkeys(names, 0.5))  # grows the trees; the row itself is forgotten below
    alone.counter = 0
    for nodes in alone._tree_nodes:
        for node in nodes:
            node.l_mass = node.r_mass = 0
    fed(seen)
    worst = sorted(fed(live), reverse=True)[:5]
    [verdict] = judged(CONFIG, [live])
    assert [row.score for row in verdict.rows] == pytest.approx(worst, rel=1e-12)


@pytest.mark.slow
def test_a_restart_anywhere_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    profile = CONFIG.profile(reference(), None)
    whole, parts = CONFIG.build("t", profile), CONFIG.build("t", profile)
    for offset in range(12):
        batch = FeatureBatch("s", 0, offset, table(rng, 190, odd=0.1))
        fresh = CONFIG.build("t", profile)
        fresh.restore(unpack(pack(parts.snapshot())))
        parts = fresh
        assert [repr(v) for v in whole.update(batch)] == [repr(v) for v in parts.update(batch)]
        assert pack(whole.snapshot()) == pack(parts.snapshot())


@pytest.mark.parametrize(
    "numeric",
    [
        {},
        {"constant": np.ones(3000)},
        {"missing": np.full(3000, np.nan)},
        {"short": np.arange(300.0)},
        {"endless": np.tile([-1e308, 1e308], 1500)},
    ],
    ids=lambda numeric: next(iter(numeric), "none"),
)
def test_a_reference_that_shows_the_trees_nothing_leaves_the_detector_silent(numeric: dict[str, Any]) -> None:
    rows = len(next(iter(numeric.values()), np.empty(10)))
    profile = CONFIG.profile(Reference(Table(rows, numeric), "", "batches"), None)
    assert profile is None
    detector = CONFIG.build("t", profile)
    detector.restore(detector.snapshot())
    assert detector.update(FeatureBatch("s", 0, 0, table(np.random.default_rng(5), 1000))) == ()


@pytest.mark.slow
def test_missing_values_and_missing_columns_are_no_crash() -> None:
    rng = np.random.default_rng(6)
    gaps = table(rng, 1000)
    for column in gaps.numeric.values():
        column[rng.random(1000) < 0.3] = np.nan
    gaps.numeric["plain"][:3] = [np.inf, -np.inf, 1e308]
    [verdict] = judged(CONFIG, [gaps])
    assert np.isfinite(verdict.statistics).all()
    assert len(judged(CONFIG, [Table(1000, {"plain": rng.normal(size=1000)})])) == 1
    assert judged(CONFIG, [Table(1000, {"other": rng.normal(size=1000)}), Table(0)]) == []
