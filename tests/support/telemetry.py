"""Training telemetry for tests: points, records of them, and runs that go wrong in known ways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from envelopes import Producer

from streamd.codec.limits import Limits
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, StreamSettings
from streamd.model import Envelope, TelemetryPoint
from streamd.policy import PolicySettings
from streamd.profiles import Profiles
from streamd.rules.settings import RulesSettings

TOPIC = "streamd.telemetry"


def engine(
    rules: Mapping[str, Any] | None = None, policy: PolicySettings | None = None, **settings: float
) -> PartitionEngine:
    stream = StreamSettings({}, policy=policy or PolicySettings(), rules=RulesSettings.model_validate(rules or {}))
    return PartitionEngine(
        TOPIC,
        0,
        "telemetry",
        Limits(),
        EngineSettings.model_validate(settings),
        lambda _: stream,
        Profiles(),
    )


def point(
    step: int, *, run: str = "bert", ts: int | None = None, tensors: Any = None, **metrics: Any
) -> dict[str, Any]:
    """One point as a job would send it."""
    document: dict[str, Any] = {
        "run": run,
        "step": step,
        "metrics": {k.replace("__", "/"): v for k, v in metrics.items()},
    }
    if ts is not None:
        document["ts"] = ts
    return document | ({"tensors": tensors} if tensors else {})


def record(send: Producer, *points: Mapping[str, Any]) -> Envelope:
    """A record of points, one per line, with NaN as Python's json writes it."""
    return send.record(b"\n".join(json.dumps(each).encode() for each in points))


def noisy(steps: int, level: float = 2.0, noise: float = 0.02, seed: int = 0) -> list[float]:
    """A healthy loss."""
    return [level + noise * float(e) for e in np.random.default_rng(seed).normal(size=steps)]


def losses(rule: Any, values: Sequence[float], name: str = "loss") -> list[Any]:
    """What a rule says of each value."""
    return [
        rule.update(TelemetryPoint("bert", 1000 * step, step, None, {name: value}, {}))
        for step, value in enumerate(values)
    ]
