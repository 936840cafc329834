"""`--rate`, as `send` and `dlq replay` take it."""

from __future__ import annotations

import pytest
import typer

from streamd.cli import pace


@pytest.mark.parametrize(("rate", "seconds"), [("10/s", 0.1), ("10", 0.1), ("30/m", 2.0), ("0.5/s", 2.0), (None, 0.0)])
def test_a_rate_is_so_many_in_a_second_minute_or_hour(rate: str | None, seconds: float) -> None:
    assert pace.interval(rate, "batches") == pytest.approx(seconds)


@pytest.mark.parametrize("rate", ["", "0", "0/s", "fast", "-1/s", "10/d", "10/s/s"])
def test_what_is_no_rate_is_refused_with_examples(rate: str) -> None:
    with pytest.raises(typer.BadParameter, match="records a second, minute or hour, such as 10/s"):
        pace.interval(rate, "records")


def test_a_rate_holds_on_average_though_one_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 6))
        now += seconds

    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    monkeypatch.setattr(pace.time, "sleep", sleep)
    for number in pace.paced(iter(range(4)), 1.0):
        if number == 1:
            now += 1.5  # this one took longer than the interval
    assert slept == [1.0, 0.5]
