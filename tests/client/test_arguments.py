"""What a producer refuses at once, and in which words."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from streamd.client.arguments import check_rows, check_stream, epoch_ms, parts_of, row_times, slice_rows


@pytest.mark.parametrize(
    ("stream", "error"), [(7, TypeError), ("", ValueError), ("a\n", ValueError), ("a" * 201, ValueError)]
)
def test_what_is_no_stream_name_is_refused(stream: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="stream"):
        check_stream(stream)


def test_a_stream_name_may_hold_any_printable_characters() -> None:
    check_stream("betrug/ü 7 – Übung")


@pytest.mark.parametrize(
    ("features", "predictions", "rows"),
    [
        ({"a": [1, 2], "b": np.zeros(2)}, None, 2),
        ([{"a": 1}, {"a": 2}, {"a": 3}], None, 3),
        (np.zeros((4, 2)), np.zeros((4, 3)), 4),
        (None, [[0.1, 0.9]], 1),
        ({}, [[0.1, 0.9]], 1),
    ],
)
def test_the_rows_are_counted_in_whatever_form_they_come(features: Any, predictions: Any, rows: int) -> None:
    assert check_rows(features, predictions, None, None) == rows


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (({"a": [1, 2], "b": [1]}, None, None, None), ValueError, "column 'a' has 2 rows, column 'b' has 1"),
        (({"a": [1]}, [[1.0], [2.0]], None, None), ValueError, "logits has 2"),
        (({"a": [1]}, None, None, ["x", "y"]), ValueError, "ids has 2"),
        (({"a": 12.5}, None, None, None), TypeError, "column 'a' must hold one value a row.*float"),
        (({"a": "DE"}, None, None, None), TypeError, "column 'a' must hold one value a row.*str"),
        (({"a": [1]}, [[1.0]], [[1.0]], None), ValueError, "not both"),
        ((None, None, None, None), ValueError, "needs features"),
    ],
)
def test_what_makes_no_batch_is_refused_with_what_is_wrong(
    arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_rows(*arguments)


def test_rows_of_a_frame_are_cut_by_place_and_not_by_label() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.0, 3.0]}, index=[2, 1, 0])
    assert slice_rows(frame, 1, 3)["x"].tolist() == [2.0, 3.0]
    assert slice_rows({"x": frame["x"]}, 0, 1)["x"].tolist() == [1.0]


def test_a_datetime_is_taken_with_its_zone() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert epoch_ms(datetime.datetime(1970, 1, 1, 2, 0, 0, 5000, zone)) == 5
    assert epoch_ms(1_763_769_600_123) == 1_763_769_600_123
    assert epoch_ms(None) is None


BERLIN = datetime.timezone(datetime.timedelta(hours=1))
MOMENT = datetime.datetime(2026, 1, 1, 1, 0, 0, 5000, BERLIN)
MOMENT_MS = 1_767_225_600_005


@pytest.mark.slow
@pytest.mark.parametrize("library", ["list", "numpy", "pandas", "polars", "pyarrow", "torch"])
def test_a_column_of_times_may_come_from_any_library(library: str) -> None:
    column: Any = [MOMENT, MOMENT_MS]
    if library == "numpy":
        column = np.array([MOMENT_MS, MOMENT_MS])
    elif library == "torch":
        column = pytest.importorskip("torch").tensor([MOMENT_MS, MOMENT_MS])
    elif library == "pandas":
        column = pytest.importorskip("pandas").Series([MOMENT, MOMENT], index=[7, 3])
    elif library == "polars":
        column = pytest.importorskip("polars").Series([MOMENT, MOMENT])
    elif library == "pyarrow":
        column = pytest.importorskip("pyarrow").array([MOMENT, MOMENT])
    assert row_times(column, 2) == [MOMENT_MS, MOMENT_MS]


@pytest.mark.parametrize(
    ("ts", "error", "words"),
    [
        ([MOMENT_MS], ValueError, "there are 2 rows, and ts has 1 times"),
        ("2026-01-01", TypeError, "ts must hold one value a row"),
        ([MOMENT, None], ValueError, "row 1 has no time"),
        ([MOMENT_MS, float("nan")], ValueError, "row 1 has no time"),
        ([MOMENT_MS, 1.5], TypeError, "epoch milliseconds"),
        ([MOMENT, MOMENT.replace(tzinfo=None)], ValueError, "no time zone"),
        (np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]"), ValueError, "no time zone"),
    ],
)
def test_what_is_no_column_of_times_is_refused(ts: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        row_times(ts, 2)


def test_times_of_pandas_without_a_zone_or_missing_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="no time zone"):
        row_times(pandas.to_datetime(pandas.Series(["2026-01-01", "2026-01-02"])), 2)
    with pytest.raises(ValueError, match="row 1 has no time"):
        row_times(pandas.Series([MOMENT, None]), 2)


def test_parts_are_of_one_hour_and_not_too_long_and_hold_every_row_once() -> None:
    """As many as each hour's rows need by themselves."""
    times = np.sort(np.random.default_rng(0).integers(0, 20 * 3_600_000, 500)).tolist()
    parts = parts_of(500, 20, times)
    assert [row for first, last in parts for row in range(first, last)] == list(range(500))
    assert max(last - first for first, last in parts) == 20
    for first, last in parts:
        assert times[first] // 3_600_000 == times[last - 1] // 3_600_000
    assert len(parts) == sum(-(-int(rows) // 20) for rows in np.bincount(np.array(times) // 3_600_000))
    assert parts_of(7, 3, None) == [(0, 3), (3, 6), (6, 7)]


def test_more_parts_than_the_daemon_takes_are_refused() -> None:
    hours = [hour * 3_600_000 for hour in range(10_001)]
    assert len(parts_of(10_000, 100, hours[1:])) == 10_000
    with pytest.raises(ValueError, match="10,001 parts, and the daemon takes 10,000: each has one hour"):
        parts_of(10_001, 100, hours)
    with pytest.raises(ValueError, match="send more rows in one"):
        parts_of(10_001, 1, None)
