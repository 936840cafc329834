"""`river`: what river says by itself is what the detector says, and a restart anywhere changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import anomaly, drift

from streamd.detectors.river import RiverConfig
from streamd.model import FeatureBatch, Verdict
from streamd.state import pack, unpack
from streamd.table import FloatArray, Predictions, Table

CONFIGS: list[dict[str, Any]] = [
    {"detector": "ADWIN"},
    {"detector": "ADWIN", "params": {"delta": 0.05, "clock": 8}, "input": "mean"},
    {"detector": "KSWIN", "params": {"window_size": 40, "stat_size": 15}},
    {"detector": "PageHinkley", "params": {"threshold": 10.0}},
    {"detector": "PageHinkley", "params": {"mode": "up", "threshold": 10.0}},
    {"detector": "DummyDriftDetector", "params": {"t_0": 50, "w": 7, "trigger_method": "random"}},
    {"detector": "NoDrift"},
    {"detector": "HalfSpaceTrees", "params": {"window_size": 30, "n_trees": 3, "height": 4}, "score_threshold": 0.9},
    {"detector": "GaussianScorer", "score_threshold": 0.9},
    {"detector": "GaussianScorer", "params": {"window_size": 50, "grace_period": 20}, "score_threshold": 0.9},
    {"detector": "StandardAbsoluteDeviation", "score_threshold": 2.0},
]


def stream(batches: int, rows: int, seed: int = 0) -> list[Table]:
    """Batches in [0, 1] whose level changes half way."""
    rng = np.random.default_rng(seed)
    levels = [0.3 if i < batches // 2 else 0.7 for i in range(batches)]
    return [Table(rows, {n: np.clip(rng.normal(level, 0.1, rows), 0, 1) for n in ("a", "b")}) for level in levels]


def said(detector: Any, offset: int, table: Table) -> Any:
    outcomes = detector.update(FeatureBatch("s", 0, offset, table))
    return [(o.columns, o.statistics.tolist(), o.effects.tolist(), o.finding) for o in outcomes]


@pytest.mark.parametrize("options", CONFIGS, ids=lambda o: f"{o['detector']}-{o.get('params', {})}")
def test_a_restart_anywhere_changes_nothing(options: dict[str, Any]) -> None:
    config = RiverConfig.model_validate(options)
    whole, parts = config.build("r", None), config.build("r", None)
    for offset, table in enumerate(stream(40, 13)):
        fresh = config.build("r", None)
        fresh.restore(unpack(pack(parts.snapshot())))
        parts = fresh
        assert said(whole, offset, table) == said(parts, offset, table)
        assert pack(whole.snapshot()) == pack(parts.snapshot())


@pytest.mark.parametrize("name", ["ADWIN", "KSWIN", "PageHinkley"])
def test_a_drift_is_found_in_the_batch_in_which_river_finds_it(name: str) -> None:
    params: dict[str, Any] = {"threshold": 5.0} if name == "PageHinkley" else {"seed": 4} if name == "KSWIN" else {}
    alone = getattr(drift, name)(**params)
    detector = RiverConfig(detector=name, params=params, columns=("a",)).build("r", None)
    ours, rivers = [], []
    for offset, table in enumerate(stream(20, 50)):
        rivers.append(False)
        for value in table.numeric["a"]:
            alone.update(float(value))
            rivers[-1] |= alone.drift_detected
        outcomes = detector.update(FeatureBatch("s", 0, offset, table))
        ours.append(bool(outcomes) and bool((outcomes[0].effects > outcomes[0].effect_threshold).any()))  # type: ignore[union-attr]
    assert ours == rivers
    assert any(rivers[10:])


def test_half_space_trees_score_a_batch_as_river_does() -> None:
    params: dict[str, Any] = {"seed": 3, "n_trees": 5, "height": 5, "window_size": 40}
    alone = anomaly.HalfSpaceTrees(**params)
    detector = RiverConfig(detector="HalfSpaceTrees", params=params, score_threshold=0.9).build("r", None)
    for offset, table in enumerate(stream(20, 20)):
        scores = []
        for a, b in zip(table.numeric["a"].tolist(), table.numeric["b"].tolist(), strict=True):
            scores.append(alone.score_one({"a": a, "b": b}))
            alone.learn_one({"a": a, "b": b})
        outcomes = detector.update(FeatureBatch("s", 0, offset, table))
        if outcomes:
            assert outcomes[0].statistics == pytest.approx([np.mean(scores)], rel=1e-12)


def test_the_entropy_of_the_predictions_can_be_watched() -> None:
    detector = RiverConfig(input="entropy").build("r", None)
    fired = []
    for offset in range(20):
        logits: FloatArray = np.random.default_rng(offset).normal(0, 5 if offset < 10 else 0.5, (100, 3))
        [verdict] = detector.update(FeatureBatch("s", 0, offset, Table(100, predictions=Predictions("logits", logits))))
        assert isinstance(verdict, Verdict)
        fired.append(bool(verdict.effects[0] > verdict.effect_threshold))
    assert verdict.columns == ("prediction_entropy",)
    assert not any(fired[:10])
    assert any(fired[10:])


def test_nothing_is_said_of_batches_without_a_value() -> None:
    detector = RiverConfig().build("r", None)
    for table in (
        Table(0, {"a": np.empty(0)}),
        Table(3, {"a": np.full(3, np.nan)}),
        Table(2),
        Table(5, {"a": np.ones(5)}),
    ):
        assert detector.update(FeatureBatch("s", 0, 0, table)) == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"detector": "Adwin"}, "did you mean ADWIN"),
        ({"detector": "DDM"}, "no labels"),
        ({"detector": "PageHinkley", "params": {"treshold": 3}}, "did you mean threshold"),
        ({"detector": "KSWIN", "params": {"window_size": 5}}, "stat_size must be smaller"),
        ({"detector": "PageHinkley", "params": {"delta": "much"}}, "refuses them"),
        ({"detector": "GaussianScorer"}, "needs score_threshold"),
        ({"detector": "HalfSpaceTrees", "params": {"limits": {"a": [0, 1]}}}, "the reference gives them"),
        ({"detector": "ADWIN", "score_threshold": 1.0}, "takes no score_threshold"),
        ({"detector": "HalfSpaceTrees", "score_threshold": 0.9, "input": "mean"}, "must be `values`"),
    ],
)
def test_a_wrong_name_or_parameter_is_an_error_that_says_what_to_do(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RiverConfig.model_validate(options)


def test_memory_stops_growing() -> None:
    detector = RiverConfig(detector="KSWIN").build("r", None)
    sizes = []
    for offset, table in enumerate(stream(12, 60)):
        detector.update(FeatureBatch("s", 0, offset, table))
        sizes.append(detector.nbytes)
    assert len(set(sizes[4:])) == 1 or max(sizes[8:]) <= max(sizes[:8])
