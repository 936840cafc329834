"""What the page draws: everything that is there, in few bytes, and nothing that could end its script element."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from screenings import BUCKETS, ROWS, STRANGE, categorical, clean, numeric, screening

import streamd.screening
from streamd.screening.model import Axis, Column, Screening, Series
from streamd.screening.page_data import BYTES_MAX, NUMBERS, OUTLIERS_MAX, POINTS_MAX, page_data


def told(found: Screening) -> dict[str, Any]:
    return dict(orjson.loads(page_data(found)))


def test_each_column_has_its_figures_and_pictures_in_the_order_of_the_data() -> None:
    found = screening()
    columns = told(found)["columns"]
    assert [column["name"] for column in columns] == ["at", "amount", "age", "country", "embedding"]
    amount = columns[1]
    assert amount["numbers"][NUMBERS.index("maximum")] == 1e6
    assert sum(amount["histogram"]["counts"]) == ROWS
    assert amount["worst"][0] == [17, 1e6]
    assert columns[3]["categories"][0] == ["DE", 9_000]
    assert columns[2]["missing"] == 1_204


def test_what_is_not_finite_is_null() -> None:
    assert told(screening())["columns"][0]["numbers"][NUMBERS.index("tail_index")] is None
    mean = told(screening())["columns"][1]["series"]["mean"]
    assert mean[30:34] == [None] * 4


def test_the_farthest_values_are_marked_and_only_those_beyond_the_fences() -> None:
    found = screening()
    numbers = found.columns[1].numbers
    assert numbers is not None
    low, high = numbers.fences
    within = replace(numbers, worst=(*numbers.worst, (5, numbers.median)))
    found = replace(found, columns=(found.columns[0], replace(found.columns[1], numbers=within)))
    marked = told(found)["columns"][1]["outliers"]
    assert 1e6 in marked
    assert all(not low <= value <= high for value in marked)
    assert len(marked) <= OUTLIERS_MAX


def test_the_numbers_stand_in_the_order_in_which_the_script_reads_them() -> None:
    script = (Path(streamd.screening.__file__).parent / "page.js").read_text()
    listed = script.partition("const NUMBERS = [")[2].partition("]")[0]
    assert re.findall(r"'(\w+)'", listed) == list(NUMBERS)


def long_series(buckets: int, outside: tuple[int, ...]) -> Screening:
    mean = np.zeros(buckets)
    mean[list(outside)] = 9.0
    band = np.full(buckets, 1.0)
    series = Series(np.full(buckets, 10), mean, -band, band, outside, np.empty(0))
    column = replace(numeric("amount", 1), series=series)
    return Screening("x", ROWS, (column,), (), Axis("rows", 0.0, 10.0, buckets))


def test_a_long_series_is_shortened_and_what_lies_outside_is_still_seen() -> None:
    series = told(long_series(5_003, (700, 4_999)))["columns"][0]["series"]
    assert len(series["mean"]) <= POINTS_MAX
    assert series["step"] == -(-5_003 // POINTS_MAX)
    assert series["outside"] == [700 // series["step"], 4_999 // series["step"]]
    assert [series["mean"][place] for place in series["outside"]] == [9.0, 9.0]
    assert sum(value == 0.0 for value in series["mean"]) == len(series["mean"]) - 2


def test_a_short_series_is_as_it_is() -> None:
    found = screening()
    series = told(found)["columns"][1]["series"]
    assert series["step"] == 1
    np.testing.assert_allclose(
        np.array(series["mean"], float), found.columns[1].series.mean, rtol=1e-4  # type: ignore[union-attr]
    )  # fmt: skip


def test_the_highest_count_of_different_values_survives_shortening_on_the_axis_of_categories() -> None:
    distinct = np.full(1_000, 5.0)
    distinct[777] = 200.0
    column = categorical("country")
    assert column.series is not None
    column = replace(column, series=replace(column.series, distinct=distinct, rows=np.ones(1_000, int), outside=()))
    axis = Axis("time", 0.0, 3_600.0, 24_000, 24)
    series = told(Screening("x", ROWS, (column,), (), axis))["columns"][0]["series"]
    assert max(series["distinct"]) == 200.0
    assert series["step"] == 24 * -(-1_000 // POINTS_MAX)


def test_no_text_can_end_the_script_element() -> None:
    found = screening(name=f"</script>{STRANGE}")
    assert b"<" not in page_data(found)
    assert told(found)["columns"][1]["name"] == f"</script>{STRANGE}"


def test_names_and_values_are_cut() -> None:
    column = Column("n" * 10**6, "categorical", "string", 1, 0, 1, True, categories=(("v" * 10**6, 1),))
    assert len(page_data(Screening("x", 1, (column,), ()))) < 1_000


@pytest.mark.slow
def test_ten_thousand_columns_stay_small_and_those_of_the_gravest_findings_keep_their_pictures() -> None:
    found = screening()
    many = tuple(replace(found.columns[1], name=f"like_{i}") for i in range(10_000))
    found = replace(found, columns=(*many, *found.columns))
    data = page_data(found)
    assert len(data) < BYTES_MAX + 3_500_000
    columns = {column["name"]: column for column in orjson.loads(data)["columns"]}
    assert len(columns) == 10_005
    assert "series" in columns["age"]
    assert "series" in columns["country"]
    assert columns["like_9999"]["shortened"]
    assert "series" not in columns["like_9999"]


def test_without_an_axis_there_are_no_series() -> None:
    found = told(clean())
    assert found["axis"] is None
    assert "series" not in found["columns"][0]
    assert told(screening())["axis"]["buckets"] == BUCKETS


def test_a_time_has_no_mean_over_time() -> None:
    found = screening()
    moving = replace(found.columns[0], series=found.columns[1].series)
    assert "series" not in told(replace(found, columns=(moving,)))["columns"][0]
