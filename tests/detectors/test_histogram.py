"""A column's reference and window as bars."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from streamd.detectors.base import Detector, Reference
from streamd.detectors.chi2 import Chi2Config
from streamd.detectors.entropy import EntropyConfig
from streamd.detectors.histogram import BARS, CATEGORIES_MAX, Histogram, Pictured, of_categories, of_numbers
from streamd.detectors.ks import KsConfig
from streamd.model import FeatureBatch
from streamd.table import Categorical, Predictions, Table


def of(detector: Detector, column: str) -> Histogram:
    assert isinstance(detector, Pictured)
    shown = detector.histogram(column)
    assert shown is not None
    return shown


def ks(reference: np.ndarray, *windows: np.ndarray) -> Detector:
    config = KsConfig(type="ks", window_rows=500, reference_rows_max=max(2, len(reference)))
    table = Table(len(reference), {"x": reference})
    detector = config.build("ks", config.profile(Reference(table, table.sha256(), "batches")))
    for offset, values in enumerate(windows):
        detector.update(FeatureBatch("s", 0, offset, Table(len(values), {"x": values})))
    return detector


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """numpy's own histogram, with what is outside of its edges at either end."""
    present = values[~np.isnan(values)]
    inside, _ = np.histogram(present, edges)
    return np.array([(present < edges[0]).sum(), *inside, (present > edges[-1]).sum()]) / len(present)


@pytest.mark.parametrize("draw", [np.random.Generator.normal, np.random.Generator.standard_cauchy])
def test_the_reference_has_the_bars_that_numpy_counts(draw: Callable[..., np.ndarray]) -> None:
    values = draw(np.random.default_rng(0), size=3000)
    shown = of(ks(values), "x")
    assert shown.reference_rows == 3000
    assert len(shown.edges) == BARS + 1
    np.testing.assert_allclose(shown.reference, counted(values, shown.edges))
    assert shown.reference[0] <= 0.006
    assert shown.reference[-1] <= 0.006


def test_the_window_has_the_bars_that_numpy_counts_but_for_values_beside_an_edge() -> None:
    rng = np.random.default_rng(1)
    reference, values = rng.normal(size=3000), rng.normal(1.0, 2.0, size=500)
    values[::10] = np.nan
    shown = of(ks(reference, values), "x")
    assert shown.window_rows == 450
    np.testing.assert_allclose(shown.window, counted(values, shown.edges), atol=4 / 450)
    assert shown.window.sum() == pytest.approx(1.0)


def test_the_window_slides_and_is_shown_before_it_is_full() -> None:
    rng = np.random.default_rng(2)
    low, high = rng.uniform(0.0, 0.5, 300), rng.uniform(0.5, 1.0, 500)
    reference = rng.uniform(size=3000)
    filling, slid = of(ks(reference, low), "x"), of(ks(reference, low, high), "x")
    middle = (BARS + 2) // 2
    assert (filling.window_rows, filling.window[:middle].sum() > 0.95) == (300, True)
    assert (slid.window_rows, slid.window[:middle].sum() < 0.05) == (500, True)


def test_few_values_have_a_bar_each_and_one_for_all_others() -> None:
    shown = of(ks(np.repeat([1.0, 2.0, 5.0], 100), np.array([1.0, 5.0, 5.0, 3.0])), "x")
    assert shown.labels == ("1", "2", "5", "other values")
    assert shown.window.tolist() == [0.25, 0.0, 0.5, 0.25]


@pytest.mark.parametrize(
    "values",
    [
        np.full(1000, 3.0),
        np.append(np.zeros(2995), np.arange(100.0)),
        np.append(np.arange(100.0), [np.inf, -np.inf]),
        np.append(np.arange(100.0), [1.7e308, -1.7e308]),
        np.full(1000, np.nan),
    ],
    ids=["constant", "nearly constant", "infinite", "huge", "missing"],
)
def test_no_reference_breaks_the_bars(values: np.ndarray) -> None:
    detector = ks(values, np.array([0.0, np.inf, -np.inf, np.nan, 1e308, 3.0]))
    assert isinstance(detector, Pictured)
    shown = detector.histogram("x")
    if shown is None:
        return
    assert np.isfinite(shown.edges).all()
    assert shown.window.sum() == pytest.approx(1.0)
    assert len(shown.window) == len(shown.reference) == (len(shown.labels) or len(shown.edges) + 1)


def test_a_column_that_is_not_compared_has_no_histogram() -> None:
    detector = ks(np.arange(100.0))
    assert isinstance(detector, Pictured)
    assert detector.histogram("y") is None


def test_categories_are_shown_with_the_largest_first_and_the_unseen_last() -> None:
    config = Chi2Config(type="chi2")
    column = Categorical(np.repeat([0, 1], [300, 700]).astype(np.int32), ("a", "b"))
    reference = Table(1000, categorical={"c": column})
    detector = config.build("chi2", config.profile(Reference(reference, reference.sha256(), "batches")))
    codes = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, -1], np.int32)
    detector.update(FeatureBatch("s", 0, 0, Table(10, categorical={"c": Categorical(codes, ("a", "b", "new"))})))
    shown = of(detector, "c")
    assert shown.labels == ("a", "b", "never seen before")
    assert shown.reference.tolist() == [0.3, 0.7, 0.0]
    np.testing.assert_allclose(shown.window, np.array([7, 1, 1]) / 9)


def test_many_categories_are_the_largest_and_the_rest() -> None:
    counts = np.arange(40, 0, -1)
    shown = of_categories("c", [f"c{i}" for i in range(39)], counts, counts * 0)
    assert shown.labels == (*(f"c{i}" for i in range(CATEGORIES_MAX)), "27 others", "never seen before")
    assert shown.reference.sum() == pytest.approx(1.0)
    assert (shown.window.sum(), shown.window_rows) == (0.0, 0)


def test_a_score_has_a_histogram_as_a_feature_has() -> None:
    rng = np.random.default_rng(0)
    config = EntropyConfig(type="entropy")
    reference = Table(1000, predictions=Predictions("logits", rng.normal(size=(1000, 3))))
    detector = config.build("entropy", config.profile(Reference(reference, reference.sha256(), "batches")))
    assert isinstance(detector, Pictured)
    outcomes = detector.update(FeatureBatch("s", 0, 0, reference))
    shown = of(detector, outcomes[0].columns[0])
    assert shown.window_rows == 1000
    np.testing.assert_allclose(shown.window, shown.reference)


def test_an_empty_reference_has_no_bars() -> None:
    assert of_numbers("x", np.empty(0), np.empty(0, int), np.empty(0, int), 65535) is None
