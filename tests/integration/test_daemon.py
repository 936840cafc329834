"""The daemon as a user runs it: a process, a broker, records in, alerts out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from bad_records import bad_records
from brokers import RealKafka
from daemons import Daemon

from streamd.client import FeatureProducer
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

StartDaemon = Callable[..., Daemon]
FAST = {"STREAMD_DETECTORS__KS__WINDOW_ROWS": "200"}


def rows(count: int, seed: int, shift: float = 0.0) -> dict[str, list[float]]:
    values = np.random.default_rng(seed).normal(size=(3, count))
    return {"amount": (values[0] + shift).tolist(), "age": values[1].tolist(), "score": values[2].tolist()}


def send_drift(daemon: Daemon, stream: str = "fraud/7") -> None:
    """A reference, five calm batches, two loud ones and three calm ones, with the client."""
    with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:
        producer.send_reference(stream, rows(1000, 0))
        for seed in range(1, 11):
            producer.send(stream, rows(200, seed, shift=3.0 * (seed in (6, 7))), ids=[str(i) for i in range(200)])


def statuses(daemon: Daemon, detector: str = "ks") -> list[tuple[str, str]]:
    return [(a["status"], a["severity"]) for a in daemon.alerts() if a["detector"] == detector]


@pytest.mark.broker
def test_from_the_first_message_to_the_resolved_alert(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon
) -> None:
    """No configuration file: the topics are made, the stream is watched, the drift fires, names its feature, ends."""
    daemon = start_daemon(embedded_broker.bootstrap_servers, **FAST)
    daemon.wait_until_ready()
    (made,) = daemon.logged("made the topics")
    assert sorted(made["topics"]) == sorted(daemon.topics.values())
    send_drift(daemon)
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 10)
    assert statuses(daemon) == [("firing", "warning"), ("resolved", "warning")]
    (alert, *_) = [a for a in daemon.alerts() if a["detector"] == "ks"]
    assert [feature["name"] for feature in alert["features"]] == ["amount"]
    assert alert["features"][0]["direction"] == "up"
    streams = orjson.loads(daemon.get("/streams")[1])["streams"]
    assert [(s["stream"], s["rows"]) for s in streams] == [("fraud/7", 2000)]
    assert daemon.metric("streamd_consumer_lag_records") == 0
    assert daemon.stop() == 0
    (record, *_) = daemon.read("alerts")
    assert record.key == b"fraud/7"
    assert dict(record.headers)["ce_type"] == b"io.streamd.alert.v1"


@pytest.mark.kafka
def test_no_bad_record_stops_the_rest_and_each_becomes_one_dead_letter(
    make_kafka: Callable[..., RealKafka], start_daemon: StartDaemon
) -> None:
    """Bad records stand between good batches of another stream on the same partition."""
    broker = make_kafka("message.max.bytes=33554432")  # 20 MB are more than it takes by default
    broker.start()
    daemon = start_daemon(broker.bootstrap_servers, **FAST, STREAMD_KAFKA__PARTITIONS="1")
    daemon.wait_until_ready()
    expected: dict[int, tuple[str, bytes | None, str]] = {}
    good = 0
    for bad in bad_records():
        _, offset = daemon.send(bad.value, bad.key, list(bad.headers))
        if bad.reason is not None:
            expected[offset] = (bad.name, bad.value, bad.reason.value)
        daemon.send(orjson.dumps({"stream": "good/1", "features": rows(50, good)}), b"good/1")
        good += 1
    daemon.wait(lambda: daemon.metric("streamd_records_consumed_total") == 2 * good)
    daemon.wait(lambda: daemon.metric("streamd_consumer_lag_records") == 0)
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 2 * good - len(expected))
    letters = {}
    for record in daemon.read("dlq"):
        headers = {name: value.decode() for name, value in record.headers if name.startswith("dlq.")}
        offset = int(headers["dlq.offset"])
        assert offset not in letters, "a record became two dead letters"
        assert headers["dlq.error"]
        letters[offset] = (expected.get(offset, ("a usable record",))[0], record.value, headers["dlq.reason"])
    assert letters == expected
    assert daemon.metric("streamd_records_rejected_total") == len(expected)
    streams = {s["stream"]: s for s in orjson.loads(daemon.get("/streams")[1])["streams"]}
    assert streams["good/1"]["batches"] == good
    assert daemon.stop() == 0


@pytest.mark.kafka
def test_the_broker_may_be_absent_at_start_and_go_away_later(
    make_kafka: Callable[..., RealKafka], start_daemon: StartDaemon
) -> None:
    broker = make_kafka()
    daemon = start_daemon(broker.bootstrap_servers, **FAST)
    daemon.wait(lambda: daemon.get("/readyz")[0] == 503)
    daemon.wait(lambda: len(daemon.logged("waiting for it")) == 1)
    assert daemon.get("/livez")[0] == 200
    broker.start()
    daemon.wait_until_ready()
    send_drift(daemon, "one/1")
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 10)
    broker.kill()
    daemon.wait(lambda: daemon.metric("streamd_broker_up") == 0)
    assert daemon.get("/livez")[0] == 200
    broker.start()
    send_drift(daemon, "two/1")
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 20)
    assert statuses(daemon).count(("firing", "warning")) == 2
    assert len(daemon.logged("waiting for it")) <= 3
    assert daemon.stop() == 0


@pytest.mark.broker
def test_missing_topics_are_refused_where_they_may_not_be_made(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(embedded_broker.bootstrap_servers, start=False)
    daemon.start("--no-create-topics")
    assert daemon._process is not None
    assert daemon._process.wait(60) == 78
    assert daemon.topics["features"] in daemon.tail()


@pytest.mark.broker
def test_a_second_signal_ends_at_once(embedded_broker: EmbeddedBroker, start_daemon: StartDaemon) -> None:
    """Told to stop while the broker takes nothing, it drains in vain; asked again, it goes."""
    daemon = start_daemon("127.0.0.1:9", start=True)  # nobody is there
    daemon.wait(lambda: bool(daemon.logged("waiting for it")))
    assert daemon.stop(signal.SIGINT) in (0, 130)


@pytest.mark.broker
@pytest.mark.parametrize("away", [signal.SIGKILL, signal.SIGSTOP])
def test_told_to_stop_while_the_broker_is_away_it_ends_in_time(away: signal.Signals, start_daemon: StartDaemon) -> None:
    """Refused at once, or never answered: what is not committed comes again."""
    with EmbeddedBroker() as broker:
        daemon = start_daemon(broker.bootstrap_servers, **FAST)
        daemon.wait_until_ready()
        send_drift(daemon, "one/1")
        daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") > 0)
        send_drift(daemon, "two/1")
        assert broker.pid is not None
        os.kill(broker.pid, away)
        started = time.monotonic()
        assert daemon.stop() == 0
        seconds = time.monotonic() - started
        os.kill(broker.pid, signal.SIGCONT)
    assert seconds < 6  # 4.5 and what a busy machine adds


@pytest.mark.kafka
def test_a_training_holds_up_its_own_partition_alone(kafka_broker: RealKafka, start_daemon: StartDaemon) -> None:
    """The defaults on real Kafka: a stream whose autoencoder trains, and another that flows meanwhile."""
    daemon = start_daemon(kafka_broker.bootstrap_servers, **FAST)
    daemon.wait_until_ready()
    send_drift(daemon, "a/1")
    send_drift(daemon, "b/1")
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 20)
    assert len(daemon.logged("stream fitted")) == 2
    assert statuses(daemon).count(("firing", "warning")) == 2
    assert daemon.stop() == 0


@pytest.mark.broker
def test_sighup_reloads_the_file_and_a_wrong_one_changes_nothing(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "streamd.yaml"
    file.write_text("detectors:\n  ks:\n    window_rows: 5000\n  autoencoder: null\n")
    daemon = start_daemon(embedded_broker.bootstrap_servers, start=False)
    daemon.start("--config", str(file))
    daemon.wait_until_ready()
    file.write_text("detectors:\n  ks:\n    window_rowz: 200\n")
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait(lambda: daemon.metric("streamd_config_reloads_total", outcome="refused") == 1)
    (refused,) = daemon.logged("the configuration is refused")
    assert f"{file}:3:5 detectors.ks.window_rowz" in refused["problems"][0]
    file.write_text("detectors:\n  ks:\n    window_rows: 200\n  autoencoder: null\n")
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait(lambda: daemon.metric("streamd_config_reloads_total", outcome="done") == 1)
    assert orjson.loads(daemon.get("/config")[1])["detectors"]["ks"]["window_rows"] == 200
    send_drift(daemon)
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 10)
    assert statuses(daemon) == [("firing", "warning"), ("resolved", "warning")]
    assert daemon.stop() == 0
