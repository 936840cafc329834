"""Seven mends of kafka-python 3.0.12, put on the clients that are made here and on nothing else.

A finished join is thrown away. A join goes on in the background when the `poll` that began it times out. When it ends
before the next `poll`, that poll takes "done" for "nothing under way" and joins again, which makes the whole group
rebalance again: two members that spend half of their time between polls never come to rest (21 s and thirty
generations instead of 0.6 s and three). Where the reason to join was new metadata, that poll does not even look: the
member keeps its place, has no partitions, and spins.

A broker's last words are not heard. What is read together with the end of a connection is dropped, and a broker that
refuses a login says why and hangs up; and what is heard while bootstrapping is logged and tried again until the
deadline. The client takes a wrong password for a network that fails.

Lost records are not mentioned. When retention has removed what a consumer was to read next, the client moves to the
new start of the log by itself; `auto_offset_reset="none"` would say so, but also for partitions that are merely new.

A partition that was paused is not read again. Records that it had fetched by then are parked until a slot is empty,
in which the client leaves the last partition's records when they are used up. So long as no other partition has
anything to read, nobody takes them out, and what is parked is neither returned nor fetched anew.

A member that has found its coordinator again keeps silent. Its next heartbeat comes a whole interval later, as if one
had just been answered. After 6 s without network it is a member still, and works; but its last heartbeat is up to 3 s
older than that, the next one is 3 s away, and the session of 10 s runs out in between.

A connection that has died without a word is waited for until a request on it times out, 30 s, also to look for the
coordinator elsewhere. What was to be heard in that time is not asked for on another connection.

An old answer is taken for a new one (K17). A question for committed offsets that timed out is kept, and whoever asks
for the same partitions next, however much later, is told what was committed when the first one asked. A member that
was given a partition back would begin before the place where another one has come to.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.coordinator.base import MemberState
from kafka.net.compat import KafkaNetClient

_READ_BYTES = 64 * 1024  # the client takes 4 KB at a time, and after each waits for its turn among Python's threads

REFUSED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.AuthorizationError,
)
"""The broker answers, and does not want us."""


def forget_old_answers(consumer: KafkaConsumer) -> None:
    """Whoever asks for committed offsets from now on is told what is committed from now on."""
    consumer._coordinator._offset_fetch_futures.clear()


class _Finished:
    """A finished join that says it is under way, so that the client waits for it, at once gets it, and goes on."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self._task = task

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        self._task.add_callback(callback)

    def add_errback(self, callback: Callable[[BaseException], None]) -> None:
        self._task.add_errback(callback)


def keep_finished_join(consumer: KafkaConsumer) -> None:
    """Call before each `poll`, on the thread that polls."""
    coordinator = consumer._coordinator
    task = coordinator._join_task
    if task is None:
        return
    # The reason to join may be gone by now (new metadata have come): the join must be gone through with all the same.
    coordinator.request_rejoin()
    if (
        task.is_done
        and task.succeeded()
        and coordinator.state is MemberState.REBALANCING  # else the membership was lost in the meantime
        and not coordinator._generation.is_lost()
    ):
        coordinator._join_task = _Finished(task)


def clear_slot(consumer: KafkaConsumer) -> None:
    """Call before each `poll`, on the thread that polls: what is used up makes room for what is parked."""
    fetcher = consumer._fetcher
    if not fetcher._next_partition_records:
        fetcher._next_partition_records = None


def beat_when_found(consumer: KafkaConsumer) -> None:
    """Call on a new consumer: a coordinator that was found anew hears of us at once."""
    coordinator = consumer._coordinator
    handle = coordinator._handle_find_coordinator_response

    def handle_and_beat(response: Any) -> Any:
        node_id = handle(response)
        coordinator.heartbeat.fail_heartbeat()  # so that the next one is due after a back-off, 0.1 s
        coordinator._heartbeat_wakeup.notify()
        return node_id

    coordinator._handle_find_coordinator_response = handle_and_beat


def hang_up(consumer: KafkaConsumer) -> None:
    """Call when nobody answers: what is in flight fails at once, and the client connects anew. It stays a member."""
    manager = consumer._client._manager

    def close_all() -> None:
        for connection in list(manager._conns.values()):
            connection.close(kafka_errors.KafkaConnectionError("no answer"))

    manager.call_soon(close_all)


def keep_last_words(client: KafkaNetClient) -> None:
    """Call on a new client: what was read comes first, and a login that is refused ends the bootstrap."""
    manager = client._manager
    build_transport, get_connection = manager._build_transport, manager.get_connection
    refusals: dict[Any, Exception] = {}

    async def build(*args: Any, **kwargs: Any) -> Any:
        transport = await build_transport(*args, **kwargs)

        def receive_data_first() -> tuple[bytes, Exception | None]:
            received, error = _receive(transport._sock)
            return received, None if received else error  # the next read finds the end again

        transport._sock_recv = receive_data_first
        return transport

    def connect(node_id: Any, *args: Any, **kwargs: Any) -> Any:
        if node_id in refusals:
            raise refusals.pop(node_id)
        connection = get_connection(node_id, *args, **kwargs)
        if manager.cluster.is_bootstrap(node_id):
            connection._init_future.add_errback(lambda error: remember(node_id, error))
        return connection

    def remember(node_id: Any, error: Exception) -> None:
        if isinstance(error, REFUSED):
            refusals[node_id] = error

    manager._build_transport, manager.get_connection = build, connect


def _receive(sock: socket.socket) -> tuple[bytes, Exception | None]:
    """What there is to read now, and the end of the connection if it is there too."""
    received: list[bytes] = []
    while True:
        try:
            data = sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b"".join(received), None
        except OSError as error:
            return b"".join(received), kafka_errors.KafkaConnectionError(error)
        if not data:
            return b"".join(received), kafka_errors.KafkaConnectionError("socket disconnected")
        received.append(data)


def note_resets(consumer: KafkaConsumer) -> set[Any]:
    """The partitions (TopicPartition) whose place the client gives up from now on; the caller takes them out."""
    noted: set[Any] = set()
    subscription = consumer._subscription
    give_up = subscription.request_offset_reset

    def noting(partition: Any, offset_reset_strategy: Any = None) -> None:
        noted.add(partition)
        give_up(partition, offset_reset_strategy)

    subscription.request_offset_reset = noting
    return noted
