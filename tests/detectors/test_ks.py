"""`ks`: which columns it judges, and that its judgements are alibi-detect's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streamd.detectors.base import Reference
from streamd.detectors.ks import KsConfig
from streamd.model import FeatureBatch, Kind, Outcome, Verdict
from streamd.table import FloatArray, Predictions, Table

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_alibi_detect import NUMERIC, samples  # noqa: E402 # beside its golden file, which is no package


def reference_of(table: Table) -> Reference:
    return Reference(table, table.sha256(), "batches")


def batch(table: Table, offset: int = 0) -> FeatureBatch:
    return FeatureBatch("fraud/7", 0, offset, table)


def verdicts(outcomes: tuple[Outcome, ...]) -> list[Verdict]:
    return [outcome for outcome in outcomes if isinstance(outcome, Verdict)]


def table_of(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Table:
    logits: FloatArray = rng.normal(np.array([0, 0, shift]), 1.0, (rows, 3))
    numeric = {"age": rng.normal(size=rows), "amount": rng.normal(shift, 1, rows)}
    return Table(rows, numeric, predictions=Predictions("logits", logits))


@pytest.mark.parametrize("detector", ["KSDrift", "TabularDrift"])
def test_every_feature_has_the_statistic_and_p_value_of_alibi_detect(detector: str) -> None:
    golden = json.loads((GOLDEN / "alibi_detect.json").read_text())[detector]
    before, after = samples()
    config = KsConfig(dependence="none", window_rows=len(after["normal"]))
    reference = Table(len(before["normal"]), {name: before[name] for name in NUMERIC})
    window = Table(len(after["normal"]), {name: after[name] for name in NUMERIC})
    [verdict] = verdicts(config.build("ks", config.profile(reference_of(reference))).update(batch(window)))
    assert verdict.p_values is not None
    for i, name in enumerate(NUMERIC):  # alibi-detect keeps single precision
        assert verdict.statistics[i] == pytest.approx(golden[name]["statistic"], rel=1e-6, abs=1e-7)
        assert verdict.p_values[i] == pytest.approx(golden[name]["p_value"], rel=1e-6, abs=1e-30)


def test_features_and_predictions_are_judged_apart() -> None:
    rng = np.random.default_rng(0)
    config = KsConfig()
    detector = config.build("drift", config.profile(reference_of(table_of(rng, 3000))))
    outcomes = detector.update(batch(table_of(rng, 1000, shift=1.0)))
    features, predictions = verdicts(outcomes)
    assert (features.kind, features.columns) == (Kind.FEATURES, ("age", "amount"))
    assert (predictions.kind, predictions.columns) == (Kind.PREDICTIONS, ("logits[0]", "logits[1]", "logits[2]"))
    assert features.detector == predictions.detector == "drift"
    assert "amount drifted up" in features.finding
    assert "logits[2] drifted up" in predictions.finding
    assert [reading.columns for reading in detector.readings()] == [features.columns, predictions.columns]


def test_columns_are_chosen_by_name_or_pattern() -> None:
    rng = np.random.default_rng(1)
    config = KsConfig(columns=("a*t", "logits[[]1]"))
    detector = config.build("ks", config.profile(reference_of(table_of(rng, 3000))))
    found = verdicts(detector.update(batch(table_of(rng, 1000))))
    assert [verdict.columns for verdict in found] == [("amount",), ("logits[1]",)]


def test_a_batch_without_features_or_without_predictions_leaves_their_window_be() -> None:
    rng = np.random.default_rng(2)
    config = KsConfig(window_rows=100)
    whole = table_of(rng, 50)
    detector = config.build("ks", config.profile(reference_of(table_of(rng, 300))))
    assert detector.update(batch(Table(50, whole.numeric), 1)) == ()
    assert detector.update(batch(Table(50, predictions=whole.predictions), 2)) == ()
    features, predictions = verdicts(detector.update(batch(whole, 3)))
    assert (features.window.first_offset, predictions.window.first_offset) == (1, 2)


@pytest.mark.parametrize(("kind", "classes"), [("probabilities", 3), ("logits", 4)])
def test_predictions_of_another_kind_or_shape_are_not_compared(kind: str, classes: int) -> None:
    rng = np.random.default_rng(3)
    config = KsConfig(window_rows=100)
    detector = config.build("ks", config.profile(reference_of(table_of(rng, 300))))
    other = Table(100, predictions=Predictions(kind, rng.random((100, classes))))  # type: ignore[arg-type] # parametrized
    assert detector.update(batch(other)) == ()


def test_a_missing_column_is_not_judged_and_a_new_one_is_ignored() -> None:
    rng = np.random.default_rng(4)
    config = KsConfig(window_rows=100)
    detector = config.build("ks", config.profile(reference_of(table_of(rng, 300))))
    [verdict] = verdicts(detector.update(batch(Table(100, {"age": rng.normal(size=100), "new": np.zeros(100)}))))
    assert verdict.columns == ("age", "amount")
    assert np.isnan(verdict.statistics).tolist() == [False, True]


def test_thousands_of_columns_are_judged_at_once() -> None:
    rng = np.random.default_rng(5)
    config = KsConfig(window_rows=50)
    reference = Table(60, {f"x{i}": rng.normal(size=60) for i in range(3000)})
    detector = config.build("ks", config.profile(reference_of(reference)))
    [verdict] = verdicts(detector.update(batch(Table(50, {f"x{i}": rng.normal(9, 1, 50) for i in range(3000)}))))
    assert verdict.finding.endswith("and 2997 more")


@pytest.mark.parametrize("options", [{"window_rows": 1}, {"effect_threshold": 1.5}, {"windows": 3}, {"stride_rows": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KsConfig.model_validate(options)
