"""Keeps the demo's account: what was sent, what was found, and how soon."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from streamd.demo.story import EVENT, EVENT_ROWS, ROWS_PER_BATCH, Feeder
from streamd.incidents import duration

Alert = Mapping[str, Any]


class Account:
    """The alerts of one demo, held against what the feeder sent."""

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder
        self.alerts: list[Alert] = []

    def take(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def row(self, alert: Alert) -> int | None:
        """The row of the event's file at whose batch the alert came; None when it is about something else."""
        moment = datetime.datetime.fromisoformat(alert["event_time"])
        return self._feeder.place.get((alert["stream"], round(moment.timestamp() * 1000)))

    def false_alarms(self) -> list[Alert]:
        """Alerts that fired where nothing had happened: on the quiet stream, or outside of the event."""
        return [alert for alert in self.alerts if alert["status"] == "firing" and not self._in_event(alert)]

    def _in_event(self, alert: Alert) -> bool:
        row = self.row(alert)
        # A window that ends just after the event still holds rows of it.
        return alert["stream"] == EVENT and row is not None and row in range(EVENT_ROWS.start, EVENT_ROWS.stop + 1_000)

    def summary(self, seconds: float) -> str:
        """What happened, in a few lines of at most 80 columns."""
        batches = sum(self._feeder.sent.values())
        lines = [f"{batches * ROWS_PER_BATCH:,} rows in {batches} batches of 2 streams, in {duration(seconds)}."]
        first: dict[str, int] = {}
        for alert in self.alerts:
            row = self.row(alert)
            if alert["status"] == "firing" and row is not None and self._in_event(alert):
                first.setdefault(alert["detector"], row + ROWS_PER_BATCH - EVENT_ROWS.start)
        if first:
            found = ", ".join(f"{detector} after {rows:,} rows" for detector, rows in first.items())
            lines.append(f"The event of 2017 was found by {found}.")
        resolved = sum(alert["status"] == "resolved" for alert in self.alerts)
        firing = sum(alert["status"] == "firing" for alert in self.alerts)
        false_alarms = len(self.false_alarms()) or "none"
        lines.append(f"{firing} alerts fired, {resolved} resolved; false alarms: {false_alarms}.")
        return "\n".join(lines)
