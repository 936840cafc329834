"""A reference with a daily pattern, sent by a client or from a file, is what each hour is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daemons import Daemon
from envelopes import T0

from streamd.cli import verbs
from streamd.client import FeatureProducer
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(180)]

HOUR_MS = 3_600_000
SEASONAL = {
    "STREAMD_REFERENCE__SEASON": "24h",
    "STREAMD_DETECTORS__AUTOENCODER": "null",
    "STREAMD_DETECTORS__KS__WINDOW_ROWS": "100",
    "STREAMD_DETECTORS__ENTROPY__JUDGE__WINDOW_ROWS": "100",
}


def served(hours: np.ndarray, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Of rows at these hours: a load (rows,) that follows the day, and logits (rows, 2) that are surer by day."""
    rng, wave = np.random.default_rng(seed), np.sin(2 * np.pi * hours / 24)
    load = rng.normal(size=len(hours)) + 3.0 * wave + shift
    return load, (2.5 + 2.0 * wave)[:, None] * rng.normal(size=(len(hours), 2))


def send_reference(sender: str, daemon: Daemon, stream: str, folder: Path) -> None:
    """Six days, 60 rows an hour, in no order."""
    hours = np.random.default_rng(0).permutation(np.repeat(np.arange(6 * 24), 60))
    load, logits = served(hours, 1)
    times = T0 + hours * HOUR_MS
    if sender == "client":
        with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:
            assert producer.send_reference(stream, {"load": load}, logits=logits, ts=times) == 6 * 24
        return
    table = {"load": load, "no": logits[:, 0], "yes": logits[:, 1], "at": pa.array(times, pa.timestamp("ms"))}
    pq.write_table(pa.table(table), folder / "past.parquet")
    arguments = ["send", str(folder / "past.parquet"), "--stream", stream, "--role", "reference", "--time", "at"]
    arguments += ["--logits", "no,yes", "--topic", daemon.topics["features"]]
    assert verbs.run([*arguments, "--bootstrap-servers", daemon.bootstrap_servers]) == 0


@pytest.mark.parametrize("sender", ["client", "file"])
def test_each_hour_is_compared_with_its_own_in_a_reference_that_was_sent(
    sender: str, embedded_broker: EmbeddedBroker, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start_daemon(embedded_broker.bootstrap_servers, **SEASONAL)
    daemon.wait_until_ready()
    send_reference(sender, daemon, "grid/1", tmp_path)
    with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:

        def day(number: int, shift: float = 0.0) -> None:
            for hour in range(24 * number, 24 * number + 24):
                load, logits = served(np.full(100, hour), hour, shift)
                producer.send("grid/1", {"load": load}, logits=logits, ts=int(T0 + hour * HOUR_MS))

        day(6)
        day(7)
        daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 48)
        (stream,) = orjson.loads(daemon.get("/streams")[1])["streams"]
        assert stream["reference"] == "8640 rows from reference batches; season 24h"
        assert daemon.alerts() == []
        day(8, shift=1.5)
        daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 72)
    found: list[dict[str, Any]] = [alert for alert in daemon.alerts() if alert["detector"] == "ks"]
    assert [feature["name"] for feature in found[0]["features"]] == ["load"]
    assert found[0]["features"][0]["direction"] == "up"
