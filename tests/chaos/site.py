"""Where a chaos run takes place: a broker, the way that the members take to it, and what it promises them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from brokers import RealKafka, kafka_launcher
from proxy import Proxy

from streamd.transport.embedded import EmbeddedBroker

_STARTS = 3

Where = Literal["kafka", "tansu"]


@dataclass(frozen=True)
class Site:
    """A broker that runs.

    Attributes:
        exactly_once: what is promised there; else at least once.
        members, direct: its address for the members, by way of the proxy where there is one, and for who looks on.
        broker: to kill; None: it cannot be.
    """

    exactly_once: bool
    members: str
    direct: str
    proxy: Proxy
    broker: RealKafka | None

    def start_anew(self) -> None:
        """Start the broker on its data, whatever state it is in. On a busy machine it may take more than one try."""
        if self.broker is None:
            return
        for tries_left in reversed(range(_STARTS)):
            self.broker.kill()
            try:
                self.broker.start()
                return
            except RuntimeError:
                if not tries_left:
                    raise


@contextmanager
def open_site(where: Where, folder: Path) -> Iterator[Site]:
    """Start it, and stop it."""
    proxy = Proxy()
    try:
        if where == "tansu":
            with EmbeddedBroker() as tansu:
                yield Site(False, tansu.bootstrap_servers, tansu.bootstrap_servers, proxy, None)
            return
        launcher = kafka_launcher()
        assert launcher is not None
        broker = _kafka_behind(proxy, launcher, folder / "kafka")
        broker.start()
        try:
            yield Site(True, f"127.0.0.1:{proxy.port}", f"127.0.0.1:{broker.ports['direct']}", proxy, broker)
        finally:
            broker.kill()
    finally:
        proxy.close()


def _kafka_behind(proxy: Proxy, launcher: Path, folder: Path) -> RealKafka:
    """A broker with two doors: clients of the one come through the proxy, of the other straight."""
    listeners = "PLAINTEXT://127.0.0.1:{port},DIRECT://127.0.0.1:{direct},CONTROLLER://127.0.0.1:{controller}"
    broker = RealKafka(
        launcher,
        folder,
        f"listeners={listeners}",
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{proxy.port},DIRECT://127.0.0.1:{{direct}}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=DIRECT",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000",
        more=("direct",),
    )
    proxy.target = ("127.0.0.1", broker.port)
    return broker
