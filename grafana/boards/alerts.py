"""Alerts: what fires now, what fired, and what was asked for?"""

from __future__ import annotations

from boards.frame import dashboard
from boards.panels import (
    ANY_IS_BAD,
    ANY_IS_NEWS,
    SEVERITY_COLOURS,
    Json,
    bars,
    colours,
    drift_link,
    lines,
    stat,
    states,
    table,
    training_link,
)
from boards.queries import CRITICAL, FIRED, FIRING, SEVERITY, STREAM


def board() -> Json:
    return dashboard(
        "alerts",
        "What fires now, what fired, and what was asked for? The alerts themselves: `streamd tail`.",
        {"": [*_numbers(), _firing_now()], "Over time": _history(), "How it is graded": _grading()},
    )


def _numbers() -> list[Json]:
    return [
        stat(
            "Firing",
            "Open alerts on the chosen streams. Each is one incident: it ends by itself after two calm judgements.",
            FIRING,
            steps=ANY_IS_NEWS,
            width=4,
        ),
        stat(
            "Critical",
            "Loud three judgements in a row. Above 0: act now; the roll-back was asked for on streamd.control.",
            CRITICAL,
            steps=ANY_IS_BAD,
            width=4,
        ),
        stat(
            "Fired in a day",
            "New alerts of all streams. More than a person can look at means thresholds that are too low, or one "
            "cause behind all of them.",
            'sum(increase(streamd_alerts_total{status="firing"}[24h]))',
            decimals=0,
            width=4,
        ),
        stat(
            "Resolved in a day",
            "Alerts that ended. Far fewer than fired: incidents stay open, and somebody should choose: mend the "
            "data, or send a new reference.",
            'sum(increase(streamd_alerts_total{status="resolved"}[24h]))',
            decimals=0,
            width=4,
        ),
        stat(
            "Commands in a day",
            "What streamd asked for on streamd.control. In shadow mode nobody obeys: compare it with what people did, "
            "then enforce.",
            "sum(increase(streamd_commands_total[24h]))",
            decimals=0,
            width=4,
        ),
        stat(
            "Streams firing",
            "Streams with a warning or worse, of those with a label of their own. Many at once have one cause more "
            "often than many.",
            f"sum(max by (stream) (streamd_stream_severity{{{STREAM}}}) >= bool 2)",
            steps=ANY_IS_NEWS,
            width=4,
        ),
    ]


def _firing_now() -> Json:
    return table(
        "Firing now",
        "Where to begin: critical first, then streams that several detectors agree on. A click on a stream shows its "
        "features. `other` counts those of all streams over the label cap: `streamd tail` names them.",
        f"sum by (stream, detector, severity) (streamd_alerts_firing{{{STREAM}}})",
        ("severity", "stream", "detector"),
        "alerts",
        size=(24, 8),
        noValue="nothing fires",
        links=[link("${__data.fields.stream:percentencode}") for link in (drift_link, training_link)],
    )


def _history() -> list[Json]:
    return [
        states(
            "Severity of each stream",
            "When each stream was in trouble, and for how long. Bars that begin together have one cause.",
            "{{stream}}",
            SEVERITY,
            drift_link("${__field.labels.stream:percentencode}"),
        ),
        bars(
            "Fired, by severity",
            "New alerts of all streams. A warning that becomes critical counts again as critical.",
            {"{{severity}}": FIRED},
            overrides=colours(SEVERITY_COLOURS),
        ),
        bars(
            "Fired, by detector",
            "Which detector speaks. One alone, often: look at its threshold, or at what only it sees. Several at "
            "once: the change is real.",
            {"{{detector}}": 'sum by (detector) (increase(streamd_alerts_total{status="firing"}[$__interval]))'},
        ),
        bars(
            "Fired and resolved",
            "In step: events that pass. Fired without resolved: a change that stays.",
            {"{{status}}": "sum by (status) (increase(streamd_alerts_total[$__interval]))"},
            overrides=colours({"firing": "orange", "resolved": "green"}),
        ),
        bars(
            "Commands",
            "What was asked for, and whether receivers should obey (enforce) or only watch (shadow).",
            {"{{command}} ({{mode}})": "sum by (command, mode) (increase(streamd_commands_total[$__interval])) > 0"},
            noValue="0",
        ),
    ]


def _grading() -> list[Json]:
    share = (
        "sum by (severity) (rate(streamd_verdicts_total[$__rate_interval])) "
        "/ scalar(sum(rate(streamd_verdicts_total[$__rate_interval])) > 0)"
    )
    return [
        lines(
            "Share of judgements by grade",
            "Healthy streams are `none` nearly always, `info` in a few of a hundred. More info than that without "
            "warnings: many small effects, which are no reason to act.",
            {"{{severity}}": f"{share} >= 0"},
            unit="percentunit",
            overrides=colours(SEVERITY_COLOURS),
            min=0,
            max=1,
        ),
        lines(
            "Loud judgements by detector",
            "Judgements per second at warning or worse. Loud without alerts: cool-down or an incident that is open.",
            {
                "{{detector}}": "sum by (detector) "
                '(rate(streamd_verdicts_total{severity=~"warning|critical"}[$__rate_interval]))'
            },
        ),
        lines(
            "Budget of false alarms consumed",
            "Of the false alarms that policy.false_alarms allowed so far, the share that judgements could have cost at "
            "most. It never passes 1. Far below: judged so seldom that policy.warning_p_value limits; falling to 0 "
            "while judgements come: event time stands still.",
            {"{{stream}}": f"max by (stream) (streamd_false_alarm_budget_ratio{{{STREAM}}})"},
            unit="percentunit",
            min=0,
            max=1,
        ),
    ]
