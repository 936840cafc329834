"""What `streamd calibrate` says, in 80 columns or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from streamd.budget import START_MS, per_ms
from streamd.calibration import ZERO_SEEN, Advice, Judge, Past, advised, expected, opened, overrides, poisson_range
from streamd.cli.text import clipped, counted, printable
from streamd.engine_settings import StreamSettings
from streamd.incidents import duration
from streamd.seasons import SEASONS_LEARNED, SEASONS_MIN, SEASONS_MS, Season, find_season

if TYPE_CHECKING:
    from streamd.cli.calibrate import Means

_WIDTH = 80
_ROWS_MAX = 30  # columns that are shown of a stream, nearest to their threshold first
_NAME = 22


@dataclass(frozen=True, slots=True)
class Found:
    """What one stream's past came to."""

    past: Past
    settings: StreamSettings
    advice: tuple[Advice, ...]
    troubles: tuple[str, ...]
    season: Season | None
    dated: bool

    @classmethod
    def of(cls, past: Past, settings: StreamSettings, means: Means | None, dated: bool) -> Found:
        advice, troubles = advised(past, settings)
        return cls(past, settings, advice, troubles, _season(means, settings) if dated else None, dated)

    def rule(self) -> dict[str, object] | None:
        """A rule of the configuration; None: nothing is proposed."""
        if not self.advice and self.season is None:
            return None
        return overrides(self.past.name, self.advice, None if self.season is None else self.season.length)

    def as_json(self) -> dict[str, Any]:
        return {
            "stream": self.past.name,
            "batches": self.past.batches,
            "seconds": self.past.span_ms / 1000,
            "judges": [_judge_json(self.past, judge, self.settings) for judge in self.past.judges.values()],
            "advice": [
                {
                    "detector": each.detector,
                    "test": each.test,
                    "word": each.word,
                    "option": ".".join(each.path),
                    "now": each.now,
                    "value": each.value,
                    "estimate": each.estimate,
                    "interval": each.interval,
                }
                for each in self.advice
            ],
            "season": None if self.season is None else {"length": self.season.length, "column": self.season.column,
                                                        "correlation": self.season.correlation,
                                                        "p_value": self.season.p_value},
            "notes": list(_notes(self)),
        }  # fmt: skip


def _season(means: Means | None, settings: StreamSettings) -> Season | None:
    import numpy as np

    if means is None or not means.columns:
        return None
    names = tuple(means.columns)
    found = find_season(np.array(means.times_ms), np.array([means.columns[name] for name in names]).T, names)
    return None if found is not None and found.length == settings.reference.season else found


def _judge_json(past: Past, judge: Judge, settings: StreamSettings) -> dict[str, Any]:
    allowed = expected(past, judge, settings)
    return {
        "detector": judge.detector,
        "test": judge.test,
        "kind": judge.kind,
        "judgements": len(judge.effects),
        "loud": judge.loud,
        "alarms": judge.opened,
        "expected": allowed,
        "expected_range": None if allowed is None else poisson_range(allowed),
        "effect_threshold": judge.threshold,
        "columns": {
            name: {"judged": column.judged, "loud": column.loud, "largest_effect": column.largest}
            for name, column in judge.columns.items()
        },
    }


def show(found: Sequence[Found]) -> None:
    """All of it, for people."""
    for each in found:
        for line in _lines(each):
            typer.echo(line)


def _lines(found: Found) -> Iterator[str]:
    import textwrap

    past = found.past
    yield printable(f"{past.name}: {counted(past.batches, 'batch')[:-1] + 'es' if past.batches != 1 else '1 batch'}"
                    f" over {duration(past.span_ms / 1000)}")  # fmt: skip
    yield ""
    yield f"{'detector':<12}{'column':<{_NAME}}{'judged':>7}{'loud':>6}  {'expected':<14}{'largest effect':>15}"
    ranked = []
    for judge in past.judges.values():
        for name, column in judge.columns.items():
            ranked.append((column.largest / judge.threshold if judge.threshold else column.largest, judge, name))
    ranked.sort(key=lambda row: -row[0])
    for _, judge, name in ranked[:_ROWS_MAX]:
        yield _row(past, judge, name, found.settings)
    if len(ranked) > _ROWS_MAX:
        yield f"… {len(ranked) - _ROWS_MAX} more, all farther from their thresholds; --json has them"
    yield ""
    for note in _notes(found):
        yield from textwrap.wrap(printable(note), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    yield ""


def _row(past: Past, judge: Judge, name: str, settings: StreamSettings) -> str:
    column = judge.columns[name]
    allowed = expected(past, judge, settings)
    share = "no promise"
    if allowed is not None:
        mean = allowed / max(len(judge.columns), 1)
        share = f"{mean:.2g} ({'–'.join(map(str, poisson_range(mean)))})"
    effect = f"{column.largest:.2g} of {judge.threshold:.2g}"
    return (
        f"{clipped(judge.detector, 11):<12}{clipped(printable(name), _NAME - 1):<{_NAME}}{column.judged:>7,}"
        f"{column.loud:>6,}  {share:<14}{effect:>15}"
    )


def _notes(found: Found) -> Iterator[str]:
    """Sentences: the verdict, what the past cannot show, and what is proposed."""
    past, policy = found.past, found.settings.policy
    alarms = opened(past)
    total = sum(alarms.values())
    if not any(judge.effects for judge in past.judges.values()):
        yield "Nothing was judged: the past is shorter than the reference and one window."
    if policy.false_alarms is not None:
        rate = per_ms(policy.false_alarms)
        mean = rate * (past.span_ms + START_MS)
        low, high = poisson_range(mean)
        word = "more than" if total > high else "within"
        by = f" ({', '.join(f'{name} {count}' for name, count in alarms.items())})" if total else ""
        yield (
            f"{counted(total, 'alarm')}{by}, {word} what `{policy.false_alarms}` allows in so long: {mean:.2g}, "
            f"95 % of the time {low} to {high}."
        )
        needed_ms = ZERO_SEEN / rate
        if past.span_ms < needed_ms:
            yield (
                f"No promise of `{policy.false_alarms}` can rest on {duration(past.span_ms / 1000)}: even without any "
                f"alarm they show no fewer than 1 per {duration(past.span_ms / 1000 / ZERO_SEEN)} (95 %); "
                f"{duration(needed_ms / 1000)} would do."
                + (" The thresholds below are for one alarm in the past's own length." if found.advice else "")
            )
    for name, count in _unpaid(past):
        yield f"{name} alarmed {counted(count, 'time')} by rules without p-values, which no budget bounds."
    for each in found.advice:
        low_end, high_end = each.interval
        yield (
            f"{each.detector} ({each.test}): {'.'.join(each.path)} = {each.now:g} is {each.word}: {each.value:g} would "
            f"do (healthy windows exceed {each.estimate:.2g} once in {1 / each.rate:,.0f}; 95 %: "
            f"{'?' if low_end is None else f'{low_end:.2g}'} to {'?' if high_end is None else f'{high_end:.2g}'})."
        )
    yield from (f"{trouble}." for trouble in found.troubles)
    yield from _about_season(found)


def _unpaid(past: Past) -> list[tuple[str, int]]:
    return [(judge.detector, judge.opened) for judge in past.judges.values() if not judge.paid and judge.opened]


def unseeing(settings: StreamSettings) -> str:
    """Which detectors make nothing of a season, as the end of a sentence."""
    names = ", ".join(name for name, config in settings.detectors.items() if config.seasonal is None)
    return names and f", except in {names}"


def _about_season(found: Found) -> Iterator[str]:
    season = found.settings.reference.season
    if season is not None and found.past.span_ms < SEASONS_LEARNED * SEASONS_MS[season]:
        yield (
            f"The season of {season} is too long for this past: first rows make a reference once they span "
            f"{SEASONS_LEARNED} of them, and the past has {duration(found.past.span_ms / 1000)}."
        )
        return
    if found.season is not None:
        yield (
            f"{found.season.column} repeats itself every {found.season.length} (correlation "
            f"{found.season.correlation:.2f} over {found.season.repetitions} repetitions, "
            f"p={found.season.p_value:.1g}): `reference: {{season: {found.season.length}}}` compares like with like"
            f"{unseeing(found.settings)}."
        )
        return
    short = [length for length, ms in SEASONS_MS.items() if found.past.span_ms < (SEASONS_MIN + 1) * ms]
    if not found.dated:
        yield "Without --time there is no telling whether the data have a season."
    elif short:
        yield f"Too short to notice a season of {' or '.join(short)}: that takes {SEASONS_MIN} whole ones."
