"""Effects as an engine says them, for the tests of what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from streamd.model import Alert, BatchJudged, Kind, Reading, Severity, Spending, Verdict, Window


def make_verdict(
    detector: str = "ks", columns: tuple[str, ...] = ("amount",), effect: float = 0.1, **other: Any
) -> Verdict:
    values = np.full(len(columns), effect)
    given: dict[str, Any] = {
        "test": "ks_2samp",
        "kind": Kind.FEATURES,
        "statistics": values,
        "p_values": values / 2,
        "adjusted": values,
        "effects": values,
        "effect_name": "ks_distance",
        "effect_threshold": 0.2,
        "directions": ("up",) * len(columns),
        "window": Window(0, 9, 1000),
        "finding": f"{columns[0]} drifted up",
        **other,
    }
    return Verdict(detector=detector, columns=columns, **given)


def make_reading(detector: str = "ks", columns: tuple[str, ...] = ("amount",), value: float = 0.1) -> Reading:
    return Reading(detector, columns, np.full(len(columns), value), 0.2)


SPENDING = Spending(judgements=40, spent=0.125, earned=0.5, still=3)


def make_judged(
    stream: str,
    *outcomes: Verdict | Reading,
    severity: Severity = Severity.NONE,
    rows: int = 10,
    event_time_ms: int = 1_000,
) -> BatchJudged:
    verdicts = sum(isinstance(outcome, Verdict) for outcome in outcomes)
    return BatchJudged(stream, event_time_ms, rows, outcomes, (severity,) * verdicts, SPENDING)


def make_alert(
    stream: str,
    severity: Severity = Severity.WARNING,
    status: Literal["firing", "resolved"] = "firing",
    detector: str = "ks",
    test: str = "ks_2samp",
) -> Alert:
    return Alert(
        id=f"{stream}-{detector}-{test}-{status}",
        status=status,
        severity=severity,
        action="review",
        mode="shadow",
        stream=stream,
        kind=Kind.FEATURES,
        detector=detector,
        test=test,
        consecutive=1,
        statistic=0.3,
        threshold=0.2,
        p_value=1e-9,
        effect_name="ks_distance",
        effect=0.3,
        features=(),
        topic="streamd.features",
        partition=0,
        window=Window(0, 9, 1000),
        event_time_ms=1_000,
        started_at_ms=1_000,
        rows=(),
        model_sha256=None,
        summary=f"{stream}: amount drifted up",
    )


@pytest.fixture
def verdict() -> Callable[..., Verdict]:
    return make_verdict


@pytest.fixture
def reading() -> Callable[..., Reading]:
    return make_reading


@pytest.fixture
def judged() -> Callable[..., BatchJudged]:
    return make_judged


@pytest.fixture
def alert() -> Callable[..., Alert]:
    return make_alert
