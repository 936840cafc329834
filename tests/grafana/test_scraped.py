"""A real Prometheus scrapes a real daemon, and everything that is asked of it has an answer."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import promql
import pytest
from daemons import Daemon
from prometheus import Prometheus, program
from promql import Expression

from streamd.client import FeatureProducer
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(180)]

CALM, LOUD = 40, 5  # batches; the mean entropy has a past after 30
BOARDS = promql.dashboards()


def send_calm(daemon: Daemon) -> None:
    """Two streams with predictions and references."""
    with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:
        for stream in ("fraud/7", "churn/1"):
            producer.send_reference(stream, features(1000, 0), logits=logits(1000, 0))
            for seed in range(1, CALM + 1):
                producer.send(stream, features(200, seed), logits=logits(200, seed))


def send_loud(daemon: Daemon) -> None:
    """One of them drifts and stays so; bad records."""
    with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:
        for seed in range(1, LOUD + 1):
            producer.send("fraud/7", features(200, seed, 3.0), logits=logits(200, seed, 3.0))
    for _ in range(5):
        daemon.send(b"{", b"fraud/7")


def send_telemetry(daemon: Daemon) -> None:
    """A run whose loss is NaN at one step between two others, in one record, and one that stays there."""
    for run, losses in {"bert-42": [2.0, 1.9, math.nan, 1.8], "gpt-1": [2.0, math.nan]}.items():
        lines = "\n".join(json.dumps(point(run, step, loss)) for step, loss in enumerate(losses, 1))
        daemon.send(lines.encode(), run.encode(), kind="telemetry")


def point(run: str, step: int, loss: float) -> dict[str, Any]:
    metrics = {
        "loss": loss,
        "grad_norm": 1.0,
        "lr": 1e-4,
        "val/f1": 0.8,
        "step_seconds": 0.2,
        "data_wait_seconds": 0.05,
        "cpu_percent": 30.0,
        "cpu_mem_percent": 40.0,
        "gpu_util_percent": 95.0,
        "gpu_mem_allocated_bytes": 3e10,
        "gpu_mem_total_bytes": 8e10,
    }
    return {"run": run, "step": step, "metrics": metrics}


def acknowledge(daemon: Daemon) -> None:
    """The first run pauses; nobody answers its `checkpoint`."""
    daemon.wait(lambda: daemon.metric("streamd_run_commands", stream="bert-42") == 2)
    commands = [orjson.loads(record.value) for record in daemon.read("control")]
    (pause,) = [each for each in commands if each["command"] == "pause" and each["target"] == {"run": "bert-42"}]
    answer = {"run": "bert-42", "role": "ack", "ack": {"command_id": pause["id"], "outcome": "done"}}
    daemon.send(orjson.dumps(answer), b"bert-42", kind="telemetry")


def features(rows: int, seed: int, shift: float = 0.0) -> dict[str, list[float] | list[str]]:
    generator = np.random.default_rng(seed)
    amount, age = generator.normal(size=(2, rows))
    country = generator.choice(["DE", "FR", "US"], rows, p=[0.1, 0.1, 0.8] if shift else [0.5, 0.3, 0.2])
    return {"amount": (amount + shift).tolist(), "age": age.tolist(), "country": country.tolist()}


def logits(rows: int, seed: int, shift: float = 0.0) -> list[list[float]]:
    values: list[list[float]] = (np.random.default_rng(seed).normal(size=(rows, 2)) * (1 + shift)).tolist()
    return values


@pytest.fixture(scope="module")
def prometheus(embedded_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has seen the daemon at rest, then at work, and then at rest again."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    daemon = Daemon(embedded_broker.bootstrap_servers, folder, STREAMD_DETECTORS__KS__WINDOW_ROWS="200")
    config = folder / "streamd.yaml"
    config.write_text("streams: [{match: bert-*, policy: {mode: enforce, acknowledge_seconds: 2}}]\n")
    scraper = Prometheus(daemon.url.removeprefix("http://"), folder)
    try:
        daemon.start("-c", str(config))
        daemon.wait_until_ready()
        scraper.start()
        daemon.wait(lambda: bool(scraper.query("streamd_partitions_assigned == 4")))
        send_calm(daemon)
        daemon.wait(lambda: bool(scraper.query(f"sum(streamd_batches_judged_total) == {2 * CALM}")))
        send_telemetry(daemon)
        send_loud(daemon)
        acknowledge(daemon)
        for seen in (
            f"sum(streamd_batches_judged_total) == {2 * CALM + LOUD}",
            "rate(streamd_telemetry_points_total[60s])",  # scraped twice
            'ALERTS{alertstate="firing"}',
            'sum(streamd_run_acknowledgements{outcome="done"})',
            'sum(streamd_run_acknowledgements{outcome="none"})',
        ):
            daemon.wait(lambda expr=seen: bool(scraper.query(expr)))  # type: ignore[misc]
        yield scraper
    finally:
        daemon.close()
        scraper.close()


def answers(prometheus: Prometheus, expression: Expression, expr: str) -> list[float]:
    """The values now: there are some, all are numbers, and each label that the legend shows is there."""
    found = prometheus.query(promql.filled(expr, "60s", stream=".*", detector=".*", metric=".*"))
    assert found, f"{expression}: no data for {expr}"
    for labels, value in found:
        assert math.isfinite(value), (expression, labels, value)
        assert all(labels.get(name) for name in re.findall(r"\{\{(\w+)\}\}", expression.legend)), (expression, labels)
    return [value for _, value in found]


@pytest.mark.parametrize("uid", BOARDS)
def test_every_expression_of_a_dashboard_returns_data(prometheus: Prometheus, uid: str) -> None:
    for expression in (*promql.of_panels(BOARDS[uid]), *promql.of_annotations(BOARDS[uid])):
        answers(prometheus, expression, expression.text)


@pytest.mark.parametrize("uid", BOARDS)
def test_every_variable_has_values(prometheus: Prometheus, uid: str) -> None:
    for expression, label in promql.of_variables(BOARDS[uid]):
        match = promql.filled(expression.text, "60s", stream=".*")
        assert len(prometheus.label_values(label, match)) > 1, expression


@pytest.mark.parametrize("expression", list(promql.of_rules()), ids=str)
def test_every_rule_can_be_judged_from_what_the_daemon_exposes(prometheus: Prometheus, expression: Expression) -> None:
    """Whether or not it fires: each side of it has data, and the sides have labels in common."""
    assert set(answers(prometheus, expression, promql.always(expression.text))) <= {0.0, 1.0}


def test_only_the_rule_about_dead_letters_fires_on_a_healthy_daemon_with_bad_producers(prometheus: Prometheus) -> None:
    firing = prometheus.query('ALERTS{alertstate="firing"}')
    assert {labels["alertname"] for labels, _ in firing} == {"StreamdDeadLettersRising"}


def test_the_first_alert_of_a_detector_counts_as_a_rise(prometheus: Prometheus) -> None:
    """A series that begins at 1 has not risen, to Prometheus; ours begin at 0."""
    expr = 'sum by (detector) (increase(streamd_alerts_total{status="firing"}[5m]))'
    fired = {labels["detector"]: value for labels, value in prometheus.query(expr)}
    assert fired["ks"] > 0
    assert fired["chi2"] > 0


def test_what_prometheus_shows_is_what_was_sent(prometheus: Prometheus) -> None:
    until = time.monotonic() + 30
    expected = {"fraud/7": 3.0, "churn/1": 0.0, "bert-42": 3.0, "gpt-1": 3.0}  # the last two are training runs
    while (shown := {s["stream"]: v for s, v in prometheus.query("streamd_stream_severity")}) != expected:
        assert time.monotonic() < until, shown
        time.sleep(0.2)
    ((_, rows),) = prometheus.query("sum(streamd_rows_judged_total)")
    assert rows == (2 * CALM + LOUD) * 200
    ((_, restored),) = prometheus.query("sum(streamd_restore_seconds_count)")
    assert restored == 4


def test_a_loss_that_is_no_number_is_shown_and_one_between_two_scrapes_is_counted(prometheus: Prometheus) -> None:
    losses = {labels["stream"]: value for labels, value in prometheus.query("streamd_run_loss")}
    assert losses["bert-42"] == 1.8
    assert math.isnan(losses["gpt-1"])
    (annotation,) = [each for each in promql.of_annotations(BOARDS["streamd-training"]) if "Not a number" in str(each)]
    shown = prometheus.query(promql.filled(annotation.text, "60s", stream=".*"))
    assert [(labels["stream"], labels["metric"]) for labels, _ in shown] == [("gpt-1", "loss")]
    counted = {labels["stream"]: value for labels, value in prometheus.query("streamd_run_nonfinite_values")}
    assert counted == {"bert-42": 1.0, "gpt-1": 1.0}


def test_what_was_asked_of_a_run_and_how_it_answered_is_shown(prometheus: Prometheus) -> None:
    asked = prometheus.query('streamd_run_commands{stream="bert-42", mode="enforce"}')
    assert {labels["command"]: value for labels, value in asked} == {"checkpoint": 1.0, "pause": 1.0}
    answered = prometheus.query('streamd_run_acknowledgements{stream="bert-42"}')
    assert {labels["outcome"] for labels, _ in answered} == {"done", "none"}
    ((_, at),) = prometheus.query('streamd_run_command_timestamp_seconds{stream="bert-42", command="pause"}')
    assert 0 < time.time() - at < 300
