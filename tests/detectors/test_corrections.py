"""Corrections for many columns, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from streamd.detectors.corrections import Correction, adjust

METHODS: list[Correction] = ["bonferroni", "benjamini_hochberg"]


def test_bonferroni_multiplies_by_the_number_of_columns_and_stops_at_one() -> None:
    assert adjust(np.array([0.01, 0.2, 0.5]), "bonferroni").tolist() == pytest.approx([0.03, 0.6, 1.0])


def test_benjamini_hochberg_is_scipys_false_discovery_control() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 7, 400):
        p_values = np.round(rng.random(k) ** 3, 3)  # rounded, so that there are ties
        np.testing.assert_allclose(
            adjust(p_values, "benjamini_hochberg"), false_discovery_control(p_values), rtol=1e-12
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_column_that_was_not_judged_stays_nan_and_is_not_counted(method: Correction) -> None:
    p_values = np.array([0.01, np.nan, 0.04, np.nan, 0.03])
    adjusted = adjust(p_values, method)
    judged = ~np.isnan(p_values)
    assert np.isnan(adjusted).tolist() == (~judged).tolist()
    np.testing.assert_array_equal(adjusted[judged], adjust(p_values[judged], method))


@pytest.mark.parametrize("method", METHODS)
def test_no_column_at_all_gives_no_p_value_at_all(method: Correction) -> None:
    assert adjust(np.empty(0), method).shape == (0,)
    assert np.isnan(adjust(np.full(2, np.nan), method)).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_input_is_left_as_it_was(method: Correction) -> None:
    p_values = np.array([0.5, 0.01])
    p_values.flags.writeable = False
    assert not np.shares_memory(adjust(p_values, method), p_values)
