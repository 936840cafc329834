from __future__ import annotations

import json
import math

import numpy as np
import pytest

from streamd.fitting.base import FitError
from streamd.fitting.preparation import array_transform
from streamd.scorers.arrays import ArrayTransform
from streamd.table import Table


def table(array: np.ndarray, name: str = "x") -> Table:
    return Table(len(array), arrays={name: array})


@pytest.mark.parametrize(
    ("reads", "sent", "read"),
    [
        ("images", (28, 20), (1, 28, 20)),
        ("images", (3, 28, 20), (3, 28, 20)),
        ("windows", (50,), (1, 50)),
        ("windows", (50, 4), (4, 50)),
    ],
)
def test_channels_come_first(reads: str, sent: tuple[int, ...], read: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=(7, *sent))
    transform = array_transform(table(array), reads)  # type: ignore[arg-type]
    assert transform.shape == read
    assert transform(table(array)).shape == (7, *read)
    assert transform.inputs == math.prod(sent)


def test_each_channel_is_scaled_by_itself() -> None:
    array = np.random.default_rng(0).normal([5.0, -100.0], [2.0, 30.0], size=(400, 10, 2))  # (rows, time, channels)
    standard = array_transform(table(array), "windows", scaling="standard")(table(array))
    np.testing.assert_allclose(standard.mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=(0, 2)), 1, atol=1e-5)
    bounded = array_transform(table(array), "windows")(table(array))
    np.testing.assert_allclose(bounded.min(axis=(0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(bounded.max(axis=(0, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(bounded[3, 1], (array[3, :, 1] - array[..., 1].min()) / np.ptp(array[..., 1]), rtol=1e-5)


def test_missing_is_the_mean_and_infinite_is_the_bound() -> None:
    array = np.array([[0.0, 1.0, 2.0], [4.0, 3.0, 2.0]])
    transform = array_transform(table(array), "windows", bound=5)
    live = transform(table(np.array([[math.nan, math.inf, -math.inf]])))
    np.testing.assert_allclose(live, [[[0.5, 5, -5]]])


def test_a_row_without_a_value_is_unknown_and_so_are_all_rows_of_another_shape() -> None:
    transform = array_transform(table(np.ones((3, 4))), "windows")
    assert transform.unknown_rows(table(np.ones((2, 4)))) is None
    mixed = transform.unknown_rows(table(np.array([[math.nan] * 4, [1, math.nan, 1, 1]])))
    assert mixed is not None
    assert mixed.tolist() == [True, False]
    for other in (table(np.ones((2, 5))), table(np.ones((2, 4)), "y"), Table(2)):
        unknown = transform.unknown_rows(other)
        assert unknown is not None
        assert unknown.all()
        assert transform(other).shape == (2, 1, 4)


def test_it_is_read_again_from_its_parts() -> None:
    array = np.random.default_rng(0).normal(size=(5, 6, 2))
    transform = array_transform(table(array), "windows")
    again = ArrayTransform.from_parts(json.loads(json.dumps(transform.described())), transform.tensors())
    np.testing.assert_array_equal(again(table(array)), transform(table(array)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Table(3), "there is none"),
        (Table(3, arrays={"x": np.ones((3, 2)), "y": np.ones((3, 2))}), "name one"),
        (table(np.ones((3, 4))), r"shape \(4,\); images are \(height, width\)"),
        (table(np.ones((0, 4, 4))), "no rows"),
        (table(np.full((3, 4, 4), math.nan)), "without a single finite value"),
    ],
)
def test_what_is_no_image_is_refused_with_a_sentence(given: Table, why: str) -> None:
    with pytest.raises(FitError, match=why):
        array_transform(given, "images")


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(FitError, match=r"no n-dimensional column 'y'; there are \['x'\]"):
        array_transform(table(np.ones((3, 4, 4))), "images", column="y")


def test_constant_images_are_all_zeros() -> None:
    assert not array_transform(table(np.full((3, 4, 4), 7.0)), "images")(table(np.full((3, 4, 4), 7.0))).any()
