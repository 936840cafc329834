"""What every rule is: a Config that builds it, and an object that judges one training run step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from streamd.detectors.base import Remembers
from streamd.model import Direction, Severity, TelemetryPoint
from streamd.settings import Settings

RunAction = Literal["checkpoint", "pause", "reduce_lr", "skip_batches", "rollback", "resume", "stop"]


class Sign(NamedTuple):
    """One metric or tensor that stands out.

    Attributes:
        name: of the metric, or of the tensor.
        value: what was measured.
        effect: how far it is out, in the units of `Judgement.effect_name`.
    """

    name: str
    value: float
    effect: float
    direction: Direction = "up"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says of one step.

    Attributes:
        signs: what stands out, the worst first; nothing: the step was judged, and is calm.
        finding: a sentence without its subject.
        first_step: where it began; None: at this step.
        severity: graver or milder than the rule's configured one.
        threshold: an effect matters when it is greater.
    """

    signs: tuple[Sign, ...] = ()
    finding: str = ""
    first_step: int | None = None
    severity: Severity | None = None
    threshold: float = 0.0
    effect_name: str = "lines_crossed"


CALM = Judgement()


class Rule(Remembers):
    """One rule on one run. Owned by one partition, synchronous, free of clocks and I/O."""

    def update(self, point: TelemetryPoint) -> Judgement | None:
        """Judge the step, then learn from it. None: nothing in it could be judged, which is not the same as calm."""
        raise NotImplementedError

    def resume(self, step: int) -> None:
        """The run goes on from `step`, which is earlier than the last: forget what came from there on."""


class RuleConfig(Settings):
    """The base of the Configs. A subclass adds `type: Literal["…"]` and its fields."""

    any_order: ClassVar[bool] = False
    """True: judges points that come late, too."""

    severity: Literal["info", "warning", "critical"] = "warning"
    """How grave a finding is."""

    actions: tuple[RunAction, ...] = ()
    """Commands that a finding of that severity asks for, in this order. None: a person should look."""

    lr_factor: float = Field(default=0.5, gt=0, lt=1)
    """What `reduce_lr` multiplies the learning rate by."""

    lr_min: float = Field(default=1e-6, ge=0)
    """What `reduce_lr` never goes below."""

    back_steps: int = Field(default=1, ge=1)
    """How many steps before the first bad one `rollback` asks for."""

    skip_count: int = Field(default=1, ge=1)
    """How many batches `skip_batches` asks to pass over."""

    @property
    def grade(self) -> Severity:
        return Severity[self.severity.upper()]

    def build(self) -> Rule:
        """A new rule for one run."""
        raise NotImplementedError


def loudest(signs: list[Sign], judged: bool, verb: str, **more: object) -> Judgement | None:
    """The judgement over many names: the worst first and at most ten kept; None where nothing was judged."""
    if not signs:
        return CALM if judged else None
    signs.sort(key=lambda sign: -sign.effect)
    others = f" and {len(signs) - 3} more" if len(signs) > 3 else ""
    named = ", ".join(f"{sign.name} ({sign.value:.4g})" for sign in signs[:3])
    return replace(Judgement(tuple(signs[:10]), f"{named}{others} {verb}"), **more)  # type: ignore[arg-type]
