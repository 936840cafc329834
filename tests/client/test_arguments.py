"""What a producer refuses at once, and in which words."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from streamd.client.arguments import check_rows, check_stream, epoch_ms, slice_rows


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
