"""A training job's counterparts in memory: what it sends, and who commands it."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from streamd.client import TrainingMonitor
from streamd.client.courier import Settled
from streamd.client.outbox import Message
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.model import Acknowledgement, Envelope, RunEnded, Telemetry, TelemetryPoint

WAIT_SECONDS = 30.0  # a deadline that a healthy run never comes near


class Inbox:
    """A sink that keeps what arrives, and reads it as the daemon would."""

    broken = False

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def ready(self) -> None: ...

    def send(self, message: Message, settled: Settled) -> None:
        self.messages.append(message)
        settled(None)

    def close(self, *, abandon: bool) -> None: ...

    @property
    def points(self) -> list[TelemetryPoint]:
        return [point for item in self._decoded() if isinstance(item, Telemetry) for point in item.points]

    @property
    def acks(self) -> list[Acknowledgement]:
        return [item for item in self._decoded() if isinstance(item, Acknowledgement)]

    @property
    def ends(self) -> list[tuple[int | None, str]]:
        return [(item.step, item.outcome) for item in self._decoded() if isinstance(item, RunEnded)]

    @property
    def answers(self) -> list[tuple[str, str]]:
        return [(ack.command_id, ack.outcome) for ack in self.acks]

    @property
    def envelopes(self) -> list[Envelope]:
        return [
            Envelope("streamd.telemetry", 0, i, m.timestamp_ms, m.key, m.value, m.headers)
            for i, m in enumerate(self.messages)
        ]

    def _decoded(self) -> list[Any]:
        return [decode(envelope, Limits(), "telemetry") for envelope in self.envelopes]


class Commander:
    """A reader of commands that are put in here; `send` returns when the job could take them."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes] = queue.Queue()
        self._taken = queue.Queue[None]()
        self._given = 0

    def send(self, *values: bytes) -> None:
        for value in values:
            self._waiting.put(value)
            self._taken.get(timeout=WAIT_SECONDS)

    def read(self, timeout_seconds: float) -> Sequence[tuple[int, bytes | None]]:
        for _ in range(self._given):  # it has come back: what it got before is queued
            self._taken.put(None)
        self._given = 0
        try:
            value = self._waiting.get(timeout=timeout_seconds)
        except queue.Empty:
            return []
        self._given = 1
        return [(time.time_ns() // 1_000_000, value)]

    def close(self) -> None: ...


def command(name: str, run: str = "r", *, id: str = "", seconds: float = 600.0, **fields: Any) -> bytes:
    """A command as the daemon writes it, in force for so many seconds."""
    now = datetime.now(UTC)
    document = {
        "id": id or name,
        "command": name,
        "target": {"run": run},
        "args": fields.pop("args", {}),
        "mode": fields.pop("mode", "enforce"),
        "alert_id": "a",
        "reason": "because",
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=seconds)).isoformat(),
    }
    return orjson.dumps(document | fields)


def watched(inbox: Inbox, commander: Commander | None = None, run: str = "r", **arguments: Any) -> TrainingMonitor:
    """A monitor between the two."""
    reader = commander or Commander()
    return TrainingMonitor(run, connect=lambda: inbox, connect_commands=lambda: reader, **arguments)
