"""A run that should repeat another one, and does not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest


class SimilarAcrossRunsConfig(RuleConfig):
    """Options of `similar_across_runs` (Debugger's SimilarAcrossRuns). Send what the other run measured at the same
    step beside each metric, as `other/<metric>`: two runs need not share a partition, so neither sees the other.

    >>> point = TelemetryPoint("again", 0, 9, None, {"loss": 1.0, "other/loss": 1.2}, {})
    >>> SimilarAcrossRunsConfig().build().update(point).finding
    'loss (1) differs from the other run'
    """

    type: Literal["similar_across_runs"] = "similar_across_runs"

    rtol: float = Field(default=1e-5, ge=0)
    """Relative tolerance, as numpy.allclose has it."""

    atol: float = Field(default=1e-8, gt=0)
    """Absolute tolerance."""

    def build(self) -> SimilarAcrossRuns:
        return SimilarAcrossRuns(self)


class SimilarAcrossRuns(Rule):
    def __init__(self, config: SimilarAcrossRunsConfig) -> None:
        self._config = config

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, value in point.metrics.items():
            other = point.metrics.get(f"other/{name}")
            if other is None:
                continue
            judged = True
            effect = abs(value - other) / (self._config.atol + self._config.rtol * abs(other))
            if not effect <= 1:  # NaN on one side alone differs, too
                signs.append(Sign(name, value, effect if effect > 1 else 2.0, "up" if value > other else "down"))
        return loudest(signs, judged, "differs from the other run", threshold=1.0)
