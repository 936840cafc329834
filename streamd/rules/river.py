"""River's drift detectors (ADWIN, PageHinkley, KSWIN) on any metric of a run."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, JsonValue, model_validator

from streamd.detectors.base import State
from streamd.detectors.river import RiverConfig
from streamd.model import FeatureBatch, TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen
from streamd.table import Table


class RiverRuleConfig(RuleConfig):
    """Options of `river`, as a rule.

    >>> rule = RiverRuleConfig(detector="PageHinkley", metrics=("reward",)).build()
    >>> points = [TelemetryPoint("ppo", 0, i, None, {"reward": 0.0 if i < 100 else 9.0}, {}) for i in range(120)]
    >>> {said.finding for point in points if (said := rule.update(point)) and said.signs}
    {'reward (9) changed (PageHinkley)'}
    """

    type: Literal["river"] = "river"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns; each metric has a detector of its own."""

    detector: Literal["ADWIN", "KSWIN", "PageHinkley"] = "ADWIN"
    """The class."""

    params: dict[str, JsonValue] = Field(default_factory=dict)
    """Its parameters, as river names them."""

    values_min: int = Field(default=30, ge=1)
    """Values before the first judgement."""

    @model_validator(mode="after")
    def _known(self) -> RiverRuleConfig:
        self.settings()
        return self

    def settings(self) -> RiverConfig:
        """Of the detector that does the work; it checks the parameters."""
        return RiverConfig(detector=self.detector, params=self.params, values_min=self.values_min, max_columns=64)

    def build(self) -> RiverRule:
        return RiverRule(self)


class RiverRule(Rule):
    """Feeds the detector of the same name with batches of one row."""

    def __init__(self, config: RiverRuleConfig) -> None:
        self._config = config
        self._detector = config.settings().build(config.type, None)

    def update(self, point: TelemetryPoint) -> Judgement | None:
        metrics = dict(chosen(point.metrics, self._config.metrics))
        if not metrics:
            return None
        table = Table(1, {name: np.array([value]) for name, value in metrics.items()})
        verdicts = self._detector.update(FeatureBatch(point.run, point.event_time_ms, 0, table))
        signs = [
            Sign(name, metrics[name], 1.0, "changed")
            for verdict in verdicts
            for name, effect in zip(verdict.columns, verdict.effects.tolist(), strict=True)
            if effect > verdict.effect_threshold
        ]
        return loudest(signs, bool(verdicts), f"changed ({self._config.detector})", effect_name="drift_detected")

    def snapshot(self) -> State:
        return self._detector.snapshot()

    def restore(self, state: State) -> None:
        self._detector.restore(state)

    @property
    def nbytes(self) -> int:
        return self._detector.nbytes
