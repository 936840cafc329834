"""Sends the telemetry of a training run: points give way when there is no room, answers to commands do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamd.client.sender import Sender
from streamd.codec.encode import Ending, encode_end, encode_telemetry


class TelemetryProducer(Sender):
    """Sends the telemetry of training runs; for jobs without torch, or with a loop of their own.

    Args:
        bootstrap_servers, topic, options: as of Sender.
    """

    def __init__(
        self, bootstrap_servers: str | Sequence[str], topic: str = "streamd.telemetry", **options: Any
    ) -> None:
        super().__init__(bootstrap_servers, topic, **options)

    def send(
        self,
        run: str,
        step: int,
        metrics: Mapping[str, float | None],
        *,
        tensors: Mapping[str, Mapping[str, float | None]] | None = None,
        epoch: float | None = None,
        ts_ms: int | None = None,
    ) -> bool:
        """Queue one point. Never waits; the oldest points are dropped to make room. False: it was itself dropped."""
        encoded = encode_telemetry(run, step, metrics, tensors=tensors, epoch=epoch, ts_ms=ts_ms)
        return self._offer(run, *encoded, keep=False)

    def end(self, run: str, *, step: int | None = None, outcome: Ending = "done", ts_ms: int | None = None) -> bool:
        """Say that the run is over, so that its silence is no finding. Never waits, and is not dropped to make room."""
        return self._offer(run, *encode_end(run, step=step, outcome=outcome, ts_ms=ts_ms), keep=True)
