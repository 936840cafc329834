"""What a fitted scorer's detector says; tests/test_bundles.py has the stream around it, tests/contract the promises."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from streamd.detectors.base import Reference
from streamd.detectors.judge import TwoSampleSettings
from streamd.detectors.scorer import ScorerConfig, Tally
from streamd.fitting.isolation import IsolationSettings
from streamd.fitting.learning import fit
from streamd.model import FeatureBatch, Verdict
from streamd.scorers.fitted import Fitted, from_bytes, to_bytes
from streamd.table import Predictions, Table, concatenate

NAMES = ("wide", *(f"f{i}" for i in range(7)))
NOBODY = Reference(Table(0), "", "bundle")


def rows(count: int, seed: int, drifted: str = "", shift: float = 0.0, share: float = 1.0) -> Table:
    """Columns of which `wide` has long tails: it makes the rows of highest score, whatever else happens."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=count) for name in NAMES}
    columns["wide"] = rng.standard_t(2, size=count)
    if drifted:
        columns[drifted] += np.where(rng.random(count) < share, shift, 0.0)
    return Table(count, columns)


@cache
def weights() -> bytes:
    return to_bytes(fit(IsolationSettings(trees=50), rows(3000, 0)).fitted)


def verdict_on(*tables: Table, data: bytes | None = None, **options: int) -> Verdict:
    config = ScorerConfig(judge=TwoSampleSettings(window_rows=sum(table.rows for table in tables)), **options)
    detector = config.build("scorer", config.profile(NOBODY, data or weights()))
    outcomes = [o for i, table in enumerate(tables) for o in detector.update(FeatureBatch("s", 0, i, table))]
    (verdict,) = outcomes
    return verdict


def most_in(verdict: Verdict) -> list[str]:
    return verdict.finding.partition("; most in ")[2].partition(";")[0].split(", ")


@pytest.mark.parametrize("drifted", NAMES[1:])
def test_what_moved_is_named_first_though_the_worst_rows_are_others(drifted: str) -> None:
    verdict = verdict_on(rows(1000, 1, drifted, 3.0))
    assert verdict.finding.startswith("anomaly score rose")
    assert most_in(verdict)[0] == drifted


def test_what_moved_is_named_without_any_row_that_is() -> None:
    verdict = verdict_on(rows(1000, 1, "f3", 3.0), worst_rows=0)
    assert most_in(verdict)[0] == "f3"
    assert verdict.rows == ()


def test_where_scores_fell_nothing_is_to_blame() -> None:
    calm = Table(1000, {name: 0.5 * column for name, column in rows(1000, 5).numeric.items()})
    verdict = verdict_on(calm)
    assert verdict.finding.startswith("anomaly score fell")
    assert "most in" not in verdict.finding


@pytest.mark.parametrize("cuts", [[500], [1, 2, 3, 357], [*range(1, 1000)]], ids=["halves", "odd", "single rows"])
def test_how_rows_are_divided_into_batches_changes_nothing_that_is_said(cuts: list[int]) -> None:
    table = rows(1000, 2, "f5", 3.0, share=0.7)
    sure = np.random.default_rng(3).uniform(0.5, 1.0, 1000)
    table = dataclasses.replace(table, predictions=Predictions("probabilities", np.column_stack([sure, 1 - sure])))
    whole = verdict_on(table)
    parts = verdict_on(*(table.take(part) for part in np.split(np.arange(1000), cuts)))
    assert whole.finding == parts.finding
    assert "on which the model's confidence is 0." in whole.finding
    assert [row.score for row in whole.rows] == [row.score for row in parts.rows]
    assert [row.contributions for row in whole.rows] == [row.contributions for row in parts.rows]
    assert [row.confidence for row in whole.rows] == [row.confidence for row in parts.rows]


def test_contributions_are_shares_of_all_that_adds_to_the_score() -> None:
    table = rows(1000, 4)
    verdict = verdict_on(table)
    profile = ScorerConfig().profile(NOBODY, weights())
    assert profile is not None
    for row in verdict.rows:
        place = int(row.id.partition(":")[2])
        parts = profile.scorer.score(table).explain(np.array([place]))[:, 0]
        largest = np.argsort(-parts, kind="stable")[:3]
        expected = {profile.scorer.features[i]: parts[i] / parts.sum() for i in largest}
        assert row.contributions == pytest.approx(expected)
        assert row.features == {name: table.numeric[name][place] for name in expected}


def test_what_is_usual_is_not_named_however_large() -> None:
    tally = Tally(3, every=1)
    tally.explain(np.array([[60.0, 6.0], [30.0, 3.0], [10.0, 1.0]]), 2)
    assert tally.most_in(("a", "b", "c"), np.array([0.8, 0.15, 0.05])) == ["b", "c"]
    assert tally.most_in(("a", "b", "c"), None) == ["a", "b", "c"]


def test_windows_that_end_within_a_batch_are_those_of_batches_as_long_as_they() -> None:
    config = ScorerConfig(judge=TwoSampleSettings(window_rows=400))
    parts = [rows(400, seed, "f2", float(seed)) for seed in range(3)]
    profile = config.profile(NOBODY, weights())
    at_once, apart = config.build("scorer", profile), config.build("scorer", profile)
    found = at_once.update(FeatureBatch("s", 0, 0, concatenate(parts)))
    expected = [v for i, part in enumerate(parts) for v in apart.update(FeatureBatch("s", 0, i, part))]
    assert [v.finding for v in found] == [v.finding for v in expected]
    for one, other in zip(found, expected, strict=True):
        assert [(r.score, r.features, r.contributions) for r in one.rows] == [
            (r.score, r.features, r.contributions) for r in other.rows
        ]


def test_a_usual_of_other_columns_is_refused() -> None:
    fitted: Fitted = dataclasses.replace(from_bytes(weights()), usual=np.zeros(3))
    with pytest.raises(ValueError, match="what is usual for"):
        ScorerConfig().profile(NOBODY, to_bytes(fitted))
