"""`quality`: each finding where it should be, none where it should not, p-values against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from streamd.detectors.base import Reference
from streamd.detectors.quality import QualityConfig, no_data_verdict
from streamd.detectors.shares import DOUBT
from streamd.model import FeatureBatch, Kind, Verdict, Window
from streamd.table import Categorical, Predictions, Table

ROWS = 1000


def category(values: list[int], names: tuple[str, ...] = ("DE", "FR", "IT")) -> Categorical:
    return Categorical(np.array(values, np.int32), names)


def softmax(rows: int, classes: int = 3, seed: int = 0) -> Predictions:
    values = np.random.default_rng(seed).dirichlet(np.ones(classes), rows)
    return Predictions("probabilities", values)


def healthy(rows: int, seed: int, **extra: object) -> Table:
    rng = np.random.default_rng(seed)
    numeric = {"amount": rng.normal(size=rows), "age": rng.integers(18, 90, rows).astype(float)}
    countries = {"country": category(rng.integers(0, 3, rows).tolist())}
    return Table(rows, numeric, {}, countries, {}, softmax(rows, seed=seed))


def judge(table: Table, reference: Table | None = None, **options: object) -> Verdict:
    config = QualityConfig.model_validate(options)
    profile = config.profile(Reference(reference or healthy(ROWS, 1), "", "batches"), None)
    [verdict] = config.build("quality", profile).update(FeatureBatch("s", 0, 5, table))
    assert isinstance(verdict, Verdict)
    assert verdict.kind is Kind.QUALITY
    return verdict


def grade(verdict: Verdict) -> str:
    adjusted = np.zeros(len(verdict.columns)) if verdict.adjusted is None else verdict.adjusted
    if ((adjusted <= 0.001) & (verdict.effects > verdict.effect_threshold)).any():
        return "warning"
    return "info" if (adjusted < 0.05).any() else "none"


def with_numeric(table: Table, **columns: object) -> Table:
    return Table(table.rows, {**table.numeric, **columns}, {}, table.categorical, {}, table.predictions)  # type: ignore[dict-item]


def test_healthy_batches_of_any_size_have_no_finding() -> None:
    for rows in (1, 2, 49, 50, 256, 5000):
        for seed in range(2, 12):
            verdict = judge(healthy(rows, seed))
            assert (grade(verdict), verdict.finding) == ("none", f"data as in the reference over {rows} rows")


def test_missing_values_are_named_with_both_shares() -> None:
    table = healthy(250, 2)
    amount = np.where(np.arange(250) % 10 < 3, np.nan, table.numeric["amount"])
    verdict = judge(Table(250, {**table.numeric, "amount": amount}, {"amount": 75}, table.categorical))
    assert verdict.finding == "amount: 30 % of values missing (reference 0 %)"
    assert grade(verdict) == "warning"
    assert verdict.test == "rule"


def test_the_missing_share_is_judged_by_the_exact_binomial_at_the_references_limit() -> None:
    rng = np.random.default_rng(3)
    reference = Table(ROWS, {"x": np.where(np.arange(ROWS) < 20, np.nan, rng.normal(size=ROWS))}, {"x": 20})
    batch = Table(200, {"x": np.where(np.arange(200) < 25, np.nan, rng.normal(size=200))}, {"x": 25})
    doubt = DOUBT / 2
    limit = stats.binomtest(20, ROWS, 0.5, alternative="less").proportion_ci(1 - doubt, method="exact").high
    expected = stats.binomtest(25, 200, limit, alternative="greater").pvalue + doubt
    verdict = judge(batch, reference, dependence="none", looks=1)
    assert verdict.p_values is not None
    assert verdict.adjusted is not None
    assert verdict.p_values == pytest.approx([expected], rel=1e-6)
    assert verdict.adjusted == pytest.approx([2 * expected], rel=1e-6)


def test_missing_values_that_the_reference_had_too_are_no_finding() -> None:
    rng = np.random.default_rng(4)
    gone = rng.random(ROWS) < 0.2
    reference = Table(ROWS, {"x": np.where(gone, np.nan, 1.0 * np.arange(ROWS))}, {"x": int(gone.sum())})
    for seed in range(30):
        gone = np.random.default_rng(seed).random(256) < 0.2
        verdict = judge(Table(256, {"x": np.where(gone, np.nan, np.arange(256.0))}, {"x": int(gone.sum())}), reference)
        assert grade(verdict) == "none"


def test_missing_values_in_a_tiny_batch_do_not_alarm() -> None:
    assert grade(judge(Table(1, {"amount": np.array([np.nan]), "age": np.array([3.0])}, {"amount": 1},
                             {"country": category([0])}))) == "none"  # fmt: skip


def test_a_batch_inside_a_stretch_without_values_is_no_news_where_the_reference_has_such_stretches() -> None:
    """All of its rows are missing, so that by itself it says nothing of how they come together."""
    values = np.random.default_rng(0).normal(size=4000)
    for start in range(0, 4000, 2000):
        values[start : start + 200] = np.nan
    reference, gap = Table(4000, {"amount": values}), Table(200, {"amount": np.full(200, np.nan)})
    found = judge(gap, reference)
    assert found.p_values is not None
    assert found.effects[0] > 1
    assert found.p_values[0] > 0.001
    [textbook] = [judge(gap, reference, dependence="none").p_values]
    assert textbook is not None
    assert textbook[0] < 1e-8


def test_a_missing_category_counts_as_missing() -> None:
    table = healthy(200, 5)
    verdict = judge(Table(200, table.numeric, {}, {"country": category([-1, 0, -1, 1] * 50)}))
    assert "country: 50 % of values missing (reference 0 %)" in verdict.finding


def test_a_column_that_holds_nothing_is_missing_whatever_type_the_codec_guessed() -> None:
    table = healthy(200, 5)
    numeric = {**table.numeric, "country": np.full(200, np.nan)}
    verdict = judge(Table(200, numeric, {"country": 200}))
    assert verdict.finding == "country: 100 % of values missing (reference 0 %)"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_a_finding_where_the_reference_had_none(bad: float) -> None:
    table = healthy(10, 6)
    amount = table.numeric["amount"].copy()
    amount[3] = bad
    verdict = judge(with_numeric(table, amount=amount))
    assert (grade(verdict), verdict.finding) == ("warning", "amount: 1 of 10 values not finite (reference none)")
    reference = healthy(ROWS, 1)
    worse = reference.numeric["amount"].copy()
    worse[7] = np.nan
    assert grade(judge(with_numeric(table, amount=amount), with_numeric(reference, amount=worse))) == "none"


def test_a_constant_column_is_a_finding_unless_it_was_one_or_might_well_be_one() -> None:
    table, reference = healthy(256, 7), healthy(ROWS, 1)
    rare = np.zeros(ROWS)
    rare[::500] = 1.0
    constant = with_numeric(table, amount=np.full(256, 3.0))
    assert judge(constant).finding == "amount: constant over 256 rows"
    assert grade(judge(constant)) == "warning"
    assert grade(judge(constant, with_numeric(reference, amount=np.full(ROWS, 3.0)))) == "none"
    assert grade(judge(with_numeric(table, amount=np.zeros(256)), with_numeric(reference, amount=rare))) == "none"
    assert grade(judge(with_numeric(healthy(20, 7), amount=np.full(20, 3.0)))) == "none"


def test_a_constant_category_is_a_finding() -> None:
    table = healthy(256, 7)
    assert judge(Table(256, table.numeric, {}, {"country": category([1] * 256)})).finding == (
        "country: constant over 256 rows"
    )


def test_missing_and_unknown_columns_are_told_apart() -> None:
    table = healthy(100, 8)
    verdict = judge(Table(100, {"amount": table.numeric["amount"], "new": np.arange(100.0)}, {}, table.categorical))
    assert verdict.finding == "age: the column is missing; new: an unknown column"
    effects = dict(zip(verdict.columns, verdict.effects.tolist(), strict=True))
    assert effects["age"] > 1 > effects["new"] > 0
    unknown = judge(with_numeric(table, new=np.arange(100.0)))
    assert (grade(unknown), unknown.columns) == ("info", ("amount", "age", "country", "new"))


def test_a_column_that_changes_its_type_is_one_finding() -> None:
    table = healthy(100, 9)
    strings = Table(100, {"amount": table.numeric["amount"]}, {}, {**table.categorical, "age": category([0, 1] * 50)})
    assert judge(strings).finding == "age: was numeric, is categorical"
    assert grade(judge(strings)) == "warning"


def test_predictions_alone_do_not_miss_the_features() -> None:
    assert grade(judge(Table(50, predictions=softmax(50)))) == "none"


def test_predictions_that_cannot_be_are_findings() -> None:
    values = softmax(10).values.copy()
    values[0, 0] = np.nan
    verdict = judge(Table(10, predictions=Predictions("probabilities", values)))
    assert verdict.finding == "probabilities: 10 % of rows not finite (reference none)"
    doubled = judge(Table(10, predictions=Predictions("probabilities", softmax(10).values * 1.01)))
    assert "100 % of rows do not sum to 1" in doubled.finding
    negative = judge(Table(10, predictions=Predictions("probabilities", np.array([[1.5, -0.5, 0.0]] * 10))))
    assert negative.finding == "probabilities: 100 % of rows outside 0 to 1 (reference none)"
    assert {grade(v) for v in (verdict, doubled, negative)} == {"warning"}


def test_one_column_of_probabilities_need_not_sum_to_1() -> None:
    single = Table(10, predictions=Predictions("probabilities", np.full((10, 1), 0.3)))
    assert grade(judge(single, Table(50, predictions=Predictions("probabilities", np.ones((50, 1)))))) == "none"


def test_another_number_of_classes_is_a_finding() -> None:
    verdict = judge(Table(10, predictions=softmax(10, classes=4)))
    assert verdict.finding == "probabilities: 4 classes of probabilities (reference 3 of probabilities)"


def test_an_array_feature_is_checked_for_its_shape_and_for_values_that_are_not_finite() -> None:
    images = Table(20, arrays={"pixels": np.zeros((20, 4, 4))})
    broken = np.zeros((5, 4, 4))
    broken[0, 0, 0] = np.inf
    assert grade(judge(Table(5, arrays={"pixels": np.zeros((5, 4, 4))}), images)) == "none"
    assert judge(Table(5, arrays={"pixels": broken}), images).finding.startswith("pixels: 1 of 80 values not finite")
    reshaped = judge(Table(5, arrays={"pixels": np.zeros((5, 8))}), images)
    assert reshaped.finding == "pixels: was an array of (4, 4), is an array of (8,)"


def test_an_empty_batch_is_worth_a_mention() -> None:
    verdict = judge(Table(0, {"amount": np.empty(0)}))
    assert (grade(verdict), verdict.finding) == ("info", "an empty batch: no rows")


def test_silence_over_the_limit_is_a_rule() -> None:
    verdict = no_data_verdict("quality", 1000.0, 900.0, Window(4, 4, 10))
    assert (grade(verdict), verdict.finding) == ("warning", "no data for 1000 s (limit 900 s)")


def test_clustered_missing_values_weigh_less_than_scattered_ones() -> None:
    rng = np.random.default_rng(1)
    reference = Table(ROWS, {"x": rng.normal(size=ROWS)})
    scattered, clustered = np.arange(200.0), np.arange(200.0)
    scattered[rng.permutation(200)[:20]] = np.nan
    clustered[90:110] = np.nan
    p_values = [judge(Table(200, {"x": x}, {"x": 20}), reference).p_values for x in (scattered, clustered)]
    assert p_values[0] is not None
    assert p_values[1] is not None
    assert p_values[0][0] < p_values[1][0]
