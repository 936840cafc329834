"""One training run: its rules, its policy, and the order of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from streamd.detectors.base import State
from streamd.detectors.quality import no_data_verdict
from streamd.engine_settings import StreamSettings
from streamd.errors import StreamdError
from streamd.incidents import Occasion
from streamd.kept import Kept, config_key
from streamd.model import Alert, Ask, Command, JsonValue, Kind, RunEnded, Severity, TelemetryPoint, Verdict, Window
from streamd.rules.base import Judgement, Rule, RuleConfig, RunAction
from streamd.run_policy import RunPolicy

_SEEN_MAX = 10_000  # names of one step that are remembered, so that none is judged twice
SILENCE = "stalled_training"


class RuleCrashError(StreamdError):
    """A rule raised on a point."""

    def __init__(self, run: str, rule: str) -> None:
        super().__init__(f"the rule {rule} of {run} raised on a record")
        self.rule = rule


class Run:
    """What the engine holds for one run. Everything that moves is in `snapshot()`.

    ```
      step > last ─────────────────────────▶ judged
      step = last, names not seen at it ───▶ judged (an evaluation that follows its step); names seen: sent twice
      step < last, and older than the last ▶ late: only what needs no order is judged
      step < last otherwise, or two late
      ones in ascending order ─────────────▶ a resume: the rules forget what came from that step on
    ```
    """

    def __init__(self, name: str, settings: StreamSettings) -> None:
        self.name = name
        self.settings = settings
        self.policy = RunPolicy(settings.policy, settings.rules)
        self.last_record_ms = 0
        self.silent = False  # the silence since `last_record_ms` was already told, or is as it should be
        self.step = -1
        self._configs: Mapping[str, RuleConfig] = settings.rules.running()
        self._rules: dict[str, Rule] = {name: config.build() for name, config in self._configs.items()}
        self._event_time_ms = 0  # of `step`
        self._late_step = -1  # of the last point, if that was late
        self._seen: set[str] = set()

    # --- Steps ---

    def judge(self, point: TelemetryPoint, offset: int) -> Iterator[Verdict]:
        """What the rules find in this point, one after the other; calm ones only where they may end an incident.

        Raises:
            RuleCrashError: a rule raised.
        """
        fresh, in_order = self._placed(point)
        for name, config in self._configs.items():
            if not in_order and not config.any_order:
                continue
            try:
                judgement = self._rules[name].update(fresh)
            except Exception as error:
                raise RuleCrashError(self.name, name) from error
            if judgement is not None and (judgement.signs or self.policy.minds(name)):
                yield _verdict(name, config, judgement, point, Window(offset, offset, 1))

    def _placed(self, point: TelemetryPoint) -> tuple[TelemetryPoint, bool]:
        """The part of the point that was not judged before, and whether it stands in the order of steps."""
        if point.step < self.step:
            late = point.event_time_ms < self._event_time_ms
            if late and not 0 <= self._late_step < point.step:
                self._late_step = point.step
                return point, False
            for rule in self._rules.values():
                rule.resume(point.step)
        elif point.step == self.step:
            metrics = {name: value for name, value in point.metrics.items() if f"metric {name}" not in self._seen}
            tensors = {name: value for name, value in point.tensors.items() if f"tensor {name}" not in self._seen}
            self._see(point)
            return replace(point, metrics=metrics, tensors=tensors), True
        self.step, self._event_time_ms, self._late_step = point.step, point.event_time_ms, -1
        self._seen.clear()
        self._see(point)
        return point, True

    def _see(self, point: TelemetryPoint) -> None:
        if len(self._seen) < _SEEN_MAX:
            self._seen.update(f"metric {name}" for name in point.metrics)
            self._seen.update(f"tensor {name}" for name in point.tensors)

    # --- Silence ---

    @property
    def silence_limits(self) -> list[tuple[str, float]]:
        """Names of who calls silence a finding, each with its limit in seconds."""
        limit = self.settings.rules.silence_seconds
        return [] if limit is None else [(SILENCE, limit)]

    def silence(self, name: str, seconds: float, limit: float, place: Window) -> Verdict:
        """The finding that the run has not spoken for `seconds`."""
        verdict = no_data_verdict(name, seconds, limit, place)
        finding = f"no telemetry for {seconds:.0f} s (limit {limit:.0f} s), the last step was {self.step}"
        return replace(
            verdict,
            kind=Kind.TRAINING,
            severity=Severity.WARNING,
            step=self.step,
            first_step=self.step,
            finding=finding,
        )

    def end(self, ended: RunEnded, occasion: Occasion) -> list[Alert | Command]:
        """It is over: its silence is as it should be and nothing is awaited, until telemetry comes again."""
        self.silent = True
        step = self.step if ended.step is None else ended.step
        return self.policy.close(occasion, f"ended: the run is over ({ended.outcome} at step {step})", step)

    # --- Memory and state ---

    @property
    def nbytes(self) -> int:
        return 1000 + 100 * len(self._seen) + sum(rule.nbytes for rule in self._rules.values())

    def snapshot(self) -> State:
        return {
            "name": self.name,
            "reference": None,
            "last_record_ms": self.last_record_ms,
            "silent": self.silent,
            "step": self.step,
            "event_time_ms": self._event_time_ms,
            "late_step": self._late_step,
            "seen": sorted(self._seen),
            "policy": self.policy.snapshot(),
            "rules": {
                name: {"config": config_key(self._configs[name]), "state": rule.snapshot()}
                for name, rule in self._rules.items()
            },
        }

    def kept(self) -> Kept:
        """A run needs nothing beside its snapshot."""
        return Kept({}, {})

    def restore(self, state: State, kept: Kept) -> None:
        """Continue from `snapshot()`, on a new run. Rules whose Config has changed since start anew."""
        self.last_record_ms, self.silent = state["last_record_ms"], state["silent"]
        self.step, self._event_time_ms = state["step"], state["event_time_ms"]
        self._late_step, self._seen = state["late_step"], set(state["seen"])
        self.policy.restore(state["policy"])
        for name, saved in state["rules"].items():
            if name in self._rules and saved["config"] == config_key(self._configs[name]):
                self._rules[name].restore(saved["state"])


def _verdict(name: str, config: RuleConfig, judgement: Judgement, point: TelemetryPoint, window: Window) -> Verdict:
    """The judgement as all others are graded and told."""
    signs = judgement.signs
    first_step = point.step if judgement.first_step is None else judgement.first_step
    severity = judgement.severity if judgement.severity is not None else config.grade
    grave = bool(signs) and severity is config.grade
    return Verdict(
        detector=name,
        test="rule",
        kind=Kind.TRAINING,
        columns=tuple(sign.name for sign in signs) or ("",),
        statistics=np.array([sign.value for sign in signs] or [np.nan]),
        p_values=None,
        adjusted=None,
        effects=np.array([sign.effect for sign in signs] or [np.nan]),
        effect_name=judgement.effect_name,
        effect_threshold=judgement.threshold,
        directions=tuple(sign.direction for sign in signs) or ("changed",),
        window=window,
        finding=f"{judgement.finding} at step {point.step}",
        severity=severity if signs else Severity.NONE,
        asks=tuple(Ask(action, _args(action, config, first_step)) for action in config.actions) if grave else (),
        step=point.step,
        first_step=first_step,
    )


def _args(action: RunAction, config: RuleConfig, first_step: int) -> dict[str, JsonValue]:
    """What CONTRACT says of each command."""
    match action:
        case "reduce_lr":
            return {"factor": config.lr_factor, "min_lr": config.lr_min}
        case "rollback":
            return {"step": max(0, first_step - config.back_steps)}
        case "skip_batches":
            return {"count": config.skip_count}
        case _:
            return {}
