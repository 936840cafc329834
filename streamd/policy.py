"""Many verdicts, one grade: severities, incidents that fire and resolve, and what is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamd.budget import Budget, FalseAlarms, per_ms
from streamd.detectors.base import State
from streamd.incidents import (
    Incident,
    Occasion,
    PendingCommand,
    alert_id,
    duration,
    empty_verdict,
    incident_key,
    is_about,
    item,
    kind_of,
    published,
    worst_first,
)
from streamd.model import Alert, Ask, ColumnFinding, Command, Kind, Mode, Severity, Spending, Verdict
from streamd.settings import Settings

_NO_COMMAND = ("none", "review")  # actions that are for people

Action = Literal["none", "review", "checkpoint", "pause", "reduce_lr", "stop", "rollback"]


class PolicySettings(Settings):
    """When a finding becomes an alert, when it ends, and what is asked for."""

    false_alarms: FalseAlarms | None = "1 per 30d"
    """How many false alarms one stream may raise, over all its detectors and columns, in event time: `1 per 30d`,
    `2 per 7d`, `1 per 12h`. It says how small a p-value must be, at each judgement: the budget times the time since
    that detector last judged, shared over the stream's tests. Null: always warning_p_value. Findings without a
    p-value (a missing column, `cardinality`, `river`, the rules of training) are outside of it."""

    info_p_value: float = Field(default=0.05, gt=0, lt=1)
    """Below this, after the correction for many columns, a finding is mild drift: counted and logged, not sent."""

    warning_p_value: float = Field(default=0.001, gt=0, lt=1)
    """At or below this, and with an effect over its threshold, a person should look. With `false_alarms` it is what
    an open incident goes on by, and the most that is let pass at any judgement."""

    critical_after: int = Field(default=3, ge=1)
    """Judgements in a row at `warning` or worse that make an incident critical."""

    resolve_after: int = Field(default=2, ge=1)
    """Judgements in a row below `warning` that end an incident: one calm window may be luck."""

    cooldown_seconds: float = Field(default=300.0, ge=0)
    """Event time after an incident in which the same one may not open again, unless it becomes critical."""

    warning_action: Action = "review"
    """What an alert of severity `warning` asks for."""

    critical_action: Action = "rollback"
    """What an alert of severity `critical` asks for. Findings about data quality only ever ask for `review`:
    another model does not mend its input."""

    mode: Mode = "shadow"
    """`shadow`: commands are published, marked not to be obeyed. `enforce`: receivers should obey."""

    command_expiry_seconds: float = Field(default=600.0, gt=0)
    """A command that was not obeyed by then must not be obeyed any more."""

    acknowledge_seconds: float = Field(default=60.0, gt=0)
    """An enforced command without an acknowledgement by then raises an alert."""

    features_max: int = Field(default=10, ge=1)
    """Columns that one alert names, worst first."""

    @model_validator(mode="after")
    def _warning_is_stricter(self) -> Self:
        if self.warning_p_value > self.info_p_value:
            raise ValueError("warning_p_value must not be greater than info_p_value")
        return self


class Policy:
    """The grades and the incidents of one stream.

    Args:
        settings: of the stream.
        judges: how many (detector, kind, test) of the stream give p-values: they share its budget.
    """

    target_kind: Literal["stream", "run"] = "stream"

    def __init__(self, settings: PolicySettings, judges: int = 1) -> None:
        self._settings = settings
        rate, highest = settings.false_alarms, settings.warning_p_value
        self._budget = None if rate is None else Budget(per_ms(rate), judges, highest)
        self._incidents: dict[str, Incident] = {}
        self._pending: dict[str, PendingCommand] = {}

    def advance(self, event_time_ms: int) -> str | None:
        """A record of the stream came. Returns what a person should know of its clock, once."""
        if self._budget is None:
            return None
        self._budget.advance(event_time_ms)
        return self._budget.stopped()

    @property
    def spending(self) -> Spending | None:
        """Of the budget of false alarms; None where there is none."""
        return None if self._budget is None else self._budget.spending

    def severity(self, verdict: Verdict, level: float) -> tuple[Severity, NDArray[np.bool_]]:
        """The grade of one verdict by itself, at most WARNING, and which columns are loud, (columns,).

        `level`: what an adjusted p-value must be at most.
        """
        matters = verdict.effects > verdict.effect_threshold
        if verdict.severity is not None:
            return verdict.severity, matters
        if verdict.adjusted is None:
            return (Severity.WARNING if matters.any() else Severity.NONE), matters
        loud = matters & (verdict.adjusted <= level)
        if loud.any():
            return Severity.WARNING, loud
        mild = verdict.adjusted < self._settings.info_p_value / verdict.looks
        return (Severity.INFO if mild.any() else Severity.NONE), mild

    def grade(self, verdict: Verdict, occasion: Occasion) -> tuple[Severity, list[Alert | Command]]:
        """Grade the verdict, move its incident on, and say what the world should be told."""
        key = incident_key(verdict)
        incident = self._incidents.get(key)
        if incident is None:
            incident = self._incidents[key] = Incident()
        incident.level = self._level(key, incident, verdict)
        severity, columns = self.severity(verdict, incident.level)
        if severity < Severity.WARNING:
            return severity, self._calm(incident, verdict, occasion)
        incident.consecutive += 1
        incident.calm = 0
        if verdict.severity is None and incident.consecutive >= self._settings.critical_after:
            severity = Severity.CRITICAL
        if severity <= incident.firing:
            return severity, []
        if severity < Severity.CRITICAL and self._cooling_down(incident, occasion):
            return severity, []
        return severity, self._fire(incident, severity, verdict, columns, occasion)

    def _level(self, key: str, incident: Incident, verdict: Verdict) -> float:
        """What opens an incident is paid for. An open one goes on, grows and ends by the wider line that caps all
        levels: it is one alarm, and a judgement that comes too soon to have earned much must not end it."""
        if self._budget is None:
            return self._settings.warning_p_value / verdict.looks
        if verdict.adjusted is None or incident.firing:
            return self._settings.warning_p_value
        return self._budget.pay(key)

    def _calm(self, incident: Incident, verdict: Verdict, occasion: Occasion) -> list[Alert | Command]:
        """A judgement that found nothing to look at: the incident's end comes closer."""
        incident.consecutive = 0
        if not incident.firing:
            return []
        incident.calm += 1
        if incident.calm < self._settings.resolve_after:
            return []
        seconds = max(0, occasion.event_time_ms - incident.started_at_ms) / 1000
        after = f" after {duration(seconds)}" if seconds >= 1 else ""
        summary = f"{occasion.stream}: {verdict.detector} is back to normal{after}"
        return [self._resolve(incident, verdict, occasion, summary)]

    def _cooling_down(self, incident: Incident, occasion: Occasion) -> bool:
        if incident.resolved_at_ms is None:
            return False
        since_ms = occasion.event_time_ms - incident.resolved_at_ms  # less than 0: a clock was put back
        return 0 <= since_ms < self._settings.cooldown_seconds * 1000

    def _fire(
        self,
        incident: Incident,
        severity: Severity,
        verdict: Verdict,
        columns: NDArray[np.bool_],
        occasion: Occasion,
    ) -> list[Alert | Command]:
        """Publish that the incident began or grew worse, and the command that this asks for."""
        asked = any(
            other.firing >= severity and self._action(severity, kind_of(key)) not in _NO_COMMAND
            for key, other in self._incidents.items()
        )
        asks = self._asks(severity, verdict, asked, occasion)
        if not incident.firing:
            incident.started_at_ms = occasion.event_time_ms
        incident.firing = int(severity)
        incident.alert_id = alert_id(occasion, incident_key(verdict), severity.word)
        summary = f"{occasion.stream}: {verdict.finding}"
        if severity is Severity.CRITICAL and verdict.severity is None:
            summary += f", {incident.consecutive} judgements in a row"
        alert = self._alert("firing", severity, incident, verdict, columns, occasion, summary)
        incident.alert = asdict(alert)
        return [alert, *(self._command(ask, alert, occasion) for ask in asks)]

    def _asks(self, severity: Severity, verdict: Verdict, asked: bool, occasion: Occasion) -> tuple[Ask, ...]:
        """The commands that an alert brings; none where a person should look.

        `asked`: one as grave did so, and is open. However many detectors agree, the stream is rolled back once.
        """
        action = self._action(severity, verdict.kind)
        if asked or action in _NO_COMMAND:
            return ()
        return (Ask(action, {"to": "previous"} if action == "rollback" else {}),)

    def _resolve(self, incident: Incident, verdict: Verdict, occasion: Occasion, summary: str) -> Alert:
        severity = Severity(incident.firing)
        nothing = np.zeros(len(verdict.columns), dtype=bool)
        incident.alert_id = alert_id(occasion, incident_key(verdict), "resolved")
        alert = self._alert("resolved", severity, incident, verdict, nothing, occasion, summary)
        incident.firing = incident.calm = 0
        incident.alert = None
        incident.resolved_at_ms = occasion.event_time_ms
        return alert

    def _alert(
        self,
        status: Literal["firing", "resolved"],
        severity: Severity,
        incident: Incident,
        verdict: Verdict,
        columns: NDArray[np.bool_],
        occasion: Occasion,
        summary: str,
    ) -> Alert:
        worst = worst_first(verdict, columns)
        first = worst[0] if worst else worst_first(verdict, np.ones(len(verdict.columns), dtype=bool))[0]
        decided = status == "firing" and item(verdict.p_values, first) is not None
        if decided and incident.level < self._settings.warning_p_value:
            summary += f", alarm level {incident.level:.0e}".replace("e-0", "e-")
        features = tuple(
            ColumnFinding(
                verdict.columns[i], float(verdict.statistics[i]), item(verdict.p_values, i), verdict.directions[i]
            )
            for i in worst[: self._settings.features_max]
        )
        return Alert(
            id=incident.alert_id,
            status=status,
            severity=severity,
            action=self._word(severity, verdict) if status == "firing" else "none",
            mode=self._settings.mode,
            stream=occasion.stream,
            kind=verdict.kind,
            detector=verdict.detector,
            test=verdict.test,
            consecutive=incident.consecutive,
            statistic=float(verdict.statistics[first]),
            threshold=verdict.effect_threshold,
            p_value=item(verdict.adjusted, first),
            effect_name=verdict.effect_name,
            effect=float(verdict.effects[first]),
            features=features,
            topic=occasion.topic,
            partition=occasion.partition,
            window=verdict.window,
            event_time_ms=occasion.event_time_ms,
            started_at_ms=incident.started_at_ms,
            rows=verdict.rows if status == "firing" else (),
            model_sha256=verdict.model_sha256,
            summary=summary,
            step=verdict.step,
            first_step=verdict.first_step,
            level=incident.level if decided else None,
        )

    def _word(self, severity: Severity, verdict: Verdict) -> str:
        """What an alert says should be done."""
        return self._action(severity, verdict.kind)

    def _action(self, severity: Severity, kind: Kind) -> Action:
        if severity is Severity.CRITICAL and kind is not Kind.QUALITY:
            return self._settings.critical_action
        return self._settings.warning_action

    def _command(self, ask: Ask, alert: Alert, occasion: Occasion) -> Command:
        """The command that goes with the alert."""
        issued = occasion.record_time_ms
        command = Command(
            id=alert_id(occasion, alert.detector, f"{alert.severity.word}/{ask.command}"),
            command=ask.command,
            target_kind=self.target_kind,
            target=alert.stream,
            args=ask.args,
            mode=self._settings.mode,
            alert_id=alert.id,
            reason=self._reason(alert),
            issued_at_ms=issued,
            expires_at_ms=issued + int(self._settings.command_expiry_seconds * 1000),
        )
        if self._settings.mode == "enforce":
            deadline = issued + int(self._settings.acknowledge_seconds * 1000)
            self._pending[command.id] = PendingCommand(command.command, deadline, alert.id)
        return command

    def _reason(self, alert: Alert) -> str:
        return f"{alert.detector} {alert.severity.word} {alert.consecutive} times in a row"

    def alarm(self, verdict: Verdict, occasion: Occasion) -> list[Alert | Command]:
        """A finding that is critical at once, whatever came before: it fires, and nothing resolves it but a reset."""
        incident = self._incidents.setdefault(incident_key(verdict), Incident())
        incident.consecutive += 1
        columns = np.ones(len(verdict.columns), dtype=bool)
        return self._fire(incident, Severity.CRITICAL, verdict, columns, occasion)

    def end(self, verdict: Verdict, occasion: Occasion, reason: str) -> list[Alert]:
        """End the incident that `verdict` is about, if it is open, without a judgement."""
        incident = self._incidents.get(incident_key(verdict))
        if incident is None or not incident.firing:
            return []
        incident.consecutive = 0
        return [self._resolve(incident, verdict, occasion, f"{occasion.stream}: {reason}")]

    def reset(
        self, occasion: Occasion, reason: str, columns: Collection[str] | None = None, detectors: Collection[str] = ()
    ) -> list[Alert | Command]:
        """End every incident because a person said so; forget the rest.

        With `columns` only those that are about them alone, and those of `detectors`.
        """
        ended: list[Alert | Command] = []
        for key, incident in list(self._incidents.items()):
            verdict = empty_verdict(key, occasion)
            if columns is not None and verdict.detector not in detectors and not is_about(incident, columns):
                continue
            if incident.firing:
                summary = f"{occasion.stream}: {verdict.detector} {reason}"
                ended.append(self._resolve(incident, verdict, occasion, summary))
            del self._incidents[key]
        return ended

    def acknowledge(self, command_id: str) -> bool:
        """Take the receiver's answer; whether anybody waited for it."""
        return self._pending.pop(command_id, None) is not None

    def is_overdue(self, now_ms: int) -> bool:
        """Whether `overdue` has something to tell."""
        return any(pending.deadline_ms <= now_ms for pending in self._pending.values())

    def overdue(self, now_ms: int) -> list[PendingCommand]:
        """The commands whose acknowledgement did not come in time; each is told once."""
        late = {key: pending for key, pending in self._pending.items() if pending.deadline_ms <= now_ms}
        for key in late:
            del self._pending[key]
        return list(late.values())

    @property
    def firing(self) -> Severity:
        """The gravest incident that is open."""
        return Severity(max((i.firing for i in self._incidents.values()), default=0))

    def open_alerts(self) -> list[Alert]:
        """The last alert of each incident that is open."""
        return [published(incident.alert) for incident in self._incidents.values() if incident.alert is not None]

    def snapshot(self) -> State:
        return {
            "budget": None if self._budget is None else self._budget.snapshot(),
            "incidents": {key: asdict(incident) for key, incident in self._incidents.items()},
            "pending": {key: asdict(pending) for key, pending in self._pending.items()},
        }

    def restore(self, state: State) -> None:
        self._incidents = {key: Incident(**fields) for key, fields in state["incidents"].items()}
        self._pending = {key: PendingCommand(**fields) for key, fields in state["pending"].items()}
        if self._budget is not None and state.get("budget") is not None:  # none: it was switched on since
            self._budget.restore(state["budget"])
