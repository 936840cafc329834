"""Findings as sentences."""

from __future__ import annotations

import numpy as np

from streamd.detectors.wording import drifted

NAN = np.nan


def test_the_largest_effects_are_named_first_and_the_rest_are_counted() -> None:
    effects = np.array([0.3, 0.1, 0.9, 0.5, 0.4, 0.25])
    found = drifted(list("abcdef"), effects, np.zeros(6), effects, 0.2, ["up"] * 6, "KS D", 1000)
    named = [found.index(f"{name} drifted up (KS D=") for name in "cde"]
    assert named == sorted(named)
    assert found.endswith(" and 2 more")


def test_a_large_effect_by_chance_and_a_sure_trifle_are_no_drift() -> None:
    effects = np.array([0.9, 0.1])
    found = drifted(["a", "b"], effects, np.array([0.3, 0.0]), effects, 0.2, ["up", "up"], "KS D", 10)
    assert found == "no drift over 10 rows (largest KS D=0.9 in a)"


def test_a_rule_without_p_value_shows_none() -> None:
    found = drifted(["a"], np.array([7.0]), None, np.array([7.0]), 3.0, ["changed"], "z", 10)
    assert found == "a changed (z=7 over 10 rows)"


def test_columns_that_could_not_be_judged_are_passed_over() -> None:
    nothing = np.full(2, NAN)
    assert (
        drifted(["a", "b"], nothing, nothing, nothing, 0.2, ["up"] * 2, "D", 5) == "nothing could be judged over 5 rows"
    )
    one = np.array([NAN, 0.5])
    assert (
        drifted(["a", "b"], one, one / 1e9, one, 0.2, ["up"] * 2, "D", 5) == "b drifted up (D=0.5, p=5e-10 over 5 rows)"
    )


def test_no_column_at_all_is_nothing_judged() -> None:
    none = np.empty(0)
    assert drifted([], none, none, none, 0.2, [], "D", 5) == "nothing could be judged over 5 rows"
