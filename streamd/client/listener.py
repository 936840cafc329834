"""The background thread that reads commands from Kafka; the job takes them from a queue when it is ready."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from streamd.client.commands import read_command
from streamd.errors import TransientError
from streamd.model import Command

log = logging.getLogger("streamd.client")

_POLL_SECONDS = 0.2
_FIRST_REST_SECONDS = 0.25
_LONGEST_REST_SECONDS = 10.0
_WAITING_MAX = 1000  # commands for one job that does not take them: it has stopped stepping


class Reader(Protocol):
    """Where commands come from. One thread uses it."""

    def read(self, timeout_seconds: float) -> Sequence[tuple[int, bytes | None]]:
        """(record timestamp in ms, value) of what is new, waiting at most so long. Raises when it is broken."""

    def close(self) -> None: ...


class Listener:
    """Reads the control topic from the moment it is made.

    Commands that were recorded earlier were meant for an earlier life of the run, and are passed over.

    Args:
        connect: makes a reader; may block for seconds and raise anything.
        wanted: which commands to keep.
        address: of the broker, for the log.
    """

    def __init__(self, connect: Callable[[], Reader], wanted: Callable[[Command], bool], address: str) -> None:
        self._connect = connect
        self._wanted = wanted
        self._address = address
        self._since_ms = time.time_ns() // 1_000_000
        self._queue: queue.Queue[Command] = queue.Queue(_WAITING_MAX)
        self._stop = threading.Event()
        self.connected = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="streamd-commands", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, timeout_seconds: float = 0.0) -> list[Command]:
        """What has come, in order; waits at most so long for the first."""
        taken: list[Command] = []
        with contextlib.suppress(queue.Empty):
            if timeout_seconds > 0:
                taken.append(self._queue.get(timeout=timeout_seconds))
            while True:
                taken.append(self._queue.get_nowait())
        return taken

    def close(self) -> None:
        """Stop reading; the thread ends within a poll, or stays behind inside the client as a daemon thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        rest = _FIRST_REST_SECONDS
        while not self._stop.is_set():
            reader: Reader | None = None
            try:
                reader = self._connect()
                self.connected.set()
                if self._told:
                    log.info("commands are read from Kafka at %s again", self._address)
                self._told, rest = False, _FIRST_REST_SECONDS
                for command in self._commands(reader):
                    self._keep(command)
            except Exception as error:
                # Whatever it is, the training goes on without commands.
                if not self._told and not self._stop.is_set():
                    self._told = True
                    # A broker that is away is said by whoever sends; a certificate or a right that is missing is not.
                    level = logging.INFO if isinstance(error, TransientError) else logging.WARNING
                    log.log(
                        level,
                        "no commands from Kafka at %s: %s; trying again",
                        self._address,
                        str(error) or repr(error),
                    )
            finally:
                self.connected.clear()
                if reader is not None:
                    with contextlib.suppress(Exception):
                        reader.close()
            self._stop.wait(rest)
            rest = min(2 * rest, _LONGEST_REST_SECONDS)

    def _commands(self, reader: Reader) -> Iterator[Command]:
        while not self._stop.is_set():
            for timestamp_ms, value in reader.read(_POLL_SECONDS):
                command = read_command(value) if timestamp_ms >= self._since_ms else None
                if command is not None and self._wanted(command):
                    yield command

    def _keep(self, command: Command) -> None:
        try:
            self._queue.put_nowait(command)
        except queue.Full:
            log.warning("%s is not read: %d commands wait already", command.command, _WAITING_MAX)


def kafka_connector(servers: Sequence[str], topic: str, options: Mapping[str, object]) -> Callable[[], Reader]:
    """What connects a listener to `topic`; it goes on where the reader before it stood.

    Args:
        options: of kafka.KafkaProducer; those that a consumer shares (security, client id) are used.
    """
    positions: dict[Any, int] = {}
    since_ms = time.time_ns() // 1_000_000

    def connect() -> Reader:
        from streamd.client.kafka_reader import KafkaReader

        return KafkaReader(servers, topic, options, positions, since_ms)

    return connect
