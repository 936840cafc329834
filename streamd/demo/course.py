"""What became of the training demo's run: the mishap, what was found and commanded, and how it ended. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streamd.demo.wire import Alert, Event
from streamd.model import Acknowledgement, Command, TelemetryPoint

_ACCURACY = "val/accuracy"  # as the job calls it
_JUMPED = 2.0  # a learning rate that doubles from one step to the next was not meant to
_BLOCKS = "▁▂▃▄▅▆▇█"
_COLUMNS = 76


@dataclass
class Course:
    """One run, as the topics tell of it.

    Attributes:
        jump: (step, learning rate before, after) of the mishap.
        alerts: those that fired, in their order.
        answers: commands with what the job said of them.
        wild: the learning rate is the wrong one at this moment.
    """

    run: str
    points: list[TelemetryPoint] = field(default_factory=list)
    accuracy: float = math.nan
    jump: tuple[int, float, float] | None = None
    alerts: list[Alert] = field(default_factory=list)
    commands: dict[str, Command] = field(default_factory=dict)
    answers: list[tuple[Command, Acknowledgement]] = field(default_factory=list)
    wild: bool = False

    def take(self, event: Event) -> None:
        """Follow the run; what is about another is passed over."""
        match event:
            case TelemetryPoint() if event.run == self.run:
                self._step(event)
            case dict() if event["stream"] == self.run and event["status"] == "firing":
                self.alerts.append(event)
            case Command() if event.target == self.run:
                self.commands[event.id] = event
            case Acknowledgement() if event.stream == self.run and event.command_id in self.commands:
                command = self.commands[event.command_id]
                self.answers.append((command, event))
                self.wild = self.wild and not (command.command == "rollback" and event.outcome == "done")

    def _step(self, point: TelemetryPoint) -> None:
        self.accuracy = point.metrics.get(_ACCURACY, self.accuracy)
        if "loss" not in point.metrics:
            return
        rate = point.metrics["lr"]
        before = self.points[-1].metrics["lr"] if self.points else rate
        if rate > _JUMPED * before:
            self.jump, self.wild = (point.step, before, rate), True
        self.points.append(point)

    def is_news(self, point: TelemetryPoint, every: int) -> bool:
        """Whether to show it: one of so many steps while all is well, every one while the rate is wrong, and
        the first after a step back."""
        if point.run != self.run or "loss" not in point.metrics:
            return point.run == self.run
        went_back = len(self.points) > 1 and point.step <= self.points[-2].step
        return self.wild or went_back or point.step % every == 0

    @property
    def step(self) -> int:
        """The last one."""
        return self.points[-1].step if self.points else 0

    def answered(self, command: str) -> Acknowledgement | None:
        """The job's last word on a command of that name; None: it has said nothing yet."""
        return next((answer for asked, answer in reversed(self.answers) if asked.command == command), None)

    @property
    def cause(self) -> Alert | None:
        """The alert for which the run was paused."""
        ids = {asked.alert_id for asked, _ in self.answers if asked.command == "pause"}
        return next((alert for alert in self.alerts if alert["id"] in ids), None)

    def remedy(self) -> list[list[str]]:
        """What a person would type after `streamd ctl` now that the run is paused."""
        assert self.cause is not None
        return [
            ["reduce-lr", "--run", self.run, "--factor", "0.5"],
            ["rollback", "--run", self.run, "--step", str(self.cause["first_step"] - 1)],
            ["resume", "--run", self.run],
        ]

    def summary(self, undisturbed: Course) -> str:
        """What happened, in a few lines of at most 80 columns."""
        rows: list[tuple[str, str]] = []
        if self.jump is not None:
            step, before, after = self.jump
            rows.append((f"step {step}", f"the learning rate jumped from {before:.3g} to {after:.3g}"))
        if self.alerts:
            rows.append((f"step {self.alerts[0]['step']}", f"the first alert: {self.alerts[0]['detector']}"))
        pause = self.answered("pause")
        if self.cause is not None and pause is not None:
            rows.append((f"step {self.cause['step']}", f"{self.cause['detector']} asked for checkpoint and pause"))
            delay = f"{self._delay_ms(pause)} ms after that step was measured"
            rows.append((pause.detail.partition(":")[0], f"both were obeyed, {delay}"))
        for asked, answer in self.answers:
            if (asked.command, answer.outcome) == ("rollback", "done"):
                who = asked.author or "streamd"
                rows.append((answer.detail.partition(":")[0], f"{who} went back to here, with half the rate"))
        if not self.points:
            return "It was ended before the training began."
        if not math.isnan(self.accuracy):
            rows.append((f"step {self.step}", f"{_share(self.accuracy)} of the unseen pictures are read correctly"))
            rows.append(("", f"{_share(undisturbed.accuracy)} in the undisturbed run"))
        curve = f"The loss from the first step to the last, on a logarithmic scale:\n  {self.curve()}\n\n"
        return curve + "\n".join(f"{when:<10}{what}" for when, what in rows)

    def verdict(self) -> str:
        """How well it ended, and what streamd had to say."""
        alerts = f"streamd raised {len(self.alerts)} alerts" if self.alerts else "streamd had nothing to say"
        return f"{_share(self.accuracy)} of unseen pictures are read correctly; {alerts}"

    def _delay_ms(self, pause: Acknowledgement) -> int:
        assert self.cause is not None
        measured = next(p.event_time_ms for p in self.points if p.step == self.cause["step"])
        return pause.event_time_ms - measured

    def curve(self) -> str:
        """The loss of all steps in the order in which they were made, one character for some of them."""
        losses = [point.metrics["loss"] for point in self.points]
        if not losses:
            return ""
        per_column = math.ceil(len(losses) / _COLUMNS)
        highs = [_log(max(losses[i : i + per_column])) for i in range(0, len(losses), per_column)]
        low, high = min(highs), max(highs)
        scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
        return "".join(_BLOCKS[round((each - low) * scale)] for each in highs)


def _log(loss: float) -> float:
    return math.log(min(max(loss, 1e-6), 1e6)) if not math.isnan(loss) else math.log(1e6)


def _share(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} %"
