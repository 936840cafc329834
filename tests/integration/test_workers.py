"""`streamd run --workers 2` as a user runs it: one address, one signal, and a worker that dies."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import psutil
import pytest
from brokers import ExternalKafka, RealKafka
from daemons import Daemon

from streamd.client import FeatureProducer
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

StartDaemon = Callable[..., Daemon]
SETTINGS = {
    "STREAMD_DETECTORS__KS__WINDOW_ROWS": "200",
    "STREAMD_DETECTORS__AUTOENCODER": "null",
    "STREAMD_WORKERS": "2",
}
STREAMS = [f"s/{i}" for i in range(6)]  # keyed so that both partitions have some


def send(daemon: Daemon, *shifts: float) -> None:
    """A batch of 200 rows for every stream and shift of the mean."""
    generator = np.random.default_rng(len(shifts))
    with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:
        for shift in shifts:
            for stream in STREAMS:
                producer.send(stream, {"amount": generator.normal(shift, size=200).tolist()})


def workers(daemon: Daemon) -> list[dict[str, Any]]:
    return orjson.loads(daemon.get("/readyz")[1])["workers"]  # type: ignore[no-any-return]


def watched(daemon: Daemon) -> int:
    """Batches that were judged, as the streams tell it: a restarted worker's counters begin at 0."""
    return sum(stream["batches"] for stream in orjson.loads(daemon.get("/streams")[1])["streams"])


def told(daemon: Daemon) -> Counter[tuple[str, str]]:
    """How often each stream's drift was said to begin and to end."""
    return Counter((a["stream"], a["status"]) for a in daemon.alerts() if a["detector"] == "ks")


def settle(daemon: Daemon) -> None:
    """Both workers are up, and share the partitions, and have read them to the end."""
    daemon.wait_until_ready()
    daemon.wait(lambda: sorted(daemon.metric("streamd_partitions_assigned", worker=n) for n in "01") == [2, 2])
    daemon.wait(lambda: daemon.metric("streamd_consumer_lag_records") == 0)


@pytest.mark.broker
def test_two_workers_share_the_partitions_and_one_address_tells_of_both(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(embedded_broker.bootstrap_servers, **SETTINGS)
    settle(daemon)
    send(daemon, 0.0, 0.0)
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 2 * len(STREAMS))
    assert all(daemon.metric("streamd_batches_judged_total", worker=n) > 0 for n in "01")
    assert daemon.metric("streamd_worker_up") == 2
    assert watched(daemon) == 2 * len(STREAMS)
    numbers = {line["worker"] for line in daemon.logged("partitions assigned")}
    assert numbers == {0, 1}
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait(lambda: daemon.metric("streamd_config_reloads_total", outcome="done") == 2)
    processes = [psutil.Process(worker["pid"]) for worker in workers(daemon)]
    assert daemon.stop() == 0
    assert not any(process.is_running() for process in processes)
    assert {line.get("worker") for line in daemon.logged("stopped")} == {0, 1, None}


@pytest.mark.broker
def test_workers_do_not_outlive_a_parent_that_was_killed(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon
) -> None:
    """They finish what they have, as if told to stop."""
    daemon = start_daemon(embedded_broker.bootstrap_servers, **SETTINGS)
    daemon.wait_until_ready()
    processes = [psutil.Process(worker["pid"]) for worker in workers(daemon)]
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert psutil.wait_procs(processes, timeout=30)[1] == []
    assert len(daemon.logged("stopped")) == 2


@pytest.mark.broker
def test_what_no_restart_mends_is_told_once_by_the_exit_code(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(embedded_broker.bootstrap_servers, start=False, **SETTINGS)
    daemon.start("--no-create-topics")
    assert daemon._process is not None
    assert daemon._process.wait(120) == 78
    assert daemon.topics["features"] in daemon.tail()


@pytest.mark.kafka
def test_a_worker_is_killed_and_nothing_is_lost_or_told_twice(
    kafka_broker: RealKafka | ExternalKafka, start_daemon: StartDaemon
) -> None:
    """Its partitions are taken over, it comes back, and every stream's drift fires and resolves exactly once."""
    daemon = start_daemon(kafka_broker.bootstrap_servers, **SETTINGS)
    settle(daemon)
    send(daemon, *[0.0] * 15)  # the first ten are the reference
    victim = workers(daemon)[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    send(daemon, 3.0, 3.0)
    daemon.wait(lambda: daemon.metric("streamd_worker_restarts_total", worker="0") == 1)
    settle(daemon)
    assert victim not in [worker["pid"] for worker in workers(daemon)]
    send(daemon, *[0.0] * 3)
    daemon.wait(lambda: len(told(daemon)) >= 2 * len(STREAMS))
    assert daemon.stop() == 0
    assert told(daemon) == {(stream, status): 1 for stream in STREAMS for status in ("firing", "resolved")}
