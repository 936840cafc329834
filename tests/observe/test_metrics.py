"""Metrics are the table, and the table is fed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streamd.errors import Reason
from streamd.model import (
    Command,
    DeadLetter,
    Effect,
    Envelope,
    RunJudged,
    Severity,
    StreamChanged,
    TelemetryCounted,
)
from streamd.observe.board import Board
from streamd.observe.families import FAMILIES, FLEET_FAMILIES
from streamd.observe.metrics import Metrics
from streamd.observe.settings import MetricSettings
from streamd.transport.base import Partition

GOLDEN = Path(__file__).parent.parent / "golden" / "metrics.txt"
TOPIC = "streamd.features"
Make = Callable[..., Any]
PROCESS_PREFIXES = ("process_",)


class World:
    """A registry with metrics and a board that are fed together, as the daemon feeds them."""

    def __init__(self, streams: int = 100, features: int = 100) -> None:
        settings = MetricSettings(stream_labels_max=streams, feature_labels_max=features)
        self.registry = CollectorRegistry()
        self.board = Board()
        self.metrics = Metrics(self.registry, settings, self.board)

    def observe(self, *effects: Effect, partition: int = 0, seconds: float = 0.001) -> None:
        self.board.observe(effects, TOPIC, partition)
        self.metrics.observe(effects, TOPIC, partition, seconds)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def samples(self, name: str) -> list[Sample]:
        return [s for family in self.registry.collect() for s in family.samples if s.name == name]


COMMAND = Command("c", "rollback", "stream", "a", {}, "shadow", "a", "because", 0, 1)
METRICS = {
    "loss": 0.5,
    "grad_norm": 1.5,
    "lr": 1e-4,
    "val/f1": 0.8,
    "cpu_mem_percent": 70.0,
    "step_seconds": 0.2,
    "data_wait_seconds": 0.1,
    "gpu_util_percent": 90.0,
}
RUN = RunJudged("bert", 2_000, 7, METRICS, (), (), 1)
ENVELOPE = Envelope(TOPIC, 0, 7, 0, b"a", b"12345")


@pytest.fixture
def busy(judged: Make, verdict: Make, reading: Make, alert: Make) -> World:
    """A world in which everything has happened once."""
    world = World()
    world.metrics.polled([ENVELOPE, replace(ENVELOPE, value=None)])
    world.observe(
        StreamChanged("a", "seen", "first record"),
        judged("a", verdict(), reading(), rows=256, event_time_ms=1_500),
        alert("a"),
        COMMAND,
        DeadLetter(ENVELOPE, "decode", Reason.NOT_JSON, "no"),
        TelemetryCounted("bert", 3),
        RUN,
        replace(COMMAND, target_kind="run", target="bert", issued_at_ms=2_500),
        StreamChanged("bert", "acknowledged", "command c done", "done"),
    )
    world.metrics.skipped(TOPIC, 4)
    world.metrics.detector_crashed("ks")
    world.metrics.partitions_stalled(1)
    world.metrics.config_reloaded(done=True)
    world.metrics.delivered(3, 0.02)
    world.metrics.delivery_failed("KafkaTimeoutError")
    world.metrics.assigned([Partition(TOPIC, 0), Partition(TOPIC, 1)])
    world.metrics.lags({Partition(TOPIC, 0): 12, Partition(TOPIC, 1): 0})
    world.metrics.broker_available(True)
    world.metrics.partitions_paused(1)
    world.metrics.partitions_restoring(1)
    world.metrics.restored(0.7)
    world.metrics.engine_sizes(5, 4096)
    world.metrics.fit_finished(1.5, True)
    return world


def test_the_names_types_and_labels_are_those_that_were_promised() -> None:
    """Change tests/golden/metrics.txt only together with the CHANGELOG: dashboards and alert rules hang on it."""
    lines = [f"{f.name} {f.kind} {','.join(f.labels)}".rstrip() for f in (*FAMILIES, *FLEET_FAMILIES)]
    assert GOLDEN.read_text().splitlines() == sorted(lines)


def test_every_family_is_fed_with_its_kind_and_labels(busy: World) -> None:
    exposed = {family.name: family for family in busy.registry.collect()}
    for family in FAMILIES:
        found = exposed[family.name.removesuffix("_total")]
        assert found.type == family.kind
        assert found.documentation == family.help
        assert found.samples, f"nothing feeds {family.name}"
        assert {tuple(k for k in s.labels if k != "le") for s in found.samples} == {family.labels}, family.name


def test_nothing_is_exposed_that_is_not_in_the_table(busy: World) -> None:
    declared = {family.name.removesuffix("_total") for family in FAMILIES}
    exposed = {f.name for f in busy.registry.collect() if not f.name.startswith(PROCESS_PREFIXES)}
    assert exposed == declared


def test_the_readings_of_the_process_are_there() -> None:
    assert World().value("process_cpu_seconds_total") is not None


def test_streams_over_the_cap_share_the_largest_ratio_and_the_sum_of_judgements(judged: Make) -> None:
    world = World(streams=1)
    for stream in ("a", "b", "c"):
        world.observe(judged(stream))
    ratio, judgements = "streamd_false_alarm_budget_ratio", "streamd_false_alarm_budget_judgements"
    assert [world.value(ratio, stream=stream) for stream in ("a", "other")] == [0.25, 0.25]
    assert [world.value(judgements, stream=stream) for stream in ("a", "other")] == [40, 80]


def test_what_is_exposed_parses_as_openmetrics(busy: World) -> None:
    text = exposition.generate_latest(busy.registry).decode()
    parsed = {family.name for family in text_string_to_metric_families(text)}
    assert {family.name.removesuffix("_total") for family in FAMILIES} <= parsed
    assert b"_created" not in generate_latest(busy.registry)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_name_has_the_prefix_and_a_unit_and_the_help_is_a_sentence(family: Any) -> None:
    assert family.name.startswith("streamd_")
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert bool(family.buckets) == (family.kind == "histogram")
    assert family.help.endswith(".")
    assert list(family.buckets) == sorted(family.buckets)


def test_effects_are_counted_as_what_they_are(busy: World) -> None:
    assert busy.value("streamd_records_consumed_total", topic=TOPIC) == 2
    assert busy.value("streamd_bytes_consumed_total", topic=TOPIC) == 5
    assert busy.value("streamd_records_rejected_total", topic=TOPIC, reason="not_json") == 1
    assert busy.value("streamd_batches_judged_total", topic=TOPIC) == 1
    assert busy.value("streamd_rows_judged_total", topic=TOPIC) == 256
    assert busy.value("streamd_telemetry_points_total", topic=TOPIC) == 3
    assert busy.value("streamd_verdicts_total", detector="ks", severity="none") == 1
    assert busy.value("streamd_alerts_total", detector="ks", severity="warning", status="firing") == 1
    assert busy.value("streamd_commands_total", command="rollback", mode="shadow") == 2
    assert busy.value("streamd_stream_changes_total", change="seen") == 1
    assert busy.value("streamd_processing_seconds_count", topic=TOPIC) == 1
    assert busy.value("streamd_event_timestamp_seconds", topic=TOPIC, partition="0") == 2.0
    assert busy.value("streamd_nonfinite_values_total", topic=TOPIC) == 1
    assert busy.value("streamd_acknowledgements_total", outcome="done") == 1


def test_events_of_the_shell_are_counted_as_what_they_are(busy: World) -> None:
    assert busy.value("streamd_records_skipped_total", topic=TOPIC) == 4
    assert busy.value("streamd_records_produced_total") == 3
    assert busy.value("streamd_delivery_seconds_sum") == 0.02
    assert busy.value("streamd_delivery_failures_total", cause="KafkaTimeoutError") == 1
    assert busy.value("streamd_partitions_assigned") == 2
    assert busy.value("streamd_partition_assignments_total", outcome="assigned") == 2
    assert busy.value("streamd_consumer_lag_records", topic=TOPIC, partition="0") == 12
    assert busy.value("streamd_broker_up") == 1
    assert busy.value("streamd_partitions_paused") == 1
    assert busy.value("streamd_partitions_restoring") == 1
    assert busy.value("streamd_restore_seconds_sum") == 0.7
    assert busy.value("streamd_streams") == 5
    assert busy.value("streamd_state_bytes") == 4096
    assert busy.value("streamd_fit_seconds_count", outcome="done") == 1


def test_what_is_rare_and_matters_begins_at_zero_so_that_its_first_time_is_a_rise(judged: Make, verdict: Make) -> None:
    world = World()
    world.metrics.assigned([Partition(TOPIC, 0)])
    world.observe(judged("a", verdict("ks")))
    assert world.value("streamd_alerts_total", detector="ks", severity="critical", status="firing") == 0
    assert world.value("streamd_verdicts_total", detector="ks", severity="warning") == 0
    assert world.value("streamd_detector_crashes_total", detector="ks") == 0
    assert world.value("streamd_commands_total", command="rollback", mode="enforce") == 0
    assert world.value("streamd_commands_total", command="skip_batches", mode="enforce") == 0
    assert world.value("streamd_acknowledgements_total", outcome="none") == 0
    assert world.value("streamd_nonfinite_values_total", topic=TOPIC) == 0
    assert world.value("streamd_stream_changes_total", change="evicted") == 0
    assert world.value("streamd_config_reloads_total", outcome="refused") == 0
    assert world.value("streamd_fit_seconds_count", outcome="failed") == 0
    assert world.value("streamd_records_skipped_total", topic=TOPIC) == 0
    for reason in Reason:
        assert world.value("streamd_records_rejected_total", topic=TOPIC, reason=reason.value) == 0


def test_verdicts_are_counted_by_their_own_grades(judged: Make, verdict: Make, reading: Make) -> None:
    world = World()
    effect = judged("a", reading("ks"), verdict("ks"), reading("chi2"), verdict("chi2"))
    world.observe(replace(effect, severities=(Severity.INFO, Severity.CRITICAL)))
    assert world.value("streamd_verdicts_total", detector="ks", severity="info") == 1
    assert world.value("streamd_verdicts_total", detector="chi2", severity="critical") == 1


def test_a_revoked_partition_leaves_no_gauge_behind(busy: World) -> None:
    busy.metrics.revoked([Partition(TOPIC, 0)])
    busy.board.revoked([Partition(TOPIC, 0)])
    assert busy.value("streamd_consumer_lag_records", topic=TOPIC, partition="0") is None
    assert busy.value("streamd_consumer_lag_records", topic=TOPIC, partition="1") == 0
    assert busy.value("streamd_event_timestamp_seconds", topic=TOPIC, partition="0") is None
    assert busy.value("streamd_partitions_assigned") == 1
    assert busy.samples("streamd_verdict_effect") == []


def test_a_late_batch_does_not_turn_the_event_time_back(judged: Make) -> None:
    world = World()
    world.observe(judged("a", event_time_ms=5_000), judged("b", event_time_ms=3_000))
    assert world.value("streamd_event_timestamp_seconds", topic=TOPIC, partition="0") == 5.0


def test_causes_of_failed_deliveries_are_bounded_words() -> None:
    world = World()
    world.metrics.delivery_failed("node 3: timed out\nafter 30 s")
    for i in range(100):
        world.metrics.delivery_failed(f"cause {i}")
    causes = [s.labels["cause"] for s in world.samples("streamd_delivery_failures_total")]
    assert "node_3_timed_out_after_30_s" in causes
    assert len(causes) == 21
    assert world.value("streamd_delivery_failures_total", cause="other") == 81


# --- What each stream looks like now ---


def test_a_stream_shows_its_statistic_effect_threshold_and_corrected_p_value(busy: World) -> None:
    labels = {"stream": "a", "detector": "ks", "feature": "amount"}
    assert busy.value("streamd_window_statistic", **labels) == 0.1
    assert busy.value("streamd_window_statistic_threshold", stream="a", detector="ks") == 0.2
    assert busy.value("streamd_verdict_effect", test="ks_2samp", **labels) == 0.1
    assert busy.value("streamd_verdict_effect_threshold", stream="a", detector="ks", test="ks_2samp") == 0.2
    assert busy.value("streamd_verdict_p_value", test="ks_2samp", **labels) == 0.1
    assert busy.value("streamd_stream_severity", stream="a") == 2


def test_a_column_that_was_not_judged_has_no_sample_rather_than_zero(judged: Make, verdict: Make) -> None:
    world = World()
    world.observe(judged("a", verdict(columns=("x", "y"), effects=np.array([np.nan, 0.3]), adjusted=None)))
    assert [s.labels["feature"] for s in world.samples("streamd_verdict_effect")] == ["y"]
    assert world.samples("streamd_verdict_p_value") == []


def test_streams_over_the_cap_are_shown_together_by_the_worst_of_them(judged: Make, verdict: Make, alert: Make) -> None:
    world = World(streams=1)
    world.observe(judged("first", verdict(effect=0.9)))
    world.observe(judged("second", verdict(effect=0.3)), judged("third", verdict(effect=0.5)))
    world.observe(alert("third", Severity.CRITICAL), alert("second", Severity.WARNING))
    other = {"stream": "other", "detector": "ks", "test": "ks_2samp", "feature": "other"}
    assert world.value("streamd_verdict_effect", **other) == 0.5
    assert world.value("streamd_verdict_p_value", **other) == 0.3
    assert world.value("streamd_stream_severity", stream="other") == 3
    assert world.value("streamd_alerts_firing", stream="other", detector="ks", severity="critical") == 1
    assert {s.labels["stream"] for s in world.samples("streamd_verdict_effect")} == {"first", "other"}


def test_features_over_the_cap_are_shown_together_by_the_worst_of_them(judged: Make, verdict: Make) -> None:
    world = World(features=2)
    effects = np.array([0.1, 0.2, 0.4, 0.3])
    world.observe(judged("a", verdict(columns=("w", "x", "y", "z"), effects=effects, adjusted=effects)))
    shown = {s.labels["feature"]: s.value for s in world.samples("streamd_verdict_effect")}
    assert shown == {"w": 0.1, "x": 0.2, "other": 0.4}
    assert {s.labels["feature"]: s.value for s in world.samples("streamd_verdict_p_value")}["other"] == 0.3


def test_a_feature_keeps_its_label_when_others_come_before_it(judged: Make, verdict: Make) -> None:
    world = World(features=1)
    world.observe(judged("a", verdict(columns=("x",))))
    world.samples("streamd_verdict_effect")
    world.observe(judged("a", verdict("chi2", columns=("early", "x"))))
    assert {s.labels["feature"] for s in world.samples("streamd_verdict_effect")} == {"x", "other"}


def test_the_label_of_an_evicted_stream_goes_to_the_next(judged: Make, verdict: Make) -> None:
    world = World(streams=2)
    world.observe(*(judged(name, verdict()) for name in "abc"))
    assert {s.labels["stream"] for s in world.samples("streamd_stream_severity")} == {"a", "b", "other"}
    world.observe(StreamChanged("a", "evicted", "streams_max"))
    assert {s.labels["stream"] for s in world.samples("streamd_stream_severity")} == {"b", "c"}


@pytest.mark.slow
def test_ten_thousand_streams_are_as_many_series_as_the_caps_allow(judged: Make, verdict: Make, reading: Make) -> None:
    world = World(streams=20, features=4)
    columns = tuple(f"f{i}" for i in range(8))
    outcomes = (verdict("ks", columns), reading("ks", columns), verdict("chi2", columns))
    world.observe(*(judged(f"s{i}", *outcomes) for i in range(10_000)))
    effects = world.samples("streamd_verdict_effect")
    assert len({s.labels["stream"] for s in effects}) == 21
    assert len(effects) == (20 * 5 + 1) * 2
    assert len(world.samples("streamd_stream_severity")) == 21


def test_alerts_that_fire_are_counted_until_they_are_resolved(alert: Make) -> None:
    world = World(streams=1)
    world.observe(alert("a", test="t"), alert("a"), alert("a", Severity.CRITICAL, detector="chi2"))
    world.observe(alert("b"), alert("c"), alert("c", test="t"), alert("c", test="t", status="resolved"))
    firing = {tuple(s.labels.values()): s.value for s in world.samples("streamd_alerts_firing")}
    assert firing == {("a", "ks", "warning"): 2, ("a", "chi2", "critical"): 1, ("other", "ks", "warning"): 2}


@pytest.mark.slow
def test_ten_thousand_streams_cost_no_more_series_than_those_that_the_default_caps_let_in(
    judged: Make, verdict: Make, reading: Make, alert: Make
) -> None:
    """All that is exposed, with alerts on every stream, 60 features each and more reasons than streams."""
    caps = MetricSettings()

    def exposed(streams: int) -> int:
        world = World(caps.stream_labels_max, caps.feature_labels_max)
        columns = tuple(f"f{i}" for i in range(60))
        outcomes = (verdict("ks", columns), reading("ks", columns), verdict("chi2", columns))
        for i in range(streams):
            effects: list[Effect] = [StreamChanged(f"s{i}", "seen", ""), judged(f"s{i}", *outcomes), alert(f"s{i}")]
            world.observe(
                *effects,
                replace(COMMAND, id=str(i), target=f"s{i}"),
                DeadLetter(ENVELOPE, "decode", Reason.EMPTY, f"{i}"),
            )
        return sum(len(family.samples) for family in world.registry.collect())

    few, many = exposed(caps.stream_labels_max + 1), exposed(10_000)
    assert few == many
    assert many < (caps.stream_labels_max + 1) * (caps.feature_labels_max + 1) * 5 + 1000


# --- What each training run looks like now ---


def run(name: str = "bert", **metrics: float) -> RunJudged:
    return RunJudged(name, 2_000, 7, metrics, (), ())


def test_each_metric_of_a_run_stands_in_the_family_that_it_belongs_to(busy: World) -> None:
    bert = {"stream": "bert"}
    assert busy.value("streamd_run_step", **bert) == 7
    assert busy.value("streamd_run_timestamp_seconds", **bert) == 2.0
    assert busy.value("streamd_run_loss", metric="loss", **bert) == 0.5
    assert busy.value("streamd_run_gradient_norm", metric="grad_norm", **bert) == 1.5
    assert busy.value("streamd_run_learning_rate", metric="lr", **bert) == 1e-4
    assert busy.value("streamd_run_metric", metric="val/f1", **bert) == 0.8
    assert busy.value("streamd_run_memory_ratio", memory="cpu_mem", **bert) == 0.7
    assert busy.value("streamd_run_step_seconds", **bert) == 0.2
    assert busy.value("streamd_run_data_wait_seconds", **bert) == 0.1
    assert busy.value("streamd_run_busy_ratio", processor="gpu", **bert) == 0.9
    assert busy.value("streamd_run_nonfinite_values", **bert) == 1
    rollback = {"command": "rollback", "mode": "shadow", **bert}
    assert busy.value("streamd_run_commands", **rollback) == 1
    assert busy.value("streamd_run_command_timestamp_seconds", **rollback) == 2.5
    assert busy.value("streamd_run_acknowledgements", outcome="done", **bert) == 1
    assert [s.labels["metric"] for s in busy.samples("streamd_run_metric")] == ["val/f1", "cpu_mem_percent"]


def test_what_is_no_number_is_exposed_as_what_it_is() -> None:
    world = World()
    world.observe(run(loss=math.nan, grad_norm=math.inf, score=-math.inf))
    (loss,) = world.samples("streamd_run_loss")
    assert math.isnan(loss.value)
    assert world.value("streamd_run_gradient_norm", stream="bert", metric="grad_norm") == math.inf
    assert world.value("streamd_run_metric", stream="bert", metric="score") == -math.inf


def test_a_run_that_is_forgotten_or_moves_loses_its_series(busy: World) -> None:
    busy.observe(StreamChanged("bert", "evicted", "streams_max"))
    assert [s for f in busy.registry.collect() for s in f.samples if s.labels.get("stream") == "bert"] == []
    busy.observe(RUN)
    busy.board.revoked([(TOPIC, 0)])
    assert [s for f in busy.registry.collect() for s in f.samples if s.labels.get("stream") == "bert"] == []


def test_a_run_over_the_cap_is_counted_as_other_and_its_values_are_left_out() -> None:
    world = World(streams=1)
    world.observe(*(replace(run(name, loss=1.0), nonfinite=2) for name in "abc"))
    assert {s.labels["stream"]: s.value for s in world.samples("streamd_run_nonfinite_values")} == {"a": 2, "other": 4}
    assert [s.labels["stream"] for s in world.samples("streamd_run_loss")] == ["a"]


def test_losses_have_a_label_before_other_metrics_which_keep_theirs() -> None:
    world = World(features=2)
    world.observe(run(a=1.0, b=2.0, loss=3.0))
    assert [s.labels["metric"] for s in world.samples("streamd_run_loss")] == ["loss"]
    assert [s.labels["metric"] for s in world.samples("streamd_run_metric")] == ["a"]
    world.observe(run(grad_norm=1.0))
    assert world.samples("streamd_run_gradient_norm") == []
    assert [s.labels["metric"] for s in world.samples("streamd_run_metric")] == ["a"]


def test_the_first_alert_of_a_rule_is_a_rise() -> None:
    world = World()
    world.observe(TelemetryCounted("bert", 1), run(loss=1.0))
    for rule in ("nonfinite", "loss_spike", "stalled_training"):
        assert world.value("streamd_alerts_total", detector=rule, severity="critical", status="firing") == 0


def test_a_thousand_runs_cost_no_more_series_than_the_caps_let_in() -> None:
    caps = MetricSettings(stream_labels_max=10, feature_labels_max=5)

    def exposed(runs: int) -> int:
        world = World(caps.stream_labels_max, caps.feature_labels_max)
        metrics = {**METRICS, **{f"m{i}": 1.0 for i in range(20)}}
        command = replace(COMMAND, target_kind="run")
        for i in range(runs):
            world.observe(run(f"r{i}", **metrics), replace(command, target=f"r{i}"))
        return sum(len(family.samples) for family in world.registry.collect())

    assert exposed(11) == exposed(1_000)


def test_the_readme_names_no_metric_that_is_not_declared() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    named = set(re.findall(r"streamd_[a-z_]+", text)) - {"streamd_"}
    assert named
    assert named <= {family.name for family in (*FAMILIES, *FLEET_FAMILIES)}
