"""The one declared table of metrics: name, kind, labels and what an operator should conclude.

The names are an interface: tests/golden/metrics.txt changes only together with the CHANGELOG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FamilyKind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric family, compared by identity. `buckets`: upper bounds, in the unit that the name ends with."""

    name: str
    kind: FamilyKind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


# From one small batch (50 µs) to a million rows in one message.
_WORK_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
# From one acknowledgement of a near broker to the delivery timeout.
_DELIVERY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# From an empty state topic to one of gigabytes, or a long way to read again.
_RESTORE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_FIT_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)

# --- Records in and out ---------------------------------------------------------------------------

RECORDS_CONSUMED = Family(
    "streamd_records_consumed_total",
    "counter",
    ("topic",),
    "Records read from Kafka. No increase while producers send means that the daemon is not assigned or is stuck.",
)
BYTES_CONSUMED = Family(
    "streamd_bytes_consumed_total",
    "counter",
    ("topic",),
    "Bytes of the values read from Kafka. Growing faster than the records means that batches became larger.",
)
RECORDS_REJECTED = Family(
    "streamd_records_rejected_total",
    "counter",
    ("topic", "reason"),
    "Records sent to the dead-letter topic. A sudden rise usually means that a producer changed its schema.",
)
RECORDS_SKIPPED = Family(
    "streamd_records_skipped_total",
    "counter",
    ("topic",),
    "Records that no client can read, passed over and lost to us: a broken checksum, a header that is not UTF-8.",
)
RECORDS_PRODUCED = Family(
    "streamd_records_produced_total",
    "counter",
    (),
    "Alerts, commands and dead letters that the broker acknowledged.",
)
DELIVERY_SECONDS = Family(
    "streamd_delivery_seconds",
    "histogram",
    (),
    "Time to make the effects and then the offsets of one poll durable. Slow means a slow or distant broker.",
    _DELIVERY_SECONDS,
)
DELIVERY_FAILURES = Family(
    "streamd_delivery_failures_total",
    "counter",
    ("cause",),
    "Deliveries that could not be made sure and are tried again. Rising without end: nothing is committed, "
    "look at the broker and at the producer's rights.",
)
LAG = Family(
    "streamd_consumer_lag_records",
    "gauge",
    ("topic", "partition"),
    "Records between our position and the end of a partition. Growing means too few workers, or a stuck partition.",
)
PARTITIONS_ASSIGNED = Family(
    "streamd_partitions_assigned",
    "gauge",
    (),
    "Partitions that this process holds. 0 for long: more workers than partitions, or it is not in the group.",
)
PARTITIONS_PAUSED = Family(
    "streamd_partitions_paused",
    "gauge",
    (),
    "Partitions that are not fetched, because the daemon is behind or waits for a fit. Should return to 0.",
)
PARTITIONS_RESTORING = Family(
    "streamd_partitions_restoring",
    "gauge",
    (),
    "Assigned partitions whose state is not yet as it was: nothing new is judged there. Back to 0 within seconds.",
)
RESTORE_SECONDS = Family(
    "streamd_restore_seconds",
    "histogram",
    (),
    "Time from a partition's assignment until it is live: read the state, then the input since the snapshot. "
    "Long: take snapshots more often (engine.snapshot_records).",
    _RESTORE_SECONDS,
)
ASSIGNMENTS = Family(
    "streamd_partition_assignments_total",
    "counter",
    ("outcome",),
    "Partitions assigned to and revoked from this process. Rising steadily means that members come and go.",
)
BROKER_UP = Family(
    "streamd_broker_up",
    "gauge",
    (),
    "1 while the broker answers, 0 while the daemon waits for it. At 0 nothing is watched.",
)

# --- Work -----------------------------------------------------------------------------------------

PROCESSING_SECONDS = Family(
    "streamd_processing_seconds",
    "histogram",
    ("topic",),
    "Time to fold one record into its partition's state. The rate of its sum is the share of a core in use: near 1, "
    "add workers.",
    _WORK_SECONDS,
)
BATCHES_JUDGED = Family(
    "streamd_batches_judged_total",
    "counter",
    ("topic",),
    "Feature batches that went through their stream's detectors.",
)
ROWS_JUDGED = Family(
    "streamd_rows_judged_total",
    "counter",
    ("topic",),
    "Rows of those batches. No increase while records are consumed: look at streamd_records_rejected_total.",
)
TELEMETRY_POINTS = Family(
    "streamd_telemetry_points_total",
    "counter",
    ("topic",),
    "Steps of training runs that were read.",
)
NONFINITE = Family(
    "streamd_nonfinite_values_total",
    "counter",
    ("topic",),
    "Values in telemetry that were NaN or infinite. Rising: a run has diverged; streamd_run_nonfinite_values names it.",
)
EVENT_TIME = Family(
    "streamd_event_timestamp_seconds",
    "gauge",
    ("topic", "partition"),
    "Unix time of the newest event judged. time() minus this is how old the newest thing known is.",
)

# --- Findings -------------------------------------------------------------------------------------

VERDICTS = Family(
    "streamd_verdicts_total",
    "counter",
    ("detector", "severity"),
    "Judgements by grade. A detector without `none` never finds peace: its reference does not fit its stream.",
)
ALERTS = Family(
    "streamd_alerts_total",
    "counter",
    ("detector", "severity", "status"),
    "Alerts that fired and resolved. Firing minus resolved of one detector is about what is open.",
)
COMMANDS = Family(
    "streamd_commands_total",
    "counter",
    ("command", "mode"),
    "Commands published. In mode `shadow` nobody obeys them: compare them with what people did, then enforce.",
)
ACKNOWLEDGEMENTS = Family(
    "streamd_acknowledgements_total",
    "counter",
    ("outcome",),
    "Answers to commands, also to those that a person sent. `none`: an enforced command was not answered in time; "
    "rising, the receiver does not run or does not listen. `refused`: it was not allowed to obey.",
)
STREAM_CHANGES = Family(
    "streamd_stream_changes_total",
    "counter",
    ("change",),
    "What happened to streams. `evicted` rising: more streams than streams_max, each return starts anew; "
    "`seen` rising: producers invent stream names; `not_fitted`: a detector has no model, /streams says why.",
)
PARTITIONS_STALLED = Family(
    "streamd_partitions_stalled",
    "gauge",
    (),
    "Assigned partitions that have unread records and do not get on, or were halted because nearly all of their "
    "records are bad. Anything but 0 needs a person: /readyz and the log say why.",
)
CONFIG_RELOADS = Family(
    "streamd_config_reloads_total",
    "counter",
    ("outcome",),
    "Reloads by SIGHUP. `refused`: the file is wrong, the log says where; the old one is in force.",
)
DETECTOR_CRASHES = Family(
    "streamd_detector_crashes_total",
    "counter",
    ("detector",),
    "Times that a detector raised on a record: a bug in it. The partition is restored; a record on which it raises "
    "again becomes a dead letter.",
)
FIT_SECONDS = Family(
    "streamd_fit_seconds",
    "histogram",
    ("outcome",),
    "Time to fit one detector to one stream's reference; its partition waits for that long.",
    _FIT_SECONDS,
)

# --- What each stream looks like now --------------------------------------------------------------

STREAM_SEVERITY = Family(
    "streamd_stream_severity",
    "gauge",
    ("stream",),
    "The gravest alert that fires on a stream now: 0 none, 1 info, 2 warning, 3 critical. "
    "`other`: the gravest among the streams over the label cap.",
)
ALERTS_FIRING = Family(
    "streamd_alerts_firing",
    "gauge",
    ("stream", "detector", "severity"),
    "Alerts that fire now. `other`: all of them on the streams over the label cap.",
)
WINDOW_STATISTIC = Family(
    "streamd_window_statistic",
    "gauge",
    ("stream", "detector", "feature"),
    "The statistic of the sliding window at the last batch. For the eye: it is judged once per full window only.",
)
WINDOW_STATISTIC_THRESHOLD = Family(
    "streamd_window_statistic_threshold",
    "gauge",
    ("stream", "detector"),
    "What streamd_window_statistic is drawn against.",
)
VERDICT_EFFECT = Family(
    "streamd_verdict_effect",
    "gauge",
    ("stream", "detector", "test", "feature"),
    "How large the difference was in the last judgement. It matters over streamd_verdict_effect_threshold.",
)
VERDICT_EFFECT_THRESHOLD = Family(
    "streamd_verdict_effect_threshold",
    "gauge",
    ("stream", "detector", "test"),
    "The effect that matters. Change it where streamd_verdict_effect shows that quiet weeks come near it.",
)
VERDICT_P_VALUE = Family(
    "streamd_verdict_p_value",
    "gauge",
    ("stream", "detector", "test", "feature"),
    "The p-value of the last judgement, corrected for the number of columns. Small alone is no reason to act: "
    "it says that the difference is not chance, not that it matters. `other`: the smallest.",
)

# --- What each training run looks like now: the values as they were last sent, NaN and infinities too ---

RUN_STEP = Family(
    "streamd_run_step",
    "gauge",
    ("stream",),
    "The last step that was judged. A fall is a run that goes on from an earlier step; one that stands still hangs, "
    "or is over. Runs over the label cap have no values of their own.",
)
RUN_TIME = Family(
    "streamd_run_timestamp_seconds",
    "gauge",
    ("stream",),
    "Unix time of that step, by the run's own clock. time() minus this is for how long it has been silent.",
)
RUN_LOSS = Family(
    "streamd_run_loss",
    "gauge",
    ("stream", "metric"),
    "The last training loss. Up and not down again: the rules say when that matters; NaN: it has diverged.",
)
RUN_GRADIENT_NORM = Family(
    "streamd_run_gradient_norm",
    "gauge",
    ("stream", "metric"),
    "The last gradient norm. It often rises some steps before the loss does.",
)
RUN_LEARNING_RATE = Family(
    "streamd_run_learning_rate",
    "gauge",
    ("stream", "metric"),
    "The last learning rate. A step down that the schedule does not know of was `reduce_lr`.",
)
RUN_METRIC = Family(
    "streamd_run_metric",
    "gauge",
    ("stream", "metric"),
    "The last value of every other metric, as sent. Metrics over the label cap are left out; /streams has them.",
)
RUN_MEMORY = Family(
    "streamd_run_memory_ratio",
    "gauge",
    ("stream", "memory"),
    "Share of the memory in use, 0 to 1. Above 0.9 for long: the next larger batch ends the run.",
)
RUN_STEP_SECONDS = Family(
    "streamd_run_step_seconds",
    "gauge",
    ("stream",),
    "Time that the last step took. Growing: something else uses the machine, or batches became larger.",
)
RUN_DATA_WAIT = Family(
    "streamd_run_data_wait_seconds",
    "gauge",
    ("stream",),
    "Time that the last step waited for its data. Near streamd_run_step_seconds: the loader is too slow.",
)
RUN_BUSY = Family(
    "streamd_run_busy_ratio",
    "gauge",
    ("stream", "processor"),
    "Utilisation of GPU and CPU, 0 to 1. GPU low and CPU high: preparing the data is what takes the time.",
)
RUN_NONFINITE = Family(
    "streamd_run_nonfinite_values",
    "gauge",
    ("stream",),
    "Values that were NaN or infinite since this process holds the run, also those between two scrapes. "
    "`other`: of all runs over the label cap; their commands and acknowledgements are added up so, too.",
)
RUN_COMMANDS = Family(
    "streamd_run_commands",
    "gauge",
    ("stream", "command", "mode"),
    "Commands asked of the run since this process holds it. Several of one kind: what was done did not help.",
)
RUN_COMMAND_TIME = Family(
    "streamd_run_command_timestamp_seconds",
    "gauge",
    ("stream", "command", "mode"),
    "Unix time at which such a command was last asked. What the loss did after it says whether it helped.",
)
RUN_ACKNOWLEDGEMENTS = Family(
    "streamd_run_acknowledgements",
    "gauge",
    ("stream", "outcome"),
    "How the run answered commands, also those that a person sent, since this process holds it. `none`: not in time.",
)

FALSE_ALARM_BUDGET = Family(
    "streamd_false_alarm_budget_ratio",
    "gauge",
    ("stream",),
    "Of the false alarms that policy.false_alarms allowed so far, the share that judgements could have cost at most. "
    "Near 1: judged as sharply as allowed. Far below: judged so seldom that policy.warning_p_value is what limits, or "
    "some of its tests have nothing to judge; a larger budget would change nothing. `other`: the largest.",
)
FALSE_ALARM_JUDGEMENTS = Family(
    "streamd_false_alarm_budget_judgements",
    "gauge",
    ("stream",),
    "Judgements that the budget paid for since the stream began. Rising while streamd_false_alarm_budget_ratio falls "
    "and event time stands still: look at `ts` of what is sent. `other`: of all streams over the label cap.",
)

# --- The process ----------------------------------------------------------------------------------

STREAMS = Family(
    "streamd_streams",
    "gauge",
    (),
    "Streams held in memory. Near streams_max times the partitions, the next one evicts another.",
)
STATE_BYTES = Family(
    "streamd_state_bytes",
    "gauge",
    (),
    "Memory of all streams' state and references. This is what to size the container by.",
)
BUILD_INFO = Family(
    "streamd_build_info",
    "gauge",
    ("version", "python"),
    "Always 1. Join on it to see which release judged what.",
)

FAMILIES: tuple[Family, ...] = tuple(value for value in globals().values() if isinstance(value, Family))

# --- The parent of several workers: told by it alone ----------------------------------------------

WORKER_UP = Family(
    "streamd_worker_up",
    "gauge",
    ("worker",),
    "Whether a worker of `streamd run --workers` answered this scrape; its own series are missing where it is 0. "
    "0 for long: it dies at each start, and the log says of what; the others hold its partitions.",
)
WORKER_RESTARTS = Family(
    "streamd_worker_restarts_total",
    "counter",
    ("worker",),
    "Times that a worker ended by itself and was started again. Rising: a bug, or too little memory: see the log.",
)

FLEET_FAMILIES: tuple[Family, ...] = (WORKER_UP, WORKER_RESTARTS)
