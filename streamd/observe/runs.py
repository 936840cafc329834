"""What is shown of one training run: its last values, its loss so far, what it was asked and how it answered."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamd.codec.jsontext import json_number
from streamd.model import Command, JsonValue, RunJudged, StreamChanged
from streamd.observe.curve import Curve
from streamd.rules.names import role_of

_METRICS_MAX = 1000  # names that are remembered, the latest: a job that invents names must not fill the memory


class Asked(NamedTuple):
    """How often a command was asked of a run, and when last, epoch milliseconds."""

    times: int
    last_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class RunView:
    """One run at one moment. Nobody changes it.

    Attributes:
        step: the last one; None before the first.
        metrics: the last value of each, by name.
        loss: the name of the metric that `losses` are of; None where none is a training loss.
        losses: from the first record that this process read, see `Curve`.
        nonfinite: values that were NaN or infinite, since this process holds the run, as are:
        commands: by command and mode.
        answers: acknowledgements by outcome; `none`: not in time.
        ended: how, where it is over.
    """

    step: int | None
    metrics: Mapping[str, float]
    loss: str | None
    losses: tuple[float, ...]
    nonfinite: int
    commands: Mapping[tuple[str, str], Asked]
    answers: Mapping[str, int]
    ended: str | None

    @property
    def last_loss(self) -> float | None:
        return None if self.loss is None else self.metrics.get(self.loss)

    def as_json(self) -> dict[str, JsonValue]:
        """What `/streams` says of it. Times are epoch milliseconds; numbers that are none are words, as in alerts."""
        return {
            "step": self.step,
            "loss": self.loss,
            "metrics": {name: json_number(value) for name, value in self.metrics.items()},
            "nonfinite": self.nonfinite,
            "commands": [
                {"command": command, "mode": mode, "times": asked.times, "last_ms": asked.last_ms}
                for (command, mode), asked in self.commands.items()
            ],
            "answers": dict(self.answers),
            "ended": self.ended,
        }


@dataclass(slots=True, eq=False)
class RunLife:
    """The writer's own, of which views are made."""

    step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    loss: str | None = None
    curve: Curve = field(default_factory=Curve)
    nonfinite: int = 0
    commands: dict[tuple[str, str], Asked] = field(default_factory=dict)
    answers: Tally[str] = field(default_factory=Tally)
    ended: str | None = None

    def follow(self, judged: RunJudged) -> None:
        """Take in a record's points."""
        self.step, self.ended = judged.step, None
        self.nonfinite += judged.nonfinite
        self.metrics |= judged.metrics
        if len(self.metrics) > _METRICS_MAX:
            older = [name for name in self.metrics if name not in judged.metrics]
            for name in (*older, *judged.metrics)[: len(self.metrics) - _METRICS_MAX]:
                del self.metrics[name]
        if self.loss is None:
            self.loss = next((name for name in judged.metrics if role_of(name) == "loss"), None)
        if self.loss is not None and self.loss in judged.metrics:
            self.curve.add(judged.metrics[self.loss])

    def ask(self, command: Command) -> None:
        key = (command.command, command.mode)
        times = self.commands[key].times if key in self.commands else 0
        self.commands[key] = Asked(times + 1, command.issued_at_ms)

    def change(self, change: StreamChanged) -> None:
        """Take in an answer, or the end."""
        if change.outcome is not None:
            self.answers[change.outcome] += 1
        if change.what == "ended":
            self.ended = change.detail

    def view(self) -> RunView:
        return RunView(
            step=self.step,
            metrics=dict(self.metrics),
            loss=self.loss,
            losses=tuple(self.curve.points),
            nonfinite=self.nonfinite,
            commands=dict(self.commands),
            answers=dict(self.answers),
            ended=self.ended,
        )
