"""Commands that nobody answers, over a real broker: the alert comes for who is silent, and for nobody else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from brokers import RealKafka
from daemons import Daemon

from streamd.client import TelemetryProducer, TrainingMonitor

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(180)]

COMMANDS = {"checkpoint", "pause"}  # what a loss that is NaN asks for


def test_a_command_without_an_answer_in_time_is_an_alert_and_with_one_or_after_the_end_it_is_none(
    kafka_broker: RealKafka, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(
        kafka_broker.bootstrap_servers,
        STREAMD_POLICY__MODE="enforce",
        STREAMD_POLICY__ACKNOWLEDGE_SECONDS="5",
        STREAMD_KAFKA__PARTITIONS="1",  # so that what is told of one run is looked for in all
    )
    daemon.wait_until_ready()
    obeyed: list[str] = []
    monitor = TrainingMonitor(
        "answers",
        bootstrap_servers=daemon.bootstrap_servers,
        topic=daemon.topics["telemetry"],
        control_topic=daemon.topics["control"],
        allow=COMMANDS,
        handlers={name: lambda command: obeyed.append(command.command) for name in COMMANDS},
    )

    def have_obeyed() -> bool:
        monitor.step(loss=math.nan)
        return set(obeyed) == COMMANDS

    with monitor, TelemetryProducer(daemon.bootstrap_servers, daemon.topics["telemetry"]) as producer:
        daemon.wait(have_obeyed)
        assert monitor._sender.flush()
        producer.send("ends", 1, {"loss": math.nan})
        producer.end("ends", step=1, outcome="failed")
        producer.send("silent", 1, {"loss": math.nan})
        assert producer.flush()
        daemon.wait(lambda: daemon.metric("streamd_alerts_total", detector="commands") > 0)
        told = [alert for alert in daemon.alerts() if alert["detector"] == "commands"]
    assert [(alert["stream"], alert["status"]) for alert in told] == [("silent", "firing")]
    assert told[0]["summary"].startswith("silent: no acknowledgement of checkpoint")
    assert [alert["status"] for alert in daemon.alerts() if alert["stream"] == "ends"] == ["firing", "resolved"]
