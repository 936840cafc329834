"""`streamd demo --training`: a training that goes wrong, and is brought back, in one terminal."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamd.cli.connection import load_config, quiet_client
from streamd.errors import ConfigError
from streamd.model import Acknowledgement, Command, TelemetryPoint

if TYPE_CHECKING:
    from streamd.demo.course import Course
    from streamd.demo.stage import Stage
    from streamd.demo.wire import Event, Wire

_RUN = "digits"
_JUMP_AT = 171
_STEP_SECONDS = 0.1
_SHOW_EVERY = 20  # steps, while all is well
_READ_SECONDS = 2.0  # somebody at the screen reads before typing
_LAST_WORDS_SECONDS = 1.0  # what a run that has ended brought about is still on its way


def play(screen: Any, duration: float | None) -> int:
    """The demo, from its first line to its summary; the exit code. Raises ConfigError where a package is missing."""
    from streamd.demo.course import Course
    from streamd.demo.stage import Stage
    from streamd.demo.wire import Wire

    if importlib.util.find_spec("sklearn") is None:
        raise ConfigError("scikit-learn is missing, which brings the digits: pip install 'streamd[demo]'")
    until = time.monotonic() + (duration or float("inf"))
    quiet_client()
    screen.say("Starting an embedded broker and the daemon, with policy.mode: enforce …")
    before, course = Course(f"{_RUN}/undisturbed"), Course(_RUN)
    with ExitStack() as stack:
        stage = stack.enter_context(Stage({"STREAMD_POLICY__MODE": "enforce"}))
        tail = f"{sys.argv[0]} tail --bootstrap-servers {stage.bootstrap_servers}"
        screen.addresses(stage.admin_url, stage.bootstrap_servers, tail, str(stage.log))
        wire = Wire(load_config(stage.bootstrap_servers, None, {}))
        stack.callback(wire.close)
        show = Show(screen, stage, wire, until)
        try:
            screen.say("A small network learns to read handwritten digits, first undisturbed:")
            show.run(before, quiet=True)
            screen.say(f"  {before.verdict()}.\n")
            screen.say(
                f"Now again, ten steps a second. At step {_JUMP_AT} its learning rate goes wrong, as by a\n"
                "slip in a schedule. Each line below was read from Kafka. Times are UTC.\n"
            )
            show.run(course, "--jump-at", str(_JUMP_AT), "--step-seconds", str(_STEP_SECONDS))
        except (KeyboardInterrupt, TimeoutError):
            pass
        wire.close()
        screen.say("\nStopping the daemon and the broker …\n")
        code = stage.stop()
    screen.say(course.summary(before))
    return code


class Show:
    """Plays one run after the other: starts the job, tells what the topics say, and types what a person would."""

    def __init__(self, screen: Any, stage: Stage, wire: Wire, until: float) -> None:
        self._screen = screen
        self._stage = stage
        self._wire = wire
        self._until = until

    def run(self, course: Course, *options: str, quiet: bool = False) -> None:
        """Until the job has ended. Raises TimeoutError when the demo's time is over."""
        folder = self._stage.folder / course.run.replace("/", "-")
        options = ("--run", course.run, "--checkpoints", str(folder), *options)
        job = self._stage.start("job", "-m", "streamd.demo.digits", *options)
        person = Person(self._screen, self._stage, course)
        ended: float | None = None
        while ended is None or time.monotonic() < ended + _LAST_WORDS_SECONDS:
            if time.monotonic() > self._until:
                raise TimeoutError
            self._stage.check()
            for event in self._wire.read(0.1):
                course.take(event)
                if not quiet:
                    self._tell(course, event, f"{folder}/")
            person.look()
            if ended is None and job.poll() is not None:
                ended = time.monotonic()

    def _tell(self, course: Course, event: Event, folder: str) -> None:
        show = self._screen.event
        match event:
            case TelemetryPoint() if course.is_news(event, _SHOW_EVERY):
                numbers = {name: event.metrics[name] for name in ("loss", "lr", "grad_norm") if name in event.metrics}
                numbers |= {name: value for name, value in event.metrics.items() if name.startswith("val/")}
                text = "  ".join(f"{name} {value:<7.3g}" for name, value in numbers.items())
                show(_clock(event.event_time_ms), "step", "cyan", f"{event.step:3}  {text}")
            case dict():
                self._screen.alert(event["event_time"][11:19], event["status"], event["severity"], event["summary"])
            case Command():
                args = ", ".join(f"{name} {value}" for name, value in event.args.items())
                text = f"{event.command}{f' ({args})' if args else ''}, asked by {event.author or 'streamd'}"
                show(_clock(event.issued_at_ms), "command", "magenta", text)
            case Acknowledgement():
                color = "green" if event.outcome == "done" else "red"
                asked = course.commands[event.command_id].command if event.command_id in course.commands else "?"
                show(_clock(event.event_time_ms), event.outcome, color, f"{asked}, {event.detail.replace(folder, '')}")


class Person:
    """Types what a person would when the run is paused: one command after the other was answered."""

    def __init__(self, screen: Any, stage: Stage, course: Course) -> None:
        self._screen = screen
        self._stage = stage
        self._course = course
        self._pause: Acknowledgement | None = None  # the last that was seen to
        self._left: list[list[str]] = []
        self._typed: subprocess.Popen[bytes] | None = None
        self._next_at = 0.0

    def look(self) -> None:
        """Called some times a second; never waits."""
        pause = self._course.answered("pause")
        if pause is not None and pause is not self._pause and self._course.cause is not None:
            self._pause, self._left = pause, self._course.remedy()
            self._next_at = time.monotonic() + _READ_SECONDS
            self._screen.say(
                "\nThe training stands still. By itself streamd asks for no more than that: now a\n"
                "person decides. The demo types what you could type in another terminal.\n"
            )
        if self._typed is not None and self._typed.poll() is not None:
            self._typed, self._next_at = None, time.monotonic() + _READ_SECONDS / 2
        if self._left and self._typed is None and time.monotonic() >= self._next_at:
            arguments = ["ctl", *self._left.pop(0)]
            self._screen.typed(shlex.join(["streamd", *arguments]))
            self._typed = self._stage.start("ctl", "-m", "streamd", *arguments)


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%H:%M:%S")
