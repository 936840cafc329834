"""Sends what a chaos run is about: payloads that are a function of the seed, over several streams, at a steady rate."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from kafka import KafkaProducer

T0 = 1_763_769_600_000  # 2025-11-22, event time; the records themselves are as old as they are, for retention
ROWS = 10
EPISODE = 40  # records of a stream: the last quarter of each is not like the reference

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Record:
    """One record as it is sent."""

    key: bytes
    value: bytes
    headers: Headers


class Payloads:
    """The n-th record, for every n, from the seed alone.

    Even streams get references (and new ones, and resets), odd ones take their first rows. Each stream drifts for a
    quarter of the time, so that incidents fire and resolve all along.
    """

    def __init__(self, seed: int, streams: int = 6, bad_share: float = 0.0) -> None:
        self._seed = seed
        self._streams = streams
        self._bad_share = bad_share

    def record(self, n: int) -> Record:
        rng = np.random.default_rng([self._seed, n])
        stream, i = f"model/{n % self._streams}", n // self._streams
        key, ts = stream.encode(), T0 + 100 * n
        if rng.random() < self._bad_share:
            value, headers = _bad(n, rng)
            return Record(key, value, headers)
        if n % self._streams % 2 == 0:
            if i % 500 == 450:
                value = orjson.dumps({"stream": stream, "role": "reset"})
                return Record(key, value, [])
            if i % 500 in (
                0,
                1,
                451,
                452,
                250,
            ):  # in two parts, again after the reset, and once a new one in the middle
                parts = 1 if i % 500 == 250 else 2
                part = (i - 451) % 2 + 1 if parts == 2 and i % 500 > 450 else i % 500 + 1
                headers = [("streamd-role", b"reference"), ("streamd-part", b"%d/%d" % (min(part, parts), parts))]
                return Record(key, _batch(stream, rng, 60, ts, False, False), headers)
        drifts = i % EPISODE >= EPISODE * 3 // 4
        nulls = drifts and (i // EPISODE) % 2 == 1
        return Record(key, _batch(stream, rng, ROWS, ts, drifts, nulls), [])


def _batch(stream: str, rng: np.random.Generator, rows: int, ts: int, drifts: bool, nulls: bool) -> bytes:
    amount: list[float | None] = (rng.normal(size=rows) + 3.0 * drifts).tolist()
    if nulls:
        amount[::2] = [None] * len(amount[::2])
    country = rng.choice(["DE", "FR", "IT"], rows, p=[0.1, 0.1, 0.8] if drifts else [0.6, 0.3, 0.1]).tolist()
    features = {"amount": amount, "age": rng.normal(40, 10, rows).tolist(), "country": country}
    return orjson.dumps({"stream": stream, "ts": ts, "features": features})


def _bad(n: int, rng: np.random.Generator) -> tuple[bytes, Headers]:
    """One that cannot be used, and that no other equals."""
    mark = f"bad-{n}"
    match int(rng.integers(5)):
        case 0:
            return f'{{"stream": "{mark}", "features": {{"amount": [1.0'.encode(), []
        case 1:
            return orjson.dumps({"stream": mark, "features": {"a": [1], "b": [1, 2]}}), []
        case 2:
            return f"<{mark}/>".encode(), [("content-type", b"text/xml")]
        case 3:
            return orjson.dumps({"stream": mark, "ts": -1, "features": {"a": [1]}}), []
        case _:
            return mark.encode() + rng.bytes(20), [("content-type", b"application/json")]


class Driver:
    """Sends on a thread of its own, until it has sent enough and is told that the faults are over.

    Args:
        bootstrap_servers: the broker, past any proxy.
        topic: where to.
        payloads: what.
        records: how many at least.
        per_second: how fast.
    """

    def __init__(
        self, bootstrap_servers: str, topic: str, payloads: Payloads, records: int, per_second: float = 400.0
    ) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._payloads = payloads
        self._records = records
        self._per_second = per_second
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name="driver", daemon=True)
        self.sent = 0
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_seconds: float = 600.0) -> None:
        """The faults are over: send what is left, and return when the broker has all of it."""
        self._finish.set()
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), f"the driver is stuck after {self.sent} records"
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:
            self.error = error

    def _send_all(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._servers,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_block_ms=120_000,
            delivery_timeout_ms=120_000,
            retry_backoff_ms=50,
            allow_auto_create_topics=False,
        )
        waiting: deque[Any] = deque()
        started = time.monotonic()
        while self.sent < self._records or not self._finish.is_set():
            record = self._payloads.record(self.sent)
            waiting.append(producer.send(self._topic, key=record.key, value=record.value, headers=record.headers))
            self.sent += 1
            while waiting and waiting[0].is_done:
                waiting.popleft().get(0)  # raises what became of it
            ahead = self.sent / self._per_second - (time.monotonic() - started)
            if ahead > 0.01:
                time.sleep(ahead)
        producer.flush(timeout=120)
        for future in waiting:
            future.get(0)
        producer.close(timeout=5)
