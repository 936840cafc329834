"""A loss that is over a cap for much of a window: the run does not learn at all."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.detectors.base import State
from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest
from streamd.rules.names import chosen


class LossCapConfig(RuleConfig):
    """Options of `loss_cap`.

    >>> rule = LossCapConfig(window=4).build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {"loss": 11.0}, {}) for i in range(4)]
    >>> [rule.update(point) for point in points][-1].finding
    'loss (11) over 10 for half of the last 4 steps'
    """

    type: Literal["loss_cap"] = "loss_cap"

    metrics: tuple[str, ...] = ("loss",)
    """Roles, names or patterns."""

    cap: float = 10.0
    """The largest loss that is tolerated: llm-foundry's, near the logarithm of a vocabulary of 32,000."""

    window: int = Field(default=100, ge=1)
    """Measurements over which the share is taken."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Of the window, over the cap."""

    def build(self) -> LossCap:
        return LossCap(self)


class LossCap(Rule):
    def __init__(self, config: LossCapConfig) -> None:
        self._config = config
        self._over: dict[str, list[bool]] = {}

    def update(self, point: TelemetryPoint) -> Judgement | None:
        config, signs, judged = self._config, [], False
        for name, value in chosen(point.metrics, config.metrics)[:64]:
            over = self._over.setdefault(name, [])
            over.append(value > config.cap)
            del over[: -config.window]
            if len(over) < config.window:
                continue
            judged = True
            share = sum(over) / config.window
            if share >= config.share:
                signs.append(Sign(name, value, share))
        verb = f"over {config.cap:g} for half of the last {config.window} steps"
        if config.share != 0.5:
            verb = f"over {config.cap:g} for {config.share:.0%} of the last {config.window} steps".replace("%", " %")
        # Half of it is enough: an effect matters when it is greater than the threshold.
        return loudest(signs, judged, verb, threshold=config.share - 1e-9, effect_name="share_over_cap")

    def resume(self, step: int) -> None:
        self._over.clear()

    def snapshot(self) -> State:
        return {"over": [[name, list(over)] for name, over in self._over.items()]}

    def restore(self, state: State) -> None:
        self._over = {name: list(over) for name, over in state["over"]}

    @property
    def nbytes(self) -> int:
        return sum(100 + 8 * len(over) for over in self._over.values())
