"""The false alarms that a stream may cost: what a user allows, and how small a p-value one judgement then needs. Pure.

        allowed      1 per 30 d ──────────── event time ───────────▶ earns, evenly, for each of a stream's n judges
        a judge      ├── earned since it last judged ──┤ + what it has left  =  bank
        its level    half of the bank, at most warning_p_value; at the k-th look at one moment 1/(k + 1) of it

A judge that looks at regular times so has a level of (budget × time between two looks ÷ n), once it has settled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, WithJsonSchema

from streamd.detectors.base import State
from streamd.model import Spending

HOUR_MS = 3_600_000
_UNITS_MS = {"s": 1000, "min": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS, "w": 7 * 24 * HOUR_MS}
_SPOKEN = {
    "second": "s", "sec": "s", "minute": "min", "m": "min", "hour": "h", "hr": "h",
    "day": "d", "week": "w", "wk": "w", "month": "d, as in 30d", "mo": "d, as in 30d", "year": "d, as in 365d",
}  # fmt: skip
_FORM = "`N per PERIOD`, such as 1 per 30d, 2 per 7d or 1 per 12h; null sets no budget"
_PATTERN = r"\s*([0-9]+(?:\.[0-9]+)?)\s*per\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*"
RATE_MAX = 1 / _UNITS_MS["min"]
RATE_MIN = 1 / (36_500 * _UNITS_MS["d"])
START_MS = HOUR_MS
"""What a stream begins with, so that its first judgement, and a stream without a clock, is not blind."""

STILL_MIN = 1000
"""Judgements at one moment of event time that are worth a word: fewer are one delivery of many batches."""


def per_ms(text: str) -> float:
    """How many false alarms a millisecond of event time allows.

    Raises:
        ValueError: it is no such text, or no sensible number; the sentence says what is allowed.

    >>> per_ms("2 per 1h")
    5.555555555555555e-07
    """
    match = re.fullmatch(_PATTERN, text)
    if match is None:
        raise ValueError(f"must be {_FORM}")
    count, length, unit = float(match[1]), float(match[2]), match[3]
    if unit not in _UNITS_MS:
        known = {**_SPOKEN, **{each: each for each in _UNITS_MS}}
        close = get_close_matches(unit.lower().removesuffix("s") or unit, known, 1, 0.5)
        hint = f"; did you mean {known[close[0]]}?" if close else ""
        raise ValueError(f"there is no unit {unit!r}; there are {', '.join(_UNITS_MS)}{hint}")
    rate = count / (length * _UNITS_MS[unit]) if length else float("inf")
    if rate == 0:
        raise ValueError("must allow some: with none, no p-value would ever be small enough; 1 per 365d is few")
    if rate > RATE_MAX:
        raise ValueError("must be at most 1 per 1min; null sets no budget: then warning_p_value alone decides")
    if rate < RATE_MIN:
        raise ValueError("must be at least 1 per 36500d: nobody can hold a promise for longer than a century")
    return rate


def _checked(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be {_FORM}")
    per_ms(value)
    return value


FalseAlarms = Annotated[str, BeforeValidator(_checked), WithJsonSchema({"type": "string", "examples": ["1 per 30d"]})]
"""How many false alarms a stream may raise, as text: `1 per 30d`."""


@dataclass(slots=True)
class _Account:
    """Of one judge: when it last earned, in event time; what it has, in expected false alarms; looks since then."""

    since_ms: int
    bank: float
    looks: int = 0


class Budget:
    """The budget of one stream over all its judges, in event time.

    Whatever the dependence between looks, windows that overlap included, the expected number of false alarms in T of
    event time is at most budget × (T + an hour):
      1. A judgement that may open an incident does so by chance with probability ≤ its level, since its p-value is
         valid and its level was fixed before it. (So every such judgement pays, also one that finds nothing.)
      2. An expectation is a sum whatever depends on what: E[false alarms] ≤ the sum of all levels.
      3. A judge's levels are taken from its bank, which only holds what was earned: sum ≤ budget ÷ n × (T + an hour).
      4. It earns by the largest event time seen, so that no moment counts twice: a clock that goes back or stands
         earns nothing and loses nothing. n judges: the sum over all is what 3 says, times n. ∎

    A bank holds no more than two judgements at `highest` cost; what a long silence would earn beyond that is lost.

    Args:
        rate: false alarms per millisecond of event time.
        judges: n, how many (detector, kind, test) of the stream give p-values.
        highest: what no level exceeds, `warning_p_value`.
    """

    def __init__(self, rate: float, judges: int, highest: float) -> None:
        self._rate = rate
        self._share = rate / max(judges, 1)
        self._highest = highest
        self._full = 2.0 * highest
        self._accounts: dict[str, _Account] = {}
        self._started_ms: int | None = None  # event time; None before the first record
        self._now_ms = 0  # the largest event time seen
        self._still = 0  # judgements since it last rose
        self._told = False  # that it stands still
        self._judgements = 0
        self._spent = 0.0

    def advance(self, event_time_ms: int) -> None:
        """A record of this event time came."""
        if self._started_ms is None:
            self._started_ms = self._now_ms = event_time_ms
        elif event_time_ms > self._now_ms:
            self._now_ms = event_time_ms
            self._still = 0
            self._told = False

    def pay(self, judge: str) -> float:
        """The level of the judgement that `judge` is about to be heard with; it is spent."""
        account = self._accounts.get(judge)
        if account is None:
            began = self._now_ms if self._started_ms is None else self._started_ms
            account = self._accounts[judge] = _Account(began, min(START_MS * self._share, self._full))
        elapsed = self._now_ms - account.since_ms
        if elapsed > 0:
            account.bank = min(account.bank + elapsed * self._share, self._full)
            account.since_ms = self._now_ms
            account.looks = 0
        account.looks += 1
        level = min(account.bank / (account.looks + 1), self._highest)
        account.bank -= level
        self._still += 1
        self._judgements += 1
        self._spent += level
        return level

    @property
    def spending(self) -> Spending:
        """What there was to spend, and what was spent."""
        lived_ms = self._now_ms - (self._now_ms if self._started_ms is None else self._started_ms)
        return Spending(self._judgements, self._spent, self._rate * (lived_ms + START_MS), self._still)

    def stopped(self) -> str | None:
        """What a person should know, once, when event time has stood still over many judgements."""
        if self._still < STILL_MIN or self._told:
            return None
        self._told = True
        return (
            f"event time has not gone beyond {np.datetime64(self._now_ms, 'ms')}Z in {self._still} judgements, "
            "it stands or runs backwards: no false alarms are earned, and only ever smaller p-values are loud; "
            "look at `ts` of what is sent"
        )

    def snapshot(self) -> State:
        return {
            "started_ms": self._started_ms,
            "now_ms": self._now_ms,
            "still": self._still,
            "told": self._told,
            "judgements": self._judgements,
            "spent": self._spent,
            "accounts": {judge: [a.since_ms, a.bank, a.looks] for judge, a in self._accounts.items()},
        }

    def restore(self, state: State) -> None:
        """Continue from `snapshot()`, perhaps under another rate: what was earned before stays what it was."""
        self._started_ms, self._now_ms = state["started_ms"], state["now_ms"]
        self._still, self._told = state["still"], state["told"]
        self._judgements, self._spent = state["judgements"], state["spent"]
        self._accounts = {judge: _Account(*account) for judge, account in state["accounts"].items()}
