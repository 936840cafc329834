"""`streamd demo`: a broker, the daemon and real data, in one terminal."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Annotated, Any

import typer

from streamd.cli.connection import load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.tail import messages, parse
from streamd.errors import TransientError

_STORY_SECONDS = 45.0
_CONNECT_SECONDS = 60.0  # a broker that starts with us takes some
_NOTES = {
    False: "sending people of the US census, 2016 and 2017, with a model's predictions",
    True: "the story is told; quiet data goes on — Ctrl-C ends all of it",
}


def command(
    duration: Annotated[
        float | None, typer.Option(min=30, help="End by itself after so many seconds, with a summary.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(help="Send the data to this Kafka, host:port, for a daemon that is there; start nothing else."),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="A training that goes wrong and is brought back; ends by itself.")
    ] = False,
) -> None:
    """Watch a real model: a broker, the daemon and the data all start here, and end with Ctrl-C.

    The data: the US census, and a model's predictions of who is employed. In 2017 the bureau changed the
    order of its file, and for 10,270 rows only residents of prisons, dormitories and nursing homes arrive.
    """
    if training and bootstrap_servers is not None:
        raise typer.BadParameter("--training starts a broker of its own: leave --bootstrap-servers out")
    if bootstrap_servers is not None:
        raise typer.Exit(_send(bootstrap_servers, duration))
    from rich.console import Console

    from streamd.demo.screen import Screen

    if training:
        from streamd.cli.demo_training import play

        raise typer.Exit(play(Screen(Console()), duration))
    raise typer.Exit(_play(Screen(Console()), duration))


def _send(bootstrap_servers: str, duration: float | None) -> int:
    """The data alone, to a broker that is there; the exit code."""
    from streamd.client import FeatureProducer
    from streamd.demo.story import Feeder

    quiet_client()
    try:
        producer = FeatureProducer(bootstrap_servers, load_config(bootstrap_servers, None).topics.features)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with producer:
        producer.connect(_CONNECT_SECONDS)
        typer.echo(f"{_NOTES[False]}, to {bootstrap_servers}")
        feeder = Feeder(producer, duration or _STORY_SECONDS, epilogue=duration is None)
        with suppress(KeyboardInterrupt):
            feeder.run()
    typer.echo(f"{sum(feeder.sent.values())} batches sent")
    return ExitCode.OK


def _play(screen: Any, duration: float | None) -> int:
    """The demo, from its first line to its summary; the exit code."""
    from streamd.client import FeatureProducer
    from streamd.demo.account import Account
    from streamd.demo.stage import Stage
    from streamd.demo.story import Feeder

    began = time.monotonic()
    quiet_client()
    screen.say("Starting an embedded broker and the daemon …")
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        tail = f"{sys.argv[0]} tail --bootstrap-servers {stage.bootstrap_servers}"
        screen.addresses(stage.admin_url, stage.bootstrap_servers, tail, str(stage.log))
        producer = stack.enter_context(FeatureProducer(stage.bootstrap_servers))
        left = None if duration is None else duration - (time.monotonic() - began)
        seconds = _STORY_SECONDS if left is None else max(10.0, left - 12.0)
        feeder = Feeder(producer, seconds, epilogue=duration is None)
        thread = threading.Thread(target=feeder.run, name="feeder", daemon=True)
        account = Account(feeder)
        alerts = _Reader(stage.bootstrap_servers)
        stack.callback(screen.stop)
        thread.start()
        screen.start()
        try:
            while duration is None or time.monotonic() - began < duration:
                stage.check()
                if not thread.is_alive() and not feeder.finished:
                    return ExitCode.INTERNAL  # its traceback stands above
                for alert in alerts.wait(0.25):
                    account.take(alert)
                    screen.alert(alert["event_time"][11:19], alert["status"], alert["severity"], alert["summary"])
                screen.streams(stage.streams(), _NOTES[feeder.finished])
        except KeyboardInterrupt:
            pass
        feeder.stop()
        screen.stop()
        screen.say("\nStopping the daemon and the broker …")
        code = stage.stop()
    screen.say(account.summary(time.monotonic() - began))
    return code


class _Reader:
    """Reads the alerts' topic on a thread, as any consumer would."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._alerts: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        config = load_config(bootstrap_servers, None, {})
        threading.Thread(target=self._run, args=(config,), name="alerts", daemon=True).start()

    def wait(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What has come, waiting for so long where nothing has."""
        try:
            yield self._alerts.get(timeout=seconds)
            while True:
                yield self._alerts.get_nowait()
        except queue.Empty:
            return

    def _run(self, config: Any) -> None:
        with suppress(TransientError):  # the broker has been stopped: the demo is over
            for value, _ in messages(config, config.topics.alerts, "beginning", None):
                alert = parse(value)
                if alert is not None:
                    self._alerts.put(alert)
