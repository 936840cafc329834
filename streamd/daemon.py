"""The life of the process: start → pump → drain → stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import NoReturn

import structlog

from streamd import __version__
from streamd.config import Config
from streamd.errors import TransientError
from streamd.observe import logs
from streamd.observe.health import State
from streamd.parent_line import ParentLine
from streamd.transport.kafka import KafkaTransport, ensure_topics
from streamd.watchdog import Watchdog
from streamd.wiring import Parts, build, stream_nbytes, warm_up

log = structlog.get_logger("streamd.daemon")


def run(load: Callable[[], Config], parent: ParentLine | None = None) -> NoReturn:
    """Run until SIGTERM or SIGINT, then end the process with 0.

    Args:
        load: reads the configuration, now and at every SIGHUP; raises ConfigError.
        parent: of one worker of several. It is told where this one's admin HTTP is, and says when to stop.

    Raises:
        ConfigError: something that only the outside could tell: the port is taken, a topic is missing.
    """
    config = load()
    logs.configure(config.log, secrets=config.secrets(), worker=None if parent is None else parent.worker)
    _prepare(config)
    transport = KafkaTransport(config.kafka, [config.topics.features, config.topics.telemetry])
    parts = build(config, transport, partial(_reloaded, load, config))
    watchdog = Watchdog(parts.health, lambda: parts.pump.stopping)
    _obey(parts, parent)
    parts.admin.start()
    watchdog.start()
    log.info("admin HTTP is up", address=parts.admin.url)
    if parent is not None:
        parent.announce(parts.admin.url)
    try:
        parts.pump.retry(lambda: _make_topics(config))
        parts.pump.run()
    except TransientError as error:
        if not parts.pump.stopping:
            raise  # what is transient is tried again; this one slipped through
        log.warning(str(error))
    finally:
        parts.health.set(State.DRAINING, "the process was told to stop")
        transport.close()
        parts.health.set(State.STOPPED)
        parts.admin.stop()
        watchdog.stop()
    log.info("stopped")
    sys.stdout.flush()
    # Everything is let go of; the interpreter's own end takes half a second with torch, and five on a busy machine.
    os._exit(0)


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
    sections = ("kafka", "topics", "workers", "admin", "log", "metrics")
    fixed = [name for name in sections if getattr(config, name) != getattr(first, name)]
    if fixed:
        log.warning("a reload does not change these sections: restart for them", sections=fixed)
    warm_up(config)
    return config.model_copy(update={name: getattr(first, name) for name in sections})


def _make_topics(config: Config) -> None:
    created = ensure_topics(config.kafka, config.topics, create=config.kafka.create_topics)
    if created:
        log.info("made the topics that were missing", topics=created)


def _obey(parts: Parts, parent: ParentLine | None) -> None:
    """The first SIGTERM or SIGINT drains, the second ends at once; SIGHUP reloads the configuration.

    A parent says the same on its line. As a supervisor may signal all of its processes, a worker's second SIGTERM
    may be the first one's echo: only the parent ends it at once.
    """

    def stop(number: int, _: FrameType | None) -> None:
        if parts.pump.stopping and parent is None:
            os._exit(128 + number)
        parts.pump.stop()  # nothing else: a handler must not wait for a lock that its own thread holds

    def reload(*_: object) -> None:
        parts.pump.reload_wanted = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, reload)
    if parent is not None:
        parent.obey(parts.pump.stop, reload)
