"""The life of the process: start → pump → drain → stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType

import structlog

from streamd import __version__
from streamd.config import Config
from streamd.errors import TransientError
from streamd.observe import logs
from streamd.observe.health import State
from streamd.transport.kafka import KafkaTransport, ensure_topics
from streamd.watchdog import Watchdog
from streamd.wiring import Parts, build, stream_nbytes, warm_up

log = structlog.get_logger("streamd.daemon")


def run(load: Callable[[], Config]) -> int:
    """Run until SIGTERM or SIGINT; the exit code.

    Args:
        load: reads the configuration, now and at every SIGHUP; raises ConfigError.

    Raises:
        ConfigError: something that only the outside could tell: the port is taken, a topic is missing.
    """
    config = load()
    logs.configure(config.log, secrets=config.secrets())
    _prepare(config)
    transport = KafkaTransport(config.kafka, [config.topics.features, config.topics.telemetry])
    parts = build(config, transport, partial(_reloaded, load, config))
    watchdog = Watchdog(parts.health)
    _obey_signals(parts)
    parts.admin.start()
    watchdog.start()
    log.info("admin HTTP is up", address=parts.admin.url)
    try:
        parts.pump.retry(lambda: _make_topics(config))
        parts.pump.run()
    except TransientError as error:
        log.warning(str(error))
    finally:
        watchdog.stop()
        parts.health.set(State.DRAINING, "the process was told to stop")
        transport.close()
        parts.health.set(State.STOPPED)
        parts.admin.stop()
    log.info("stopped")
    return 0


def _prepare(config: Config) -> None:
    """Make ready, and say what is watched."""
    warm_up(config)
    settings = config.for_stream("")
    log.info(
        "streamd starts",
        version=__version__,
        detectors=list(settings.detectors),
        bytes_per_stream_of_32_features=stream_nbytes(settings),
        streams_max_per_partition=config.engine.streams_max,
    )


def _reloaded(load: Callable[[], Config], first: Config) -> Config:
    """The configuration as it is now. What the process was built with stays: that needs a restart."""
    config = load()
    sections = ("kafka", "topics", "admin", "log", "metrics")
    fixed = [name for name in sections if getattr(config, name) != getattr(first, name)]
    if fixed:
        log.warning("a reload does not change these sections: restart for them", sections=fixed)
    warm_up(config)
    return config.model_copy(update={name: getattr(first, name) for name in ("kafka", "topics")})


def _make_topics(config: Config) -> None:
    created = ensure_topics(config.kafka, config.topics, create=config.kafka.create_topics)
    if created:
        log.info("made the topics that were missing", topics=created)


def _obey_signals(parts: Parts) -> None:
    """The first SIGTERM or SIGINT drains, the second ends at once; SIGHUP reloads the configuration."""

    def stop(number: int, _: FrameType | None) -> None:
        if parts.pump.stopping:
            os._exit(128 + number)
        parts.pump.stop()  # nothing else: a handler must not wait for a lock that its own thread holds

    def reload(_number: int, _: FrameType | None) -> None:
        parts.pump.reload_wanted = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, reload)
