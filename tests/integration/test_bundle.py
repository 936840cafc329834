"""A daemon whose stream has a bundle, over a real broker: it scores, takes up another, and refuses a damaged one."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import RealKafka
from bundles import bundle, rows, weights
from daemons import Daemon

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(180)]

STREAM = "fraud/7"
HOUR_MS = 3_600_000


def test_alerts_carry_the_hash_of_the_bundle_that_scored_through_a_replacement_and_a_damage(
    kafka_broker: RealKafka, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    old, new = (hashlib.sha256(weights(seed)).hexdigest() for seed in (0, 1))
    folder, file = bundle(tmp_path / "monitor"), tmp_path / "streamd.yaml"
    file.write_text(f"streams:\n  - match: fraud/*\n    reference: {{bundle: {folder}}}\n")
    daemon = start_daemon(kafka_broker.bootstrap_servers, start=False)
    daemon.start("--config", str(file))
    daemon.wait_until_ready()
    sent = 0

    def send(features: dict[str, np.ndarray], stream: str = STREAM) -> None:
        nonlocal sent
        sent += 1
        value = {
            "stream": stream,
            "ts": 1_763_769_600_000 + sent * HOUR_MS,
            "features": {name: column.tolist() for name, column in features.items()},
            "logits": [[2.0, 0.0]] * 1000,
            "ids": [f"t-{i}" for i in range(1000)],
        }
        daemon.send(orjson.dumps(value), stream.encode())

    def reload(outcome: str) -> None:
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait(lambda: daemon.metric("streamd_config_reloads_total", outcome=outcome) == 1)

    def alerts(detector: str, stream: str = STREAM) -> list[dict[str, Any]]:
        daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == sent)
        return [alert for alert in daemon.alerts() if (alert["detector"], alert["stream"]) == (detector, stream)]

    def told() -> list[tuple[str, str, str]]:
        return [(alert["status"], alert["severity"], alert["model_sha256"]) for alert in alerts("scorer")]

    # It scores, and says which rows, why, and how sure the model was of them.
    send(rows(1000, 1, shift=4.0))
    (alert,) = alerts("scorer")
    assert (alert["status"], alert["severity"], alert["model_sha256"]) == ("firing", "warning", old)
    assert "anomaly score rose" in alert["summary"]
    assert len(alert["rows"]) == 5
    for row in alert["rows"]:
        place = int(row["id"].removeprefix("t-"))
        assert row["features"]["income"] == pytest.approx(rows(1000, 1, shift=4.0)["income"][place])
        assert set(row["contributions"]) == set(row["features"]) <= {"age", "income"}
        assert row["confidence"] == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert sorted((row["score"] for row in alert["rows"]), reverse=True) == [row["score"] for row in alert["rows"]]

    # A stream whose columns are not the bundle's is a finding about quality, and no crash.
    send({"income": np.full(1000, 7.0), "shoe_size": np.full(1000, 42.0)}, stream="fraud/8")
    named = {feature["name"] for alert in alerts("quality", "fraud/8") for feature in alert["features"]}
    assert "age" in named

    # Another bundle takes its place, and the incident goes on under its hash.
    bundle(folder, seed=1)
    reload("done")
    for seed in (2, 3):
        send(rows(1000, seed, shift=4.0))
    assert told() == [("firing", "warning", old), ("firing", "critical", new)]

    # A damaged one is refused by name; the one before goes on.
    damaged = folder / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    reload("refused")
    (refused,) = daemon.logged("the configuration is refused")
    assert f"{damaged} is not what was written" in str(refused)
    for seed in (4, 5):
        send(rows(1000, seed))
    assert told()[2:] == [("resolved", "critical", new)]
    assert daemon.metric("streamd_records_rejected_total") == 0
    assert daemon.stop() == 0
