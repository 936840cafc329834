"""Whether a past repeats itself every day or week is seen, and chance is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from streamd.seasons import HOUR_MS, find_season

T0 = 1_763_769_600_000


def wandering(hours: int, rho: float, seed: int, columns: int = 4) -> np.ndarray:
    """(hours, columns) AR(1) of deviation 1."""
    noise = np.random.default_rng(seed).normal(size=(hours, columns)) * np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise, axis=0)


def season_of(means: np.ndarray) -> tuple[str, str] | None:
    times_ms = T0 + np.arange(len(means)) * HOUR_MS
    found = find_season(times_ms, means, tuple("abcd"[: means.shape[1]]))
    return found and (found.length, found.column)


@pytest.mark.slow
def test_a_daily_and_a_weekly_season_are_noticed_in_dependent_data() -> None:
    hours = np.arange(24 * 60)
    days, weeks = wandering(len(hours), 0.9, 0), wandering(len(hours), 0.9, 1)
    days[:, 2] += 2.0 * np.sin(2 * np.pi * hours / 24)
    weeks[:, 1] += 3.0 * ((hours // 24) % 7 >= 5)
    assert season_of(days[: 24 * 14]) == ("24h", "c")
    assert season_of(weeks) == ("7d", "b")


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.9, 0.97])
def test_data_without_a_season_seldom_seem_to_have_one(rho: float) -> None:
    """Adjusted p-values of at most 1 % for each of two seasons: of 40 pasts 0.8 are expected, over 4 once in 1,000."""
    assert sum(season_of(wandering(24 * 14, rho, seed)) is not None for seed in range(40)) <= 4


def test_a_past_too_short_or_too_thin_has_none() -> None:
    hours = np.arange(24 * 14)
    daily = np.sin(2 * np.pi * hours / 24)[:, None]
    assert season_of(daily[: 24 * 3]) is None
    assert find_season(T0 + hours[::3] * HOUR_MS, daily[::3], ("a",)) is None
    assert season_of(np.full((24 * 14, 1), np.nan)) is None
    assert season_of(np.ones((24 * 14, 1))) is None


@pytest.mark.slow
def test_among_many_columns_a_season_is_seen_and_chance_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By 19 turns first, of which some column is always the best: what decides are as many as so many columns want."""
    monkeypatch.setattr("streamd.seasons._SHIFTS", 19)
    times_ms = T0 + np.arange(24 * 14) * HOUR_MS
    names = tuple(f"c{i}" for i in range(60))
    past = wandering(24 * 14, 0.9, 0, columns=60)
    assert find_season(times_ms, past, names) is None
    past[:, 37] += 2.0 * np.sin(2 * np.pi * np.arange(24 * 14) / 24)
    found = find_season(times_ms, past, names)
    assert found is not None
    assert (found.length, found.column) == ("24h", "c37")
    assert found.p_value <= 0.01
