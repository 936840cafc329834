"""Fixtures that several parts of the tests share: brokers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from brokers import HOW_TO_GET_KAFKA, ExternalKafka, RealKafka, kafka_launcher
from needs import unavailable

from streamd.transport.embedded import EmbeddedBroker

# A loaded machine is no failure; and CI tries the same examples every time.
hypothesis.settings.register_profile("streamd", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("streamd")


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Verbs quieten the Kafka client, and a finaliser of the client replaces its module's logger (K6)."""
    import kafka.producer.kafka as client

    loggers = [logging.getLogger(name) for name in ("kafka", "streamd.client")]
    levels = [logger.level for logger in loggers]
    client.log = logging.getLogger(client.__name__)
    yield
    client.log = logging.getLogger(client.__name__)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """Tansu, for the whole session. Use topics and groups that nobody else uses."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka | ExternalKafka]:
    """A real Kafka, for the whole session. Use topics and groups that nobody else uses."""
    external = os.environ.get("STREAMD_TEST_KAFKA")
    if external:
        yield ExternalKafka(external)
        return
    launcher = kafka_launcher()
    if launcher is None:
        unavailable(HOW_TO_GET_KAFKA)
    broker = RealKafka(launcher, tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def make_kafka(tmp_path: Path) -> Iterator[Callable[..., RealKafka]]:
    """Makes real brokers for one test alone, to kill or to configure; the arguments are RealKafka's."""
    launcher = kafka_launcher()
    if launcher is None:
        unavailable(HOW_TO_GET_KAFKA)
    brokers: list[RealKafka] = []

    def make(*args: object, **kwargs: object) -> RealKafka:
        brokers.append(RealKafka(launcher, tmp_path / f"kafka{len(brokers)}", *args, **kwargs))  # type: ignore[arg-type]
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.kill()
