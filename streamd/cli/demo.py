"""`streamd demo`: a broker, the daemon and real data, in one terminal."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack
from typing import Annotated, Any

import typer

_STORY_SECONDS = 45.0
_NOTES = {
    False: "sending people of the US census, 2016 and 2017, with a model's predictions",
    True: "the story is told; quiet data goes on — Ctrl-C ends all of it",
}


def command(
    duration: Annotated[
        float | None, typer.Option(min=30, help="End by itself after so many seconds, with a summary.")
    ] = None,
) -> None:
    """Watch a real model: a broker, the daemon and the data all start here, and end with Ctrl-C.

    The data: the US census, and a model's predictions of who is employed. In 2017 the bureau changed the
    order of its file, and for 10,270 rows only residents of prisons, dormitories and nursing homes arrive.
    """
    from rich.console import Console

    from streamd.demo.screen import Screen

    raise typer.Exit(_play(Screen(Console()), duration))


def _play(screen: Any, duration: float | None) -> int:
    """The demo, from its first line to its summary; the exit code."""
    from streamd.client import FeatureProducer
    from streamd.demo.account import Account
    from streamd.demo.stage import Stage
    from streamd.demo.story import Feeder

    began = time.monotonic()
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
        alerts = stack.enter_context(account.reading(stage.bootstrap_servers))
        stack.callback(screen.stop)
        thread.start()
        screen.start()
        try:
            while duration is None or time.monotonic() - began < duration:
                stage.check()
                for alert in alerts(0.25):
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
