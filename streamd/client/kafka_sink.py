"""A courier's sink on kafka-python, with guards against what that client does wrong."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kafka.errors
from kafka import KafkaProducer
from kafka.net.compat import KafkaNetClient

from streamd.client.courier import Settled
from streamd.client.outbox import Message
from streamd.errors import TransientError

CONNECT_TIMEOUT_SECONDS = 3.0
BOOTSTRAP_VARIABLE = "STREAMD_KAFKA__BOOTSTRAP_SERVERS"  # the daemon's own

# Chosen by us, because a guard or a promise rests on each; the application may override all the others.
_FIXED = frozenset({"key_serializer", "value_serializer", "transactional_id", "bootstrap_servers", "kafka_client"})

_DEFAULTS: Mapping[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,  # a retry neither duplicates nor reorders
    "linger_ms": 5,  # small batches share a request; nobody waits for 5 ms here
    "batch_size": 256 * 1024,
    "max_block_ms": 5_000,  # how long an unknown topic holds up the sending thread
    "bootstrap_timeout_ms": 10_000,
    "metrics_enabled": False,
}

# One record's own fault: the client is as well as before.
_OF_THE_RECORD = (
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.InvalidTopicError,
    kafka.errors.TopicAuthorizationFailedError,
)


def check_options(options: Mapping[str, object]) -> None:
    """Raise TypeError for what KafkaProducer does not know or we do not leave to the caller."""
    for name in options:
        if name in _FIXED or name not in KafkaProducer.DEFAULT_CONFIG:
            raise TypeError(f"{name!r} is not an option here: options are those of kafka.KafkaProducer, less its own")


def addresses_or_default(bootstrap_servers: str | Sequence[str] | None) -> list[str]:
    """As `addresses`; None: those of the environment, else localhost:9092."""
    return addresses(bootstrap_servers or os.environ.get(BOOTSTRAP_VARIABLE) or "localhost:9092")


def addresses(bootstrap_servers: str | Sequence[str]) -> list[str]:
    """`host:port,host:port` or a sequence of them, as a list. Raises TypeError or ValueError."""
    if isinstance(bootstrap_servers, str):
        bootstrap_servers = bootstrap_servers.split(",")
    if not all(isinstance(address, str) for address in bootstrap_servers):
        raise TypeError("bootstrap_servers must be 'host:port' or a sequence of them")
    found = [address.strip() for address in bootstrap_servers if address.strip()]
    if not found:
        raise ValueError("bootstrap_servers is empty: give at least one 'host:port'")
    for address in found:
        host_and_port(address)
    return found


def host_and_port(address: str) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]:port`, `SSL://host:port` -> (host, port); Kafka's 9092 where none is given."""
    match = re.fullmatch(r"(?:\w+://)?(?:\[([^\]]+)\]|([^:/]+))(?::(\d+))?", address)
    if match is None or int(match[3] or 9092) > 65535:
        raise ValueError(f"{address!r} is not an address: write 'host:port'")
    return match[1] or match[2], int(match[3] or 9092)


def connector(servers: Sequence[str], topic: str, options: Mapping[str, object]) -> Callable[[], KafkaSink]:
    """What connects a courier to `topic`."""

    def connect() -> KafkaSink:
        if not options.get("proxy_url"):  # behind a proxy a plain connection says nothing
            knock(servers)
        made: list[KafkaNetClient] = []

        def client(**config: Any) -> KafkaNetClient:
            made.append(KafkaNetClient(**config))
            return made[-1]

        try:
            config = {**_DEFAULTS, **options, "bootstrap_servers": list(servers), "kafka_client": client}
            return KafkaSink(_Client(**config), topic)
        except Exception:
            for half_made in made:  # its I/O thread would live on, one for each attempt
                half_made.close()
            raise

    return connect


def knock(servers: Sequence[str]) -> None:
    """Raise TransientError unless one of the brokers accepts a connection.

    Building the client without a broker takes ten seconds, logs ten lines each time and leaves sockets to the
    garbage collector; an application may be without one for days.
    """
    problems = []
    for server in servers:
        try:
            socket.create_connection(host_and_port(server), timeout=CONNECT_TIMEOUT_SECONDS).close()
            return
        except OSError as error:
            problems.append(f"{server}: {error.strerror or error}")
    raise TransientError("; ".join(problems))


class _Client(KafkaProducer):  # type: ignore[misc]  # kafka-python ships no types
    """KafkaProducer that leaves its module's logger alone and whose end is ours to choose."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        # Its own exit handler would run before ours and close it while messages still wait.
        self._unregister_cleanup()

    def close(self, timeout: float | None = None, null_logger: bool = False) -> None:
        # `null_logger` (asked for by __del__) would silence the module for the whole process.
        super().close(timeout=timeout)

    def abandon(self) -> None:
        """Fail what is in flight, now. Its close() would wait for each batch in turn and then raise."""
        self._sender.force_close()
        self._sender.wakeup()
        self._closed = True


class KafkaSink:
    """Sends to one topic. Built on the courier's thread, because building it waits for the broker."""

    def __init__(self, client: _Client, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._broken = False

    @property
    def broken(self) -> bool:
        return self._broken

    def ready(self) -> None:
        try:
            self._client.partitions_for(self._topic)
        except kafka.errors.KafkaTimeoutError as error:
            # A client whose brokers all changed address never recovers: the next one asks the bootstrap again.
            self._broken = True
            raise TransientError(f"topic {self._topic} is not there, or the broker does not answer") from error

    def send(self, message: Message, settled: Settled) -> None:
        try:
            future = self._client.send(
                self._topic,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
                timestamp_ms=message.timestamp_ms,
            )
        except kafka.errors.KafkaTimeoutError as error:
            raise TransientError(str(error)) from error
        except kafka.errors.MessageSizeTooLargeError:
            settled(
                f"{message.size} bytes are more than max_request_size: send fewer rows at a time, "
                "or raise it here and max.message.bytes on the topic"
            )
            return
        except kafka.errors.KafkaError as error:
            self._broken = True
            settled(str(error))
            return
        future.add_callback(lambda _metadata: settled(None))
        future.add_errback(lambda error: self._failed(error, settled))

    def _failed(self, error: Exception, settled: Settled) -> None:
        # After a delivery failure an idempotent client may have lost count: a new one starts from a clean slate.
        if not isinstance(error, _OF_THE_RECORD):
            self._broken = True
        settled(str(error))

    def close(self, *, abandon: bool) -> None:
        # The connection may be in any state by now, and nobody is left who could act on an error.
        with contextlib.suppress(Exception):
            if abandon:
                self._client.abandon()
            else:
                self._client.close(timeout=1.0)
