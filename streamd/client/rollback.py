"""A model server's side of `rollback`: obeys the daemon by a function of yours, and answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Self

from streamd.client import kafka_sink
from streamd.client.commands import Gate, Handler, attempt
from streamd.client.courier import Sink
from streamd.client.listener import Listener, Reader, kafka_connector
from streamd.client.sender import Sender
from streamd.codec.encode import Outcome
from streamd.model import Command

_LOOK_SECONDS = 0.5
_CLOSE_SECONDS = 2.0


class RollbackHandler:
    """Listens on a thread of its own for `rollback` of some streams; making one is opting in to it.

    Commands in shadow mode are logged and not obeyed; every other one is answered on the stream's own topic.

    Args:
        streams: the name, or a pattern: `fraud/*`.
        roll_back: what to do; returns a sentence for the answer, raises `Refused` or anything else.
        bootstrap_servers: `host:port`; else the variable STREAMD_KAFKA__BOOTSTRAP_SERVERS, else localhost:9092.
        topic, control_topic: where the daemon reads features, and writes its commands.
        connect, connect_commands: what to use in place of Kafka; for tests.
        options: further options of kafka.KafkaProducer.

    Example:
        >>> from streamd.client.mlflow import AliasMover
        >>> handler = RollbackHandler("fraud/*", AliasMover("fraud", alias="champion"))  # doctest: +SKIP
    """

    def __init__(
        self,
        streams: str,
        roll_back: Handler,
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        topic: str = "streamd.features",
        control_topic: str = "streamd.control",
        connect: Callable[[], Sink] | None = None,
        connect_commands: Callable[[], Reader] | None = None,
        **options: Any,
    ) -> None:
        servers = kafka_sink.addresses_or_default(bootstrap_servers)
        self._streams = streams
        self._roll_back = roll_back
        self._sender = Sender(servers, topic, connect=connect, **options)
        connect_commands = connect_commands or kafka_connector(servers, control_topic, options)
        self._listener = Listener(connect_commands, self._is_ours, ",".join(servers))
        self._gate = Gate(self._is_ours, {"rollback"}, self._acknowledge)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamd-rollback", daemon=True)

    def start(self) -> None:
        """Begin to listen; `with` does it."""
        self._listener.start()
        self._thread.start()

    def close(self, timeout_seconds: float = _CLOSE_SECONDS) -> None:
        """Stop listening, and send the answers that are queued for at most that long."""
        self._stop.set()
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        self._sender.close(timeout_seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for command in self._listener.take(_LOOK_SECONDS):
                if self._gate.admit(command, time.time_ns() // 1_000_000):
                    self._gate.answer(command, attempt(self._roll_back, command))

    def _is_ours(self, command: Command) -> bool:
        return command.target_kind == "stream" and fnmatchcase(command.target, self._streams)

    def _acknowledge(self, command: Command, outcome: Outcome, detail: str) -> None:
        self._sender.acknowledge(command.target, command.id, outcome, detail, kind="stream")
