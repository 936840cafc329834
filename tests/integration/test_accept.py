"""A person's accept and undo, over a real broker, by the command line: the alert ends, and comes back."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import orjson
import pytest
from brokers import RealKafka
from daemons import Daemon

from streamd.cli import verbs
from streamd.cli.exit_codes import ExitCode

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(180)]

STREAM = "fraud/7"


def test_an_accept_ends_the_alert_and_an_undo_brings_it_back_also_after_a_restart(
    kafka_broker: RealKafka,
    start_daemon: Callable[..., Daemon],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {
        "STREAMD_KAFKA__PARTITIONS": "1",
        "STREAMD_POLICY__COOLDOWN_SECONDS": "0",
        "STREAMD_REFERENCE__FIRST_ROWS": "1000",
    }
    daemon = start_daemon(kafka_broker.bootstrap_servers, **settings)
    daemon.wait_until_ready()
    for name, value in daemon.environment.items():
        if name.startswith("STREAMD_"):
            monkeypatch.setitem(os.environ, name, value)
    rng = np.random.default_rng(0)

    def send(shift: float, role: str = "", batches: int = 1) -> None:
        for _ in range(batches):
            value = {"features": {"amount": (rng.normal(size=1000) + shift).tolist()}}
            daemon.send(orjson.dumps(value), STREAM.encode(), [("streamd-role", role.encode())] if role else [])

    def ks(status: str) -> list[str]:
        told = [alert for alert in daemon.alerts() if alert["detector"] == "ks" and alert["status"] == status]
        return [alert["summary"] for alert in told]

    def ctl(*arguments: str) -> tuple[int, str]:
        code = verbs.run(["ctl", *arguments, "--bootstrap-servers", daemon.bootstrap_servers])
        said = capsys.readouterr()
        return code, said.out + said.err

    send(0.0, "reference")
    send(2.0)
    daemon.wait(lambda: len(ks("firing")) == 1)
    assert ctl("accept", STREAM, "--author", "ann")[0] == ExitCode.OK
    assert ks("resolved") == ["fraud/7: ks accepted as the new normal by ann"]
    send(2.0, batches=3)
    refused = "streamd: there is no stream 'fraud/8' here; did you mean 'fraud/7'?\n"
    assert ctl("accept", "fraud/8") == (ExitCode.DATA, refused)
    assert ctl("accept", STREAM, "--column", "amuont")[0] == ExitCode.DATA
    assert len(ks("firing")) == 1  # all three have been judged by now: a message behind them was answered
    daemon.stop()
    daemon.start()
    daemon.wait_until_ready()
    assert ctl("undo", STREAM) == (ExitCode.OK, "fraud/7: the reference before this one is in force again\n")
    send(2.0)
    daemon.wait(lambda: len(ks("firing")) == 2)
    assert ctl("undo", STREAM)[0] == ExitCode.DATA
