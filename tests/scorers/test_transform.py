from __future__ import annotations

import json
import math

import numpy as np
import pytest

from streamd.scorers.transform import Transform, learn_transform
from streamd.table import Categorical, Table


def categorical(values: list[str | None]) -> Categorical:
    names = tuple(dict.fromkeys(v for v in values if v is not None))
    return Categorical(np.array([-1 if v is None else names.index(v) for v in values], dtype=np.int32), names)


def reference() -> Table:
    return Table(
        4,
        {"age": np.array([10.0, 20.0, 30.0, 40.0]), "constant": np.full(4, 7.0)},
        categorical={"country": categorical(["FR", "DE", "DE", "IT"])},
    )


def test_numbers_are_standardised_and_categories_get_an_input_each() -> None:
    transform = learn_transform(reference(), bound=10, categories_max=20)
    assert transform.categorical == (("country", ("DE", "FR", "IT")),)
    deviation = math.sqrt(125)
    expected = np.array(
        [
            [-15 / deviation, -5 / deviation, 5 / deviation, 15 / deviation],
            [0, 0, 0, 0],
            [0, 1, 1, 0],
            [1, 0, 0, 0],
            [0, 0, 0, 1],
        ],
        dtype=np.float32,
    )
    np.testing.assert_array_equal(transform(reference()), expected)
    assert transform.features == ("age", "constant", "country")
    assert transform.owners.tolist()[:3] == [0, 1, 2]


def test_missing_is_the_mean_infinite_is_the_bound_and_an_unseen_category_is_all_zeros() -> None:
    transform = learn_transform(reference(), bound=3, categories_max=20)
    live = Table(
        4,
        {"age": np.array([math.nan, math.inf, -math.inf, 1e308]), "constant": np.array([7.0, 8.0, 1e9, math.nan])},
        categorical={"country": categorical(["DE", "XX", None, "FR"])},
    )
    expected = [[0, 3, -3, 3], [0, 1, 3, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert expected == transform(live).tolist()


def test_the_same_rows_give_the_same_inputs_whatever_order_their_categories_are_listed_in() -> None:
    transform = learn_transform(reference(), bound=10, categories_max=20)
    ages = {"age": np.zeros(3), "constant": np.zeros(3)}
    forwards = Table(3, ages, categorical={"country": Categorical(np.array([0, 1, 2], np.int32), ("IT", "DE", "FR"))})
    backwards = Table(3, ages, categorical={"country": Categorical(np.array([2, 0, 1], np.int32), ("DE", "FR", "IT"))})
    np.testing.assert_array_equal(transform(forwards), transform(backwards))


def test_a_column_that_is_not_there_is_missing_in_every_row() -> None:
    transform = learn_transform(reference(), bound=10, categories_max=20)
    assert not transform(Table(2)).any()


def test_only_the_commonest_categories_get_an_input() -> None:
    transform = learn_transform(reference(), bound=10, categories_max=2)
    assert transform.categorical == (("country", ("DE", "FR")),)


def test_a_monstrous_value_in_the_reference_spoils_neither_mean_nor_scale() -> None:
    ages = np.array([1.0, 2.0, 3.0, 1e308, -math.inf, math.nan])
    transform = learn_transform(Table(6, {"age": ages}), bound=10, categories_max=20)
    assert transform.means.tolist() == [2.0]
    np.testing.assert_allclose(transform.scales, math.sqrt(2 / 3))


def test_columns_without_a_value_are_left_out() -> None:
    empty = Table(2, {"age": np.full(2, np.nan)}, categorical={"country": categorical([None, None])})
    assert learn_transform(empty, bound=10, categories_max=20).inputs == 0


def test_a_row_is_unknown_when_all_of_its_columns_are_missing() -> None:
    transform = learn_transform(reference(), bound=10, categories_max=20)
    live = Table(
        4,
        {"age": np.array([math.nan, 1.0, math.nan, math.nan]), "constant": np.array([math.nan] * 3 + [1.0])},
        categorical={"country": categorical([None, None, "XX", None])},
    )
    unknown = transform.unknown_rows(live)
    assert unknown is not None
    assert unknown.tolist() == [True, False, False, False]
    assert transform.unknown_rows(reference()) is None
    nothing = transform.unknown_rows(Table(3))
    assert nothing is not None
    assert nothing.all()


def test_min_max_scaling_goes_from_0_to_1_and_a_missing_number_is_the_median_with_an_indicator() -> None:
    table = Table(5, {"age": np.array([10.0, 12.0, 20.0, math.nan, 30.0]), "whole": np.arange(5.0)})
    transform = learn_transform(table, 10, 20, scaling="minmax", imputing="median", indicators=True)
    expected = [[0, 0.1, 0.5, 0.3, 1], [0, 0.25, 0.5, 0.75, 1], [0, 0, 0, 1, 0]]
    np.testing.assert_allclose(transform(table), expected, atol=1e-7)
    assert transform.indicated == ("age",)
    assert transform.owners.tolist() == [0, 1, 0]


def test_a_category_that_may_be_missing_has_an_indicator_that_one_never_seen_does_not_set() -> None:
    table = Table(3, {}, categorical={"country": categorical(["FR", "DE", None])})
    transform = learn_transform(table, 10, 20, indicators=True)
    live = Table(3, {}, categorical={"country": categorical(["XX", None, "DE"])})
    assert transform(live).tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_the_inputs_of_a_feature_are_summed_with_its_indicator() -> None:
    table = Table(
        4,
        {"age": np.array([1.0, math.nan, 3.0, 4.0]), "whole": np.arange(4.0)},
        categorical={"country": categorical(["FR", "DE", None, "FR"])},
    )
    transform = learn_transform(table, 10, 20, indicators=True)
    assert transform.features == ("age", "whole", "country")
    per_input = np.array([[1], [2], [4], [8], [16], [32]])  # age, whole, FR, DE, age missing, country missing
    assert transform.by_feature(per_input).tolist() == [[17], [2], [44]]


def test_a_transform_is_read_again_from_its_parts() -> None:
    table = Table(3, {"age": np.array([1.0, math.nan, 3.0])}, categorical={"country": categorical(["FR", None, "DE"])})
    transform = learn_transform(table, 10, 20, scaling="minmax", indicators=True)
    again = Transform.from_parts(json.loads(json.dumps(transform.described())), transform.tensors())
    np.testing.assert_array_equal(again(table), transform(table))
    with pytest.raises(ValueError, match="1 numeric columns have 2 means"):
        Transform.from_parts(transform.described(), {**transform.tensors(), "transform.means": np.zeros(2)})
