"""The budget of false alarms: what it allows, what a judgement pays, and that the whole path keeps it."""

from __future__ import annotations

import re
from itertools import count

import numpy as np
import pytest
from scipy.stats import norm, poisson

from streamd.budget import STILL_MIN, Budget, per_ms
from streamd.incidents import Occasion
from streamd.model import Alert, Kind, Severity, Verdict, Window
from streamd.policy import Policy, PolicySettings
from streamd.state import pack, unpack

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
RATE = 1 / (30 * DAY)
HIGHEST = 0.001


@pytest.mark.parametrize(
    ("text", "alarms", "milliseconds"),
    [
        ("1 per 30d", 1, 30 * DAY),
        ("2 per 7d", 2, 7 * DAY),
        ("1 per 12h", 1, 12 * HOUR),
        ("1per90min", 1, 90 * MINUTE),
        ("0.5 per 2w", 0.5, 14 * DAY),
        ("1 per 60s", 1, MINUTE),
    ],
)
def test_a_budget_is_a_number_per_period(text: str, alarms: float, milliseconds: int) -> None:
    assert per_ms(text) == pytest.approx(alarms / milliseconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("often", "must be `N per PERIOD`, such as 1 per 30d, 2 per 7d or 1 per 12h"),
        ("1/30d", "must be `N per PERIOD`"),
        ("-1 per 30d", "must be `N per PERIOD`"),
        ("0 per 30d", "must allow some"),
        ("1 per 0d", "must be at most 1 per 1min"),
        ("1000 per 1s", "must be at most 1 per 1min"),
        ("1 per 99999d", "must be at least 1 per 36500d"),
        ("1 per 30days", "there is no unit 'days'; there are s, min, h, d, w; did you mean d?"),
        ("1 per 2hrs", "did you mean h?"),
        ("1 per 3m", "did you mean min?"),
        ("1 per 1month", "did you mean d, as in 30d?"),
        ("1 per 1q", "there is no unit 'q'; there are s, min, h, d, w"),
    ],
)
def test_what_is_no_budget_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        PolicySettings(false_alarms=text)


def test_what_is_no_text_is_refused_with_what_is_allowed_and_null_sets_none() -> None:
    with pytest.raises(ValueError, match="1 per 30d"):
        PolicySettings.model_validate({"false_alarms": 3})
    assert PolicySettings(false_alarms=None).false_alarms is None
    assert PolicySettings().false_alarms == "1 per 30d"


# --- What one judgement pays ----------------------------------------------------------------------


def paid(budget: Budget, *times_ms: int, judge: str = "ks") -> list[float]:
    levels = []
    for time_ms in times_ms:
        budget.advance(time_ms)
        levels.append(budget.pay(judge))
    return levels


@pytest.mark.parametrize("gap_ms", [1000, MINUTE, HOUR])
def test_regular_looks_settle_at_the_budget_times_their_distance_over_the_judges(gap_ms: int) -> None:
    levels = paid(Budget(RATE, 4, HIGHEST), *range(0, 60 * gap_ms, gap_ms))
    assert levels[-1] == pytest.approx(RATE * gap_ms / 4, rel=1e-9)


def test_the_first_judgement_counts_from_the_streams_first_record() -> None:
    budget = Budget(RATE, 2, HIGHEST)
    budget.advance(5 * DAY)
    assert paid(budget, 5 * DAY + HOUR) == [pytest.approx(RATE / 2 * (HOUR + HOUR) / 2)]  # an hour to begin with


def test_no_level_is_over_the_highest_and_a_silence_is_not_hoarded() -> None:
    levels = paid(Budget(RATE, 1, HIGHEST), 0, *[1000 * DAY] * 100)
    assert max(levels) == HIGHEST
    assert sum(levels[1:]) < 2 * HIGHEST


def test_a_clock_that_goes_back_earns_nothing_twice_and_loses_nothing() -> None:
    straight = Budget(RATE, 1, HIGHEST)
    for time_ms in (0, 2 * HOUR, 4 * HOUR):
        straight.advance(time_ms)
    bent = Budget(RATE, 1, HIGHEST)
    for time_ms in (0, 2 * HOUR, HOUR, 0, 2 * HOUR, 4 * HOUR, 3 * HOUR):
        bent.advance(time_ms)
    assert bent.pay("ks") == straight.pay("ks") > 0


def test_looks_at_one_moment_share_what_there_is_and_none_is_blind() -> None:
    budget = Budget(RATE, 1, HIGHEST)
    levels = paid(budget, *[0] * 50)
    bank = RATE * HOUR
    assert levels == pytest.approx([bank / (k * (k + 1)) for k in range(1, 51)], rel=1e-9)
    assert budget.spending.still == 50


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_clock_does_no_more_is_spent_than_is_earned(seed: int) -> None:
    rng = np.random.default_rng(seed)
    budget = Budget(RATE, 3, HIGHEST)
    times = np.cumsum(rng.integers(-HOUR, 2 * HOUR, 2000)) + 10**12
    budget.advance(int(times[0]))
    spent = dict.fromkeys("abc", 0.0)
    for time_ms in times.tolist():
        judge = "abc"[rng.integers(3)]
        spent[judge] += paid(budget, time_ms, judge=judge)[0]
    earned = RATE * (times.max() - times[0] + HOUR)
    assert all(0 < each <= earned / 3 * (1 + 1e-12) for each in spent.values())
    assert budget.spending.spent == pytest.approx(sum(spent.values()))
    assert budget.spending.earned == pytest.approx(earned)
    assert 0.5 < budget.spending.ratio <= 1


def test_a_clock_that_stands_still_is_told_once_until_it_moves() -> None:
    budget = Budget(RATE, 1, HIGHEST)
    told = []
    for _ in range(2 * STILL_MIN):
        paid(budget, 7)
        told.append(budget.stopped())
    (sentence,) = [each for each in told if each]
    assert sentence.startswith("event time has not gone beyond 1970-01-01T00:00:00.007Z in 1000 judgements, it stands")
    paid(budget, *[8] * STILL_MIN)
    assert budget.stopped() is not None


def test_a_restart_anywhere_changes_nothing() -> None:
    times = np.random.default_rng(3).integers(0, DAY, 40).tolist()
    whole = paid(Budget(RATE, 3, HIGHEST), *times)
    for cut in range(len(times)):
        before = Budget(RATE, 3, HIGHEST)
        levels = paid(before, *times[:cut])
        after = Budget(RATE, 3, HIGHEST)
        after.restore(unpack(pack(before.snapshot())))
        assert levels + paid(after, *times[cut:]) == whole


# --- The whole path: levels, sharing, columns, incidents -------------------------------------------

CADENCES = (1, 1, 1, 2, 2, 5, 10, 30, 60)  # minutes between two looks of each judge
COLUMNS = 5
JUDGEMENTS = 1_000_000
SETTINGS = PolicySettings(false_alarms="1 per 12h", warning_p_value=0.05, cooldown_seconds=0)


def verdict_of(judge: int) -> Verdict:
    nothing = np.ones(COLUMNS)
    return Verdict(
        detector=f"judge{judge}",
        test="ks_2samp",
        kind=Kind.FEATURES,
        columns=tuple(f"c{i}" for i in range(COLUMNS)),
        statistics=nothing,
        p_values=nothing.copy(),
        adjusted=nothing.copy(),
        effects=nothing,  # always over its threshold: the p-values alone decide
        effect_name="ks_distance",
        effect_threshold=0.2,
        directions=("up",) * COLUMNS,
        window=Window(0, 0, 1000),
        finding="c0 drifted up",
    )


def false_alarms(noise: np.ndarray, dependent: bool) -> tuple[int, float, Policy]:
    """How many incidents opened, over how many milliseconds, when p-values are `noise` (rows, columns)."""
    policy = Policy(SETTINGS, len(CADENCES))
    adjusted = np.minimum(noise * COLUMNS, 1.0)  # Bonferroni
    verdicts = [verdict_of(judge) for judge in range(len(CADENCES))]
    opened = done = 0
    for minute in count():
        policy.advance(minute * MINUTE)
        for verdict, cadence in zip(verdicts, CADENCES, strict=True):
            if minute % cadence:
                continue
            assert verdict.adjusted is not None
            verdict.adjusted[:] = adjusted[minute if dependent else done]
            done += 1
            told = policy.grade(verdict, Occasion("s", "t", 0, minute, minute * MINUTE, 0))[1]
            for each in told:
                opened += isinstance(each, Alert) and each.status == "firing" and each.severity is Severity.WARNING
        if done > JUDGEMENTS - len(CADENCES):
            return opened, float(minute * MINUTE), policy
    raise AssertionError


@pytest.mark.slow
def test_a_million_judgements_of_noise_give_the_false_alarms_that_the_budget_allows() -> None:
    noise = np.random.default_rng(20).random((JUDGEMENTS, COLUMNS))
    opened, lived_ms, policy = false_alarms(noise, dependent=False)
    expected = per_ms("1 per 12h") * lived_ms
    assert expected > 300
    assert poisson.ppf(0.025, expected) <= opened <= poisson.ppf(0.975, expected)
    assert policy.spending is not None
    assert policy.spending.ratio == pytest.approx(1.0, abs=0.01)
    assert policy.spending.spent <= policy.spending.earned


@pytest.mark.slow
def test_noise_that_depends_on_its_past_and_on_other_judges_gives_no_more_than_that() -> None:
    """One series for all judges, AR(1) with 0.9: windows that overlap, detectors that see the same."""
    rng = np.random.default_rng(21)
    minutes, rho = 300_000, 0.9
    steps = np.sqrt(1 - rho**2) * rng.standard_normal((minutes, COLUMNS))
    series = np.empty_like(steps)
    series[0] = rng.standard_normal(COLUMNS)
    for minute in range(1, minutes):
        series[minute] = rho * series[minute - 1] + steps[minute]
    opened, lived_ms, policy = false_alarms(norm.sf(series), dependent=True)
    expected = per_ms("1 per 12h") * lived_ms
    assert policy.spending is not None
    assert policy.spending.judgements > 0.99 * JUDGEMENTS - 10 * opened
    assert expected / 10 < opened <= poisson.ppf(0.975, expected)
