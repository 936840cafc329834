"""The worst rows: the test of the model's confidence, and what drove each."""

from __future__ import annotations

import itertools
from math import factorial

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import mannwhitneyu

from streamd.fitting.badcases import Reason, confidences, doubt, importance, reasons, worst_rows
from streamd.fitting.base import FitError
from streamd.fitting.shapley import shapley_values
from streamd.table import Categorical, Table

GENERATOR = np.random.default_rng(0)


class Known:
    """A scorer whose Shapley values can be worked out; two of its features act together."""

    features = ("a", "b", "c", "d")

    def score(self, table: Table) -> Known:
        a, b, d = (np.nan_to_num(table.numeric[name]) for name in "abd")
        self.values = 3 * a**2 + a * b + d + 5.0 * (table.categorical["c"].codes == 1)
        return self

    def explain(self, rows):
        raise AssertionError


def drawn(rows: int) -> Table:
    codes = GENERATOR.integers(-1, 2, rows).astype(np.int32)
    numeric = {name: GENERATOR.normal(size=rows) for name in "abd"}
    return Table(rows, numeric, categorical={"c": Categorical(codes, ("x", "y"))})


def exact(rows: Table, background: Table) -> np.ndarray:
    """Shapley's formula, all coalitions counted: (features, rows)."""
    names, values = Known.features, np.zeros((4, rows.rows))

    def worth(row: int, taken: tuple[str, ...]) -> float:
        numeric = {n: np.full(background.rows, rows.numeric[n][row]) if n in taken else background.numeric[n]
                   for n in "abd"}  # fmt: skip
        codes = background.categorical["c"].codes
        codes = np.full(background.rows, rows.categorical["c"].codes[row]) if "c" in taken else codes
        return float(Known().score(Table(background.rows, numeric, categorical={
            "c": Categorical(codes.astype(np.int32), ("x", "y"))})).values.mean())  # fmt: skip

    for row, (i, name) in itertools.product(range(rows.rows), enumerate(names)):
        others = [n for n in names if n != name]
        for size in range(4):
            weight = factorial(size) * factorial(3 - size) / factorial(4)
            for taken in itertools.combinations(others, size):
                values[i, row] += weight * (worth(row, (*taken, name)) - worth(row, taken))
    return values


def test_shapley_values_add_up_and_are_exact_where_no_three_features_act_together():
    rows, background = drawn(4), drawn(30)
    found = shapley_values(Known(), rows, background, Known.features)
    gap = Known().score(rows).values - Known().score(background).values.mean()
    np.testing.assert_allclose(found.sum(axis=0), gap, atol=1e-12)
    np.testing.assert_allclose(found, exact(rows, background), atol=1e-12)
    np.testing.assert_array_equal(shapley_values(Known(), rows, background, Known.features), found)


def test_shapley_values_leave_the_global_generator_alone():
    state = np.random.get_state()[1].copy()
    shapley_values(Known(), drawn(2), drawn(10), Known.features)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_the_test_of_confidence_is_mann_whitneys():
    confidence = np.round(GENERATOR.beta(5, 1, 1_000), 2)
    worst = np.arange(0, 1_000, 17)
    confidence[worst] -= 0.05
    found = doubt(confidence, worst, memory_rows=1.0)
    rest = np.delete(confidence, worst)
    peer = mannwhitneyu(confidence[worst], rest, alternative="less", method="asymptotic", use_continuity=False)
    assert found is not None
    assert found.p_value == pytest.approx(peer.pvalue)
    pairs = np.sign(confidence[worst][:, None] - rest)
    assert found.delta == pytest.approx(pairs.mean())
    assert "is less sure on the worst rows" in found.sentence


def test_rows_that_resemble_each_other_make_the_p_value_larger():
    confidence = GENERATOR.beta(5, 1, 1_000)
    confidence[:50] *= 0.9
    plain, careful = (doubt(confidence, np.arange(50), memory) for memory in (1.0, 4.0))
    assert plain.p_value < careful.p_value


def test_confidence_that_is_not_lower_is_called_so():
    confidence = GENERATOR.uniform(size=1_000)
    assert "as sure on the worst rows as elsewhere" in doubt(confidence, np.argsort(-confidence)[:50]).sentence
    constant = doubt(np.ones(1_000), np.arange(50))
    assert (constant.p_value, constant.delta) == (1.0, 0.0)


def test_too_few_confidences_are_no_test():
    assert doubt(np.ones(100), np.arange(4)) is None
    assert doubt(np.full(100, np.nan), np.arange(50)) is None


def test_confidence_is_the_highest_probability_whatever_the_model_gives():
    logits = GENERATOR.normal(size=(50, 3)) * 4
    np.testing.assert_allclose(confidences(logits), softmax(logits, axis=1).max(axis=1))
    np.testing.assert_allclose(confidences(softmax(logits, axis=1)), softmax(logits, axis=1).max(axis=1))
    np.testing.assert_allclose(confidences(np.array([0.2, 0.9])), [0.8, 0.9])
    np.testing.assert_allclose(confidences(np.array([[-3.0], [0.0]]), "logits"), [1 / (1 + np.exp(-3)), 0.5])
    assert np.isnan(confidences(np.array([[0.5, np.nan], [0.5, 0.5]]))[0])


def test_the_worst_rows_are_the_highest_scores_and_a_missing_score_is_none():
    scores = np.array([1.0, np.nan, 5.0, 3.0, 2.0])
    assert worst_rows(scores, 0.5).tolist() == [2, 3]
    assert worst_rows(scores, 0.01).tolist() == [2]
    with pytest.raises(FitError, match="none of 3 rows has a score"):
        worst_rows(np.full(3, np.nan), 0.05)


def test_at_most_two_features_are_named_and_none_that_did_little():
    table = Table(2, {"age": np.array([120.0, 30.0]), "pay": np.array([1.0, np.nan]), "x": np.zeros(2)})
    added = np.array([[8.0, 3.0], [1.9, 4.0], [0.1, 3.0]])
    first, second = reasons(table, ("age", "pay", "x"), added)
    assert first == (Reason("age", 120.0, 0.8), Reason("pay", 1.0, 0.19))
    assert [each.wording() for each in second] == ["pay is missing", "age = 30"]
    assert list(importance(("age", "pay", "x"), added)) == ["age", "pay", "x"]


def test_a_row_whose_score_nothing_drove_up_has_no_reason():
    assert reasons(Table(1, {"a": np.zeros(1)}), ("a",), np.array([[-2.0]])) == [()]
