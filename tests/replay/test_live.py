"""What `streamd replay` says of a topic is what a daemon published while it was written, bit for bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from bad_records import bad_records
from daemons import Daemon

from streamd.cli import verbs
from streamd.client import FeatureProducer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SETTINGS = {
    "STREAMD_DETECTORS__KS__WINDOW_ROWS": "200",
    "STREAMD_DETECTORS__CHI2__WINDOW_ROWS": "200",
    "STREAMD_DETECTORS__AUTOENCODER__STEPS_MAX": "200",
    "STREAMD_POLICY__CRITICAL_AFTER": "2",
    "STREAMD_POLICY__COOLDOWN_SECONDS": "0",
}
STREAMS = ("fraud/7", "churn/1", "rank/2", "spam/9")
BATCHES = 16
HOUR_MS = 3_600_000
T0 = 1_763_769_600_000  # 2025-11-22: what a judgement may cost grows with the event time since the one before


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.broker), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    broker = request.getfixturevalue(f"{request.param}_broker")
    daemon = Daemon(broker.bootstrap_servers, tmp_path, **SETTINGS)
    daemon.start()
    daemon.wait_until_ready()
    yield daemon
    daemon.close()


def rows(count: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    first = generator.normal(size=count)
    return {
        "amount": first + shift,
        "age": first + generator.normal(scale=0.1, size=count),
        "country": generator.choice(["DE", "FR", "IT"], size=count).tolist() if not shift else ["XX"] * count,
    }


def send(daemon: Daemon) -> tuple[int, int]:
    """Two streams with references, two that take their first rows; drift that comes and goes; bad records between.

    Returns: how many batches should be judged, how many records refused.
    """
    bad = [each for each in bad_records() if each.value is None or len(each.value) < 100_000]
    refused = sum(each.reason is not None for each in bad)
    producers = [
        FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"], format=f) for f in ("json", "arrow")
    ]
    for stream, producer in zip(STREAMS[:2], producers, strict=True):
        producer.send_reference(stream, rows(1500, 1), probabilities=np.full((1500, 2), 0.5))
    for each in bad[1::2]:
        daemon.send(each.value, each.key, list(each.headers))
    for i in range(BATCHES):
        shift = 3.0 if 8 <= i < 12 else 0.0
        for k, stream in enumerate(STREAMS):
            seed = 100 * k + i
            p = np.random.default_rng(seed).beta(2, 2 + 5 * shift, size=400)
            producer = producers[k % 2]
            answers = np.stack([p, 1 - p], axis=1)
            producer.send(stream, rows(400, seed, shift), probabilities=answers, ts=T0 + HOUR_MS * i, wait_seconds=10)
    for producer in producers:
        assert producer.close(30)
    for each in bad[::2]:
        daemon.send(each.value, each.key, list(each.headers))
    return BATCHES * len(STREAMS) + len(bad) - refused, refused


def by_stream(values: Iterable[bytes]) -> dict[str, list[bytes]]:
    streams = defaultdict(list)
    for value in values:
        streams[orjson.loads(value)["stream"]].append(value)
    return dict(streams)


def test_a_replayed_topic_gives_the_daemons_alerts_byte_for_byte(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    judged, refused = send(daemon)
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") >= judged)
    daemon.wait(lambda: daemon.metric("streamd_records_rejected_total") >= refused)
    daemon.wait(lambda: daemon.metric("streamd_consumer_lag_records") == 0)
    assert daemon.stop() == 0
    published = by_stream(record.value for record in daemon.read("alerts"))

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    arguments = ["--bootstrap-servers", daemon.bootstrap_servers]
    assert verbs.run(["record", daemon.topics["features"], "--out", str(tmp_path / "day.rec"), *arguments]) == 0
    capsysbinary.readouterr()
    for source in (str(tmp_path / "day.rec"), daemon.topics["features"]):
        assert verbs.run(["replay", source, "--json", *arguments]) == 0
        assert by_stream(capsysbinary.readouterr().out.splitlines()) == published

    alerts = [orjson.loads(value) for values in published.values() for value in values]
    assert set(published) == set(STREAMS)
    assert {"ks", "chi2", "autoencoder"} <= {alert["detector"] for alert in alerts}
    assert {"warning", "critical"} <= {alert["severity"] for alert in alerts}
    assert any(alert["model_sha256"] for alert in alerts)
