"""Overview: is anything wrong, where, and does streamd see everything?"""

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
    ranking,
    stat,
    states,
)
from boards.queries import CRITICAL, FIRED, FIRING, SEVERITY, STREAM, effect_ratio


def board() -> Json:
    return dashboard(
        "overview",
        "Is anything wrong, where, and does streamd see everything? Begin here.",
        {"": _numbers(), "Streams": _streams(), "Work": _work()},
    )


def _numbers() -> list[Json]:
    return [
        stat(
            "Streams",
            "Streams that are watched. Fewer than you send: see the dead letters, or streams_max evicts some.",
            "sum(streamd_streams)",
        ),
        stat(
            "Alerts firing",
            "Open alerts on the chosen streams. Above 0: a person should look; the dashboard Alerts names them.",
            FIRING,
            steps=ANY_IS_NEWS,
        ),
        stat(
            "Critical",
            "Open alerts that were loud three judgements in a row. Above 0: switch back, or mend the input, now.",
            CRITICAL,
            steps=ANY_IS_BAD,
        ),
        stat(
            "Rows per second",
            "Rows judged. A fall to 0 while your models serve means that their batches do not arrive, or are refused.",
            "sum(rate(streamd_rows_judged_total[$__rate_interval]))",
        ),
        stat(
            "Age of the newest event",
            "How old the newest thing known is. Growing: nothing arrives or, with records waiting, it is behind.",
            "time() - max(streamd_event_timestamp_seconds)",
            unit="s",
            steps=((0, "green"), (300, "orange"), (3600, "red")),
        ),
        stat(
            "Records waiting",
            "Records in Kafka that nobody has judged yet. Growing for minutes: add workers, or see Daemon.",
            "sum(streamd_consumer_lag_records)",
            steps=((0, "green"), (1000, "orange"), (100_000, "red")),
        ),
        stat(
            "Dead letters in an hour",
            "Records that could not be used. A sudden rise usually means that a producer changed its schema: "
            "`streamd dlq ls --since 1h`.",
            "sum(increase(streamd_records_rejected_total[1h]))",
            steps=ANY_IS_NEWS,
            decimals=0,
        ),
        stat(
            "Broker",
            "Away: at least one process waits for Kafka, and what it holds is not watched.",
            "min(streamd_broker_up)",
            steps=((0, "red"), (1, "green")),
            mappings=[{"type": "value", "options": {"0": {"text": "away"}, "1": {"text": "answers"}}}],
        ),
    ]


def _streams() -> list[Json]:
    return [
        states(
            "Severity of each stream",
            "The gravest alert of each stream over time. Many at once: look for one common cause, upstream of the "
            "models. `other` is the gravest of the streams over the label cap.",
            "{{stream}}",
            SEVERITY,
            drift_link("${__field.labels.stream:percentencode}"),
        ),
        ranking(
            "Worst streams",
            "The largest effect of each stream's last judgements, divided by its threshold. Above 1 it matters; just "
            "below 1 in quiet weeks means that the threshold is too low for this stream.",
            "{{stream}}",
            f"topk(10, max by (stream) ({effect_ratio(STREAM)}))",
            links=[drift_link("${__field.labels.stream:percentencode}")],
        ),
        bars(
            "Alerts fired",
            "New alerts of all streams. One incident is one alert, so a tall bar is many incidents: rather a change "
            "of the data source or of streamd's configuration than of many models.",
            {"{{severity}}": FIRED},
            overrides=colours(SEVERITY_COLOURS),
            size=(12, 9),
        ),
    ]


def _work() -> list[Json]:
    return [
        lines(
            "Rows judged per second",
            "The pulse of your models as streamd sees it. A step that nobody planned is worth a question.",
            {"{{topic}}": "sum by (topic) (rate(streamd_rows_judged_total[$__rate_interval]))"},
            size=(12, 7),
        ),
        lines(
            "Records waiting",
            "Flat and low is healthy. A slope that does not end means more arrives than is judged.",
            {"{{topic}}": "sum by (topic) (streamd_consumer_lag_records)"},
            size=(12, 7),
            min=0,
        ),
    ]
