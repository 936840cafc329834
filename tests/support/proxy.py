"""A TCP proxy in front of a Kafka broker: refuses, resets, swallows, delays, flips bits, or does so at one request.

It reads Kafka's framing, so that a connection can be hurt at exactly the n-th request of a kind, or at its answer:

    frame   i32 length, then the request: i16 api key · i16 version · i32 correlation … or the answer: i32 correlation …

A connection's answers come in the order of its requests, which is how the two are matched.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

_SLICE_SECONDS = 0.05  # how soon a thread sees that the mode has changed


class Api(IntEnum):
    """Kafka's requests that a test hurts."""

    PRODUCE = 0
    FETCH = 1
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


Side = Literal["request", "response"]
Action = Literal["reset", "black_hole", "delay"]
Mode = Literal["pass", "refuse", "black_hole"]


@dataclass(eq=False)
class Cut:
    """What is done to one frame.

    Attributes:
        api: requests of this kind.
        side: the request before the broker has it, or its answer before the client has it.
        action: `reset` the connection, let the frame and all that follows on this connection vanish in a
            `black_hole`, or `delay` the frame, which reaches its end even when the other one has hung up meanwhile.
        skip: how many such frames pass before.
        times: how many frames meet it.
        seconds: of the delay.
        outage_seconds: from then on, for so long, no connection is taken and none is left.
        done: is set when it happened.
    """

    api: Api
    side: Side
    action: Action
    skip: int = 0
    times: int = 1
    seconds: float = 5.0
    outage_seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class Flip:
    """One bit of one answer to a fetch is turned over, inside of a record that holds `inside`."""

    inside: bytes
    done: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens on a port of its own from the moment that it is made; `target` may be set before it is used."""

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self.target = target
        self.mode: Mode = "pass"
        self.delay_seconds = 0.0  # of everything, each way
        self._cuts: list[Cut] = []
        self._flips: list[Flip] = []
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closed = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def arm(self, fault: Cut | Flip) -> None:
        """Let it happen at the next frame that fits, once."""
        with self._lock:
            (self._cuts if isinstance(fault, Cut) else self._flips).append(fault)  # type: ignore[arg-type]

    def disarm(self) -> None:
        """Everything passes, and what is armed will not happen."""
        with self._lock:
            self._cuts.clear()
            self._flips.clear()
        self.mode = "pass"
        self.delay_seconds = 0.0

    def reset(self) -> int:
        """Reset every connection that is open; how many."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.reset()
        return len(connections)

    def refuse_for(self, seconds: float) -> None:
        """No network at all for so long; returns at once."""
        self.mode = "refuse"
        timer = threading.Timer(seconds, lambda: setattr(self, "mode", "pass"))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.reset()

    # --- What happens to frames ---

    def cut_for(self, api: int, side: Side) -> Cut | None:
        """The fault that this frame meets."""
        with self._lock:
            for cut in self._cuts:
                if cut.api != api or cut.side != side:
                    continue
                if cut.skip > 0:
                    cut.skip -= 1
                    continue
                cut.times -= 1
                if cut.times <= 0:
                    self._cuts.remove(cut)
                cut.done.set()
                return cut
        return None

    def flipped(self, frame: bytes) -> bytes:
        """The frame with a bit turned over, where a flip waits and the frame holds what it looks for."""
        with self._lock:
            for flip in self._flips:
                place = frame.find(flip.inside)
                if place >= 0:
                    self._flips.remove(flip)
                    flip.done.set()
                    return frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]
        return frame

    def forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "refuse" or self.target is None:
                _reset(client)
                continue
            try:
                broker = socket.create_connection(self.target, timeout=5)
            except OSError:
                _reset(client)
                continue
            connection = _Connection(self, client, broker)
            with self._lock:
                self._connections.add(connection)
            connection.start()


class _Connection:
    """One client's connection and the one to the broker behind it: a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._broker = broker
        self._asked: deque[int] = deque()  # the api keys whose answers are still to come
        self._swallows = False
        self._over = threading.Event()
        self._pumps = 2
        self._lock = threading.Lock()
        for side in (client, broker):
            side.setblocking(True)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        pumps: list[tuple[socket.socket, socket.socket, Side]] = [
            (self._client, self._broker, "request"),
            (self._broker, self._client, "response"),
        ]
        for source, sink, side in pumps:
            threading.Thread(target=self._pump, args=(source, sink, side), name="proxy-pump", daemon=True).start()

    def reset(self) -> None:
        """Both ends get a RST as soon as both threads have seen it."""
        self._over.set()

    def _pump(self, source: socket.socket, sink: socket.socket, side: Side) -> None:
        buffer = b""
        try:
            while data := self._received(source):
                buffer += data
                while len(buffer) >= 4 and len(buffer) >= (size := 4 + struct.unpack(">i", buffer[:4])[0]):
                    frame, buffer = buffer[:size], buffer[size:]
                    self._pass(frame, sink, side)
            # The client has hung up: what is delayed on its way to it does not matter, the broker hears of it.
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._over.set()
        finally:
            if side == "response":
                self._over.set()
            self._end()

    def _end(self) -> None:
        """The last thread closes: a number of a file that is closed under a thread may soon be another's."""
        with self._lock:
            self._pumps -= 1
            last = self._pumps == 0
        if last:
            _reset(self._client)
            _reset(self._broker)
            self._proxy.forget(self)

    def _received(self, source: socket.socket) -> bytes:
        """The next bytes; empty at the end. Waits while everything is swallowed by the network."""
        while not self._over.is_set():
            if self._proxy.mode == "refuse":
                self.reset()
                return b""
            readable, _, _ = select.select([source], [], [], _SLICE_SECONDS)
            if not readable:
                continue
            data = source.recv(1 << 16)
            if self._proxy.mode == "black_hole":
                self._swallows = True
            if data and self._swallows:
                continue
            return data
        return b""

    def _pass(self, frame: bytes, sink: socket.socket, side: Side) -> None:
        if side == "request":
            api = struct.unpack(">h", frame[4:6])[0]
            self._asked.append(api)  # every one is answered: nothing here produces with acks=0
        else:
            api = self._asked.popleft() if self._asked else -1
            if api == Api.FETCH:
                frame = self._proxy.flipped(frame)
        if self._proxy.delay_seconds:
            time.sleep(self._proxy.delay_seconds)
        cut = self._proxy.cut_for(api, side)
        if cut is not None:
            if cut.outage_seconds:
                self._proxy.refuse_for(cut.outage_seconds)
            match cut.action:
                case "reset":
                    self.reset()
                    raise ConnectionResetError
                case "black_hole":
                    self._swallows = True
                    return
                case "delay":
                    time.sleep(cut.seconds)
        if not self._swallows:
            sink.sendall(frame)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.close()
