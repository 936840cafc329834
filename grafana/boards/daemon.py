"""Daemon: does streamd itself keep up, commit, and stay within its memory?"""

from __future__ import annotations

from boards.frame import dashboard
from boards.panels import ANY_IS_BAD, ANY_IS_NEWS, Json, bars, lines, stat, table

JOB = 'job="streamd"'


def board() -> Json:
    return dashboard(
        "daemon",
        "Does streamd itself keep up, commit, and stay within its memory? Its scrape job is called `streamd`.",
        {
            "": _numbers(),
            "Records": _records(),
            "Time": _time(),
            "Partitions": _partitions(),
            "Process": _process(),
        },
    )


def _quantiles(name: str, window: str = "$__rate_interval", by: str = "") -> dict[str, str]:
    """p50 and p99 of a histogram; `>= 0` drops the NaN of a time in which nothing was measured."""
    grouped = f"sum by (le{by and ', ' + by}) (rate({name}_bucket[{window}]))"
    prefix = f"{{{{{by}}}}} " if by else ""
    return {f"{prefix}p{q}": f"histogram_quantile(0.{q}, {grouped}) >= 0" for q in (50, 99)}


def _by_process(expr: str) -> str:
    """Names each process: a worker has a label that a daemon alone has not, which a legend would show as a word."""
    return f'label_join({expr}, "process", " ", "instance", "worker")'


def _numbers() -> list[Json]:
    return [
        stat(
            "Processes",
            "Processes that answer. Fewer than you run: one is down, and its log ends with the reason.",
            "sum(streamd_build_info) or vector(0)",
            steps=((0, "red"), (1, "green")),
        ),
        stat(
            "Broker",
            "Away: at least one process waits for Kafka, and what it holds is not watched. It goes on by itself.",
            "min(streamd_broker_up)",
            steps=((0, "red"), (1, "green")),
            mappings=[{"type": "value", "options": {"0": {"text": "away"}, "1": {"text": "answers"}}}],
        ),
        stat(
            "Stalled partitions",
            "Partitions with unread records that do not get on, or that were halted. Not 0: /readyz and the log say "
            "why, and a person is needed.",
            "sum(streamd_partitions_stalled)",
            steps=ANY_IS_BAD,
        ),
        stat(
            "Restoring",
            "Partitions whose state is still being restored. Back to 0 within seconds of a start or a rebalance.",
            "sum(streamd_partitions_restoring)",
            steps=ANY_IS_NEWS,
        ),
        stat(
            "Records waiting",
            "Records in Kafka that nobody has judged yet. Growing for minutes: add workers.",
            "sum(streamd_consumer_lag_records)",
            steps=((0, "green"), (1000, "orange"), (100_000, "red")),
        ),
        stat(
            "Busiest process",
            "Share of one core that judging takes in the busiest process. Above 70 %: add workers before it lags.",
            "max(sum by (instance, worker) (rate(streamd_processing_seconds_sum[$__rate_interval])))",
            unit="percentunit",
            steps=((0, "green"), (0.7, "orange"), (0.9, "red")),
        ),
        stat(
            "State in memory",
            "All streams' state and references. This is what to size the container by, beside 500 MB a process.",
            "sum(streamd_state_bytes)",
            unit="bytes",
        ),
        stat(
            "Detector crashes",
            "Times in a day that a detector raised: a bug in it. The record became a dead letter if it raised again.",
            "sum(increase(streamd_detector_crashes_total[24h]))",
            steps=ANY_IS_BAD,
            decimals=0,
        ),
    ]


def _records() -> list[Json]:
    return [
        lines(
            "Records per second",
            "What is read and what is told. Read at 0 while producers send: no partitions, or stuck.",
            {
                "read {{topic}}": "sum by (topic) (rate(streamd_records_consumed_total[$__rate_interval]))",
                "written": "sum(rate(streamd_records_produced_total[$__rate_interval]))",
                "telemetry points": "sum(rate(streamd_telemetry_points_total[$__rate_interval]))",
            },
        ),
        lines(
            "Records waiting",
            "By partition. One that grows alone has a stream too many, or is stuck; all at once: too few workers.",
            {"{{topic}}/{{partition}}": "sum by (topic, partition) (streamd_consumer_lag_records)"},
            min=0,
        ),
        lines(
            "Bytes per second",
            "Growing faster than the records means that batches became larger.",
            {"{{topic}}": "sum by (topic) (rate(streamd_bytes_consumed_total[$__rate_interval]))"},
            unit="Bps",
        ),
        bars(
            "Dead letters by reason",
            "The reason names what a producer does wrong. One reason at once: a deployment; `streamd dlq show` has "
            "the record. Records that no client can read are counted as `unreadable`.",
            {
                "{{reason}}": "sum by (reason) (increase(streamd_records_rejected_total[$__interval])) > 0",
                "unreadable": "sum(increase(streamd_records_skipped_total[$__interval]))",
            },
            noValue="0",
        ),
    ]


def _time() -> list[Json]:
    return [
        lines(
            "Time to judge a record",
            "Grows with rows and columns of a batch, not with the number of streams. A step up: larger batches, or a "
            "machine that is too small.",
            _quantiles("streamd_processing_seconds", by="topic"),
            unit="s",
            min=0,
        ),
        lines(
            "Time to commit",
            "One transaction: alerts, state and offsets together. Slow means a slow or distant broker.",
            _quantiles("streamd_delivery_seconds"),
            unit="s",
            min=0,
            steps=((0, "green"), (1, "orange")),
        ),
        lines(
            "Commits per second",
            "One for each poll that had records. 0 while records wait: nothing is made durable. Failed ones are "
            "tried again; rising without end, look at the broker and at the producer's rights.",
            {
                "committed": "sum(rate(streamd_delivery_seconds_count[$__rate_interval]))",
                "failed": "sum(rate(streamd_delivery_failures_total[$__rate_interval])) or vector(0)",
            },
        ),
        lines(
            "Time to restore and to train",
            "Since the daemons began. A restore that takes minutes: snapshots more often (engine.snapshot_records). "
            "A partition waits while its detector trains.",
            {
                "restore p50": "histogram_quantile(0.5, sum by (le) (streamd_restore_seconds_bucket)) >= 0",
                "restore p99": "histogram_quantile(0.99, sum by (le) (streamd_restore_seconds_bucket)) >= 0",
                "training p99": "histogram_quantile(0.99, sum by (le) (streamd_fit_seconds_bucket)) >= 0",
            },
            unit="s",
            min=0,
        ),
    ]


def _partitions() -> list[Json]:
    return [
        lines(
            "Partitions",
            "Assigned should stand still; paused and restoring should return to 0; stalled should be 0.",
            {word: f"sum(streamd_partitions_{word})" for word in ("assigned", "paused", "restoring", "stalled")},
            decimals=0,
            min=0,
        ),
        bars(
            "Partitions that moved",
            "A burst at each deployment is normal. Rising steadily: members come and go, so look for restarts.",
            {"{{outcome}}": "sum by (outcome) (increase(streamd_partition_assignments_total[$__interval]))"},
        ),
        bars(
            "What happened to streams",
            "`evicted` rising: more streams than streams_max, and each return starts anew. `seen` rising: producers "
            "invent stream names. `not_fitted`: a detector has no model; /streams says why.",
            {"{{change}}": "sum by (change) (increase(streamd_stream_changes_total[$__interval])) > 0"},
            noValue="0",
        ),
        bars(
            "Reloads and trainings",
            "A refused reload: the file is wrong, and the old one is in force; the log says where. A failed "
            "training: that stream goes without this detector.",
            {
                "reload {{outcome}}": "sum by (outcome) (increase(streamd_config_reloads_total[$__interval]))",
                "training {{outcome}}": "sum by (outcome) (increase(streamd_fit_seconds_count[$__interval]))",
            },
        ),
    ]


def _process() -> list[Json]:
    return [
        lines(
            "Memory",
            "Resident memory of each process, and what of all is streams' state. Growing apart without end is a leak: "
            "tell us.",
            {
                "{{process}}": _by_process(f"process_resident_memory_bytes{{{JOB}}}"),
                "state": "sum(streamd_state_bytes)",
            },
            unit="bytes",
            min=0,
        ),
        lines(
            "Processor",
            "Cores in use. At 1 a process can do no more: add workers, up to the number of partitions.",
            {"{{process}}": _by_process(f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])")},
            min=0,
        ),
        table(
            "Versions",
            "Which release judges where. Two of them for longer than a deployment takes: it is stuck half-way.",
            "sum by (version, python) (streamd_build_info)",
            ("version", "python"),
            "processes",
            size=(12, 5),
        ),
        lines(
            "Running for",
            "How long each process has run. A saw-tooth: it restarts; its log ends with the reason.",
            {"{{process}}": _by_process(f"time() - process_start_time_seconds{{{JOB}}}")},
            unit="s",
            size=(12, 5),
            min=0,
        ),
    ]
