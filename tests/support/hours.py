"""Streams whose data have a daily pattern: an engine with a season, and a batch every hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from envelopes import T0, Producer

from streamd.codec.limits import Limits
from streamd.detectors.base import DetectorConfig
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.model import Alert, BatchJudged, Effect, Envelope, StreamChanged, Verdict
from streamd.policy import PolicySettings
from streamd.profiles import Profiles
from streamd.seasons import HOUR_MS

ROWS = 100  # a batch

Make = Callable[[int, np.random.Generator], Mapping[str, Any]]
"""From the hour to what the batch holds, the arguments of `Producer.batch`."""


def engine(which: Mapping[str, DetectorConfig], season: str | None, **more: Any) -> PartitionEngine:
    reference = ReferenceSettings.model_validate({"first_rows": 1000, "season": season} | more)
    settings = StreamSettings(which, reference, PolicySettings())
    return PartitionEngine(
        "streamd.features", 0, "features", Limits(), EngineSettings(), lambda _: settings, Profiles()
    )


def hourly(make: Make, hours: int, first: int = 0, seed: int = 0) -> list[Envelope]:
    """A batch an hour, from the hour `first` on; the offset is the hour."""
    send, rng = Producer(), np.random.default_rng([seed, first])
    send.offset = first
    return [
        replace(send.batch(**{"features": {}, **make(hour, rng)}), timestamp_ms=T0 + hour * HOUR_MS)
        for hour in range(first, first + hours)
    ]


def run(watch: PartitionEngine, envelopes: list[Envelope]) -> list[Effect]:
    return [effect for envelope in envelopes for effect in watch.step(envelope)]


def fired(effects: list[Effect]) -> set[tuple[str, str]]:
    """(detector, test) of what alarmed."""
    return {(e.detector, e.test) for e in effects if isinstance(e, Alert) and e.status == "firing"}


def verdicts(effects: list[Effect]) -> list[Verdict]:
    judged = [e for e in effects if isinstance(e, BatchJudged)]
    return [outcome for each in judged for outcome in each.outcomes if isinstance(outcome, Verdict)]


def references(effects: list[Effect]) -> list[str]:
    """What was said of each reference that came into force."""
    return [e.detail for e in effects if isinstance(e, StreamChanged) and e.what == "reference"]
