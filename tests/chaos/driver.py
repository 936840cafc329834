"""Sends what a chaos run is about: payloads that are a function of the seed, over several streams, at a steady rate."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from kafka import KafkaProducer

from streamd.transport.base import Partition

T0 = 1_763_769_600_000  # 2025-11-22, event time; the records themselves are as old as they are, for retention
ROWS = 10
EPISODE = 40  # records of a stream: the last quarter of each is not like the reference
NAP_SECONDS = 4.0  # of the two sleepers one speaks, the other does not

Topic = Literal["features", "telemetry"]
Headers = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Record:
    """One record as it is sent."""

    key: bytes
    value: bytes
    headers: Headers
    topic: Topic = "features"
    bad: bool = False


class Payloads:
    """The n-th record, for every n, from the seed alone.

    Even streams get references (and new ones, and resets), odd ones take their first rows. Each stream drifts for a
    quarter of the time, so that incidents fire and resolve all along. Beside them two sleepers speak and are silent
    in turn, and two runs are trained.
    """

    def __init__(self, seed: int, streams: int = 6, bad_share: float = 0.0, per_second: float = 300.0) -> None:
        self._seed = seed
        self._streams = streams
        self._bad_share = bad_share
        self._nap = round(NAP_SECONDS * per_second)

    @property
    def sleepers(self) -> list[str]:
        return ["sleeper/0", "sleeper/1"]

    def record(self, n: int) -> Record:
        rng = np.random.default_rng([self._seed, n])
        i, slot = divmod(n, self._streams + 2)
        ts = T0 + 100 * n
        bad = rng.random() < self._bad_share
        if slot > self._streams:
            key = f"run/{i % 2}".encode()
            value, headers = _bad(n, rng) if bad else (_training(i, rng, ts), [])
            return Record(key, value, headers, "telemetry", bad)
        stream = self.sleepers[n // self._nap % 2] if slot == self._streams else f"model/{slot}"
        key = stream.encode()
        if bad:
            return Record(key, *_bad(n, rng), bad=True)
        if slot < self._streams and slot % 2 == 0 and (said := _said(stream, i, rng, ts)) is not None:
            return Record(key, *said)
        drifts = i % EPISODE >= EPISODE * 3 // 4
        nulls = drifts and (i // EPISODE) % 2 == 1
        return Record(key, _batch(stream, rng, ROWS, ts, drifts, nulls), [])

    def left_behind(self, sent: int) -> set[str]:
        """The streams that are known after so many records: of which the last was no reset."""
        last = {}
        for record in map(self.record, range(max(0, sent - 20 * (self._streams + 2)), sent)):
            if record.topic == "features" and not record.bad:
                last[record.key.decode()] = record.value
        sleepers = self.sleepers if sent > 2 * self._nap else []
        return {name for name, value in last.items() if b'"role":"reset"' not in value}.union(sleepers)


def _said(stream: str, i: int, rng: np.random.Generator, ts: int) -> tuple[bytes, Headers] | None:
    """What the i-th record of a stream says besides data, where it does: its reference, in two parts, again after a
    reset, and once a new one in the middle."""
    match i % 500:
        case 450:
            return orjson.dumps({"stream": stream, "role": "reset"}), []
        case 0 | 451:
            part = b"1/2"
        case 1 | 452:
            part = b"2/2"
        case 250:
            part = b"1/1"
        case _:
            return None
    return _batch(stream, rng, 60, ts, False, False), [("streamd-role", b"reference"), ("streamd-part", part)]


def _batch(stream: str, rng: np.random.Generator, rows: int, ts: int, drifts: bool, nulls: bool) -> bytes:
    amount: list[float | None] = (rng.normal(size=rows) + 3.0 * drifts).tolist()
    if nulls:
        amount[::2] = [None] * len(amount[::2])
    country = rng.choice(["DE", "FR", "IT"], rows, p=[0.1, 0.1, 0.8] if drifts else [0.6, 0.3, 0.1]).tolist()
    features = {"amount": amount, "age": rng.normal(40, 10, rows).tolist(), "country": country}
    return orjson.dumps({"stream": stream, "ts": ts, "features": features})


def _training(i: int, rng: np.random.Generator, ts: int) -> bytes:
    """A point of one of two runs, as an object, as an array of two, or as lines; its loss falls, jumps and is NaN."""
    run, step = f"run/{i % 2}", i // 2
    if step % 100 == 99:
        ack = {"command_id": f"none-{i}", "outcome": "done"}  # of a command that nobody gave
        return orjson.dumps({"run": run, "role": "ack", "ack": ack})
    loss = 2.0 * 0.99 ** (step % EPISODE) + 0.01 * float(rng.normal()) + 20.0 * (step % EPISODE == EPISODE - 5)
    measured: dict[str, Any] = {"loss": loss, "grad_norm": float(rng.gamma(2.0)), "lr": 1e-3}
    if step % EPISODE == EPISODE - 1:
        measured["loss"] = "NaN"
    point = {"run": run, "step": step, "ts": ts, "metrics": measured}
    match i % 3:
        case 0:
            return orjson.dumps(point)
        case 1:
            return orjson.dumps([point, {**point, "metrics": {"val/f1": float(rng.random())}}])
        case _:
            return orjson.dumps(point) + b"\n" + orjson.dumps({**point, "metrics": {"gpu": None}})


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
        topics: where to.
        payloads: what.
        records: how many at least.
        per_second: how fast.

    Attributes:
        ends: of each partition, the offset after the last that the broker has acknowledged.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: Mapping[Topic, str],
        payloads: Payloads,
        records: int,
        per_second: float = 400.0,
    ) -> None:
        self._servers = bootstrap_servers
        self._topics = topics
        self._payloads = payloads
        self._records = records
        self._per_second = per_second
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name="driver", daemon=True)
        self.sent = 0
        self.ends: dict[Partition, int] = {}
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
            topic = self._topics[record.topic]
            waiting.append(producer.send(topic, key=record.key, value=record.value, headers=record.headers))
            self.sent += 1
            while waiting and waiting[0].is_done:
                self._acknowledged(waiting.popleft())
            ahead = self.sent / self._per_second - (time.monotonic() - started)
            if ahead > 0.01:
                time.sleep(ahead)
        producer.flush(timeout=120)
        for future in waiting:
            self._acknowledged(future)
        producer.close(timeout=5)

    def _acknowledged(self, future: Any) -> None:
        """Raises what became of it."""
        place = future.get(0)
        self.ends[Partition(place.topic, place.partition)] = place.offset + 1
