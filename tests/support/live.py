"""An admin server whose streams a real engine judges: what the live view shows, without a broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np
import orjson
import telemetry
from envelopes import Producer
from prometheus_client import CollectorRegistry

from streamd.codec.limits import Limits
from streamd.detectors.chi2 import Chi2Config
from streamd.detectors.ks import KsConfig
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, StreamSettings
from streamd.model import BatchJudged, Envelope
from streamd.observe.admin import AdminServer, create_app
from streamd.observe.board import Board
from streamd.observe.health import Health, State
from streamd.observe.live.feed import Feed
from streamd.profiles import Profiles

TOPIC = "streamd.features"


class Live:
    """Board, engine and admin server; a thread in the pump's place answers what is looked at.

    Attributes:
        ago_seconds: how long ago what is told now was heard.
        url: of the admin server.
    """

    def __init__(self) -> None:
        self.ago_seconds = 0.0
        self.board = Board(lambda: time.time() - self.ago_seconds)
        self.health = Health()
        self.health.set(State.RUNNING)
        settings = StreamSettings({"ks": KsConfig(type="ks"), "chi2": Chi2Config(type="chi2")})
        self.engine = PartitionEngine(
            TOPIC, 0, "features", Limits(), EngineSettings(), lambda _: settings, Profiles(), next_offset=0
        )
        self.app = create_app(CollectorRegistry(), self.board, self.health, dict, "1.2.3")
        self.feed: Feed = self.app.state.feed
        self.server = AdminServer(self.app, "127.0.0.1", 0)
        self._runs = telemetry.engine()
        self._telemetry = Producer(telemetry.TOPIC)
        self._random = np.random.default_rng(0)
        self._stop = threading.Event()
        self._pump = threading.Thread(target=self._answer, name="pump")
        self._offset = 0

    @property
    def url(self) -> str:
        return self.server.url

    def __enter__(self) -> Self:
        self.server.start()
        self._pump.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pump.join(10)
        self.server.stop()

    def _answer(self) -> None:
        seats: dict[Any, Any] = {(TOPIC, 0): SimpleNamespace(live=True, engine=self.engine)}
        while not self._stop.wait(0.02):
            self.board.looks.answer(seats)

    # --- What happens ---

    def send(self, stream: str, rows: int = 1000, shift: float = 0.0, role: str = "data") -> None:
        """A batch of `amount` and `country`, whose amount is shifted by so many standard deviations."""
        self._offset += 1
        message = {
            "stream": stream,
            "ts": 1_763_769_600_000 + self._offset,
            "role": role,
            "features": {
                "amount": self._random.normal(shift, 1.0, rows).tolist(),
                "country": self._random.choice(["DE", "FR", "IT"], rows).tolist(),
            },
        }
        if role == "data":
            del message["role"]
        value = orjson.dumps(message)
        effects = self.engine.step(Envelope(TOPIC, 0, self._offset, message["ts"], stream.encode(), value))
        self.board.observe(effects, TOPIC, 0)

    def reference(self, *streams: str) -> None:
        for stream in streams:
            self.send(stream, 2000, role="reference")

    def watched(self, *streams: str) -> None:
        """Streams that were judged once, and are quiet."""
        self.reference(*streams)
        for stream in streams:
            self.send(stream)

    def train(self, run: str, losses: Iterable[float], first: int = 1, **metrics: float) -> None:
        """A record a step of a training run."""
        for step, loss in enumerate(losses, first):
            point = telemetry.point(step, run=run, loss=loss, **metrics)
            self._tell_run(telemetry.record(self._telemetry, point))

    def answer_command(self, run: str, command_id: str, outcome: str = "done") -> None:
        ack = {"run": run, "role": "ack", "ack": {"command_id": command_id, "outcome": outcome}}
        self._tell_run(self._telemetry.record(orjson.dumps(ack)))

    def end(self, run: str) -> None:
        self._tell_run(self._telemetry.record(orjson.dumps({"run": run, "role": "end", "outcome": "done"})))

    def _tell_run(self, envelope: Envelope) -> None:
        self.board.observe(self._runs.step(envelope), telemetry.TOPIC, 0)

    def heard(self, count: int, name: str = "tenant-{:05d}") -> None:
        """So many streams more, of which nothing but a batch is known."""
        batches = [BatchJudged(name.format(i), 1_763_769_600_000, 256, (), ()) for i in range(count)]
        self.board.observe(batches, TOPIC, 0)
