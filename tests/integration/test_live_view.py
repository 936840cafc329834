"""The live view of a daemon as a user runs it: what its pump is asked, and what a restart leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from chromium import Chromium
from daemons import Daemon

from streamd.cli.top import frames
from streamd.client import FeatureProducer
from streamd.transport.embedded import EmbeddedBroker

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(180)]

StartDaemon = Callable[..., Daemon]


def batch(seed: int, rows: int, shift: float = 0.0) -> dict[str, list[float]]:
    return {"amount": np.random.default_rng(seed).normal(shift, 1.0, rows).tolist()}


def test_a_daemon_shows_what_it_judges_and_still_knows_it_after_a_restart(
    embedded_broker: EmbeddedBroker, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(embedded_broker.bootstrap_servers, STREAMD_DETECTORS__KS__WINDOW_ROWS="200")
    daemon.wait_until_ready()
    with FeatureProducer(daemon.bootstrap_servers, daemon.topics["features"]) as producer:
        producer.send_reference("fraud/7", batch(0, 1000))
        for seed in range(1, 9):
            producer.send("fraud/7", batch(seed, 200, shift=2.0 * (seed > 5)))
    daemon.wait(lambda: daemon.metric("streamd_batches_judged_total") == 8)
    with Chromium(tmp_path) as browser:
        browser.open(daemon.url)
        browser.wait("document.querySelector('li[data-state=critical]')")
        browser.press("ArrowDown")
        browser.press("Enter")
        browser.wait("document.querySelector('.histogram .window')")
        assert browser.run("document.querySelector('figcaption').textContent") == "amount"
        assert "now, 200 rows" in browser.run("document.querySelector('.legend').textContent")
        assert browser.console == []
        assert daemon.stop() == 0
        browser.wait("document.getElementById('health').dataset.state === 'lost'")
        daemon.start()
        daemon.wait_until_ready()
        browser.wait("document.getElementById('health').dataset.state === 'running'")
        browser.wait("document.querySelector('li[data-state=critical]')")
    frame: dict[str, Any] = next(frames(daemon.url, {}))
    (row,) = frame["rows"].values()
    assert (row["stream"], row["state"], row["heard_ms"]) == ("fraud/7", "critical", None)
    (stream,) = orjson.loads(daemon.get("/streams")[1])["streams"]
    assert stream["reference"] == "1000 rows from reference batches"
