"""The grades and the incidents of one training run: what its rules ask for, and how often that may be asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from streamd.detectors.base import State
from streamd.incidents import Occasion
from streamd.model import Alert, Ask, Command, Kind, Severity, Verdict
from streamd.policy import Policy, PolicySettings
from streamd.rules.settings import RulesSettings

_REMEDIES = ("reduce_lr", "skip_batches", "rollback")  # change the run: each again only after its cool-down


class RunPolicy(Policy):
    """A rule says itself how grave its finding is and what it asks for.

    The loop that this closes must not chase its own tail: what changes the run is asked for once a cool-down, and a
    roll-back so many times in all. Keeping and pausing harm nothing and are asked for with every new incident.
    """

    target_kind: Literal["stream", "run"] = "run"

    def __init__(self, settings: PolicySettings, rules: RulesSettings) -> None:
        super().__init__(settings.model_copy(update={"resolve_after": rules.resolve_after, "false_alarms": None}))
        self._rollbacks_max = rules.rollbacks_max
        self._rollbacks = 0
        self._asked_ms: dict[str, int] = {}  # command -> event time at which it was last asked for

    def minds(self, rule: str) -> bool:
        """Whether a calm judgement of that rule would change anything."""
        incident = self._incidents.get(f"{rule}/{Kind.TRAINING}/rule")
        return incident is not None and bool(incident.firing or incident.consecutive)

    def _asks(self, severity: Severity, verdict: Verdict, asked: bool, occasion: Occasion) -> tuple[Ask, ...]:
        allowed = tuple(ask for ask in verdict.asks if self._may(ask.command, occasion.event_time_ms))
        for ask in allowed:
            self._asked_ms[ask.command] = occasion.event_time_ms
            self._rollbacks += ask.command == "rollback"
        return allowed

    def _may(self, command: str, now_ms: int) -> bool:
        if command == "rollback" and self._rollbacks >= self._rollbacks_max:
            return False
        if command not in _REMEDIES or command not in self._asked_ms:
            return True
        since_ms = now_ms - self._asked_ms[command]
        return not 0 <= since_ms < self._settings.cooldown_seconds * 1000  # less than 0: a clock was put back

    def _word(self, severity: Severity, verdict: Verdict) -> str:
        return "+".join(ask.command for ask in verdict.asks) or "review"

    def _reason(self, alert: Alert) -> str:
        return alert.summary

    def close(self, occasion: Occasion, reason: str, step: int) -> list[Alert | Command]:
        """The run is over: every incident ends, and no answer is awaited. What was asked for is not forgotten."""
        self._pending.clear()
        ended = self.reset(occasion, reason)
        return [
            replace(alert, step=step, first_step=step)
            if isinstance(alert, Alert) and alert.kind is Kind.TRAINING
            else alert
            for alert in ended
        ]

    def snapshot(self) -> State:
        return {**super().snapshot(), "rollbacks": self._rollbacks, "asked_ms": dict(self._asked_ms)}

    def restore(self, state: State) -> None:
        super().restore(state)
        self._rollbacks = state["rollbacks"]
        self._asked_ms = dict(state["asked_ms"])
