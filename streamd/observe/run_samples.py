"""What a training run looks like now, as samples: each of its metrics in the family that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from streamd.observe import families
from streamd.observe.families import Family
from streamd.observe.runs import RunView
from streamd.rules.memory import shares_used
from streamd.rules.names import role_of

Sample = tuple[Family, tuple[str, ...], float]
"""A family, the values of its labels after the run's, and the value."""

_BY_ROLE = {
    "loss": families.RUN_LOSS,
    "grad_norm": families.RUN_GRADIENT_NORM,
    "learning_rate": families.RUN_LEARNING_RATE,
    "evaluation": families.RUN_METRIC,
    "other": families.RUN_METRIC,
}
"""In the order in which labels are given out."""

_PRIORITY = {role: place for place, role in enumerate(_BY_ROLE)}
_SECONDS = {"step_seconds": families.RUN_STEP_SECONDS, "data_wait_seconds": families.RUN_DATA_WAIT}
_BUSY = {"gpu_util_percent": "gpu", "cpu_percent": "cpu"}
_SUMMED = (families.RUN_NONFINITE, families.RUN_COMMANDS, families.RUN_ACKNOWLEDGEMENTS)

RUN_FAMILIES = (
    families.RUN_STEP,
    families.RUN_TIME,
    families.RUN_LOSS,
    families.RUN_GRADIENT_NORM,
    families.RUN_LEARNING_RATE,
    families.RUN_METRIC,
    families.RUN_MEMORY,
    *_SECONDS.values(),
    families.RUN_BUSY,
    families.RUN_COMMAND_TIME,
    *_SUMMED,
)


def samples_of(run: RunView, named: set[str], names_max: int) -> Iterator[Sample]:
    """Its values as they were last sent, NaN and infinities too.

    Args:
        named: metrics that have a label already; those that get one now are added.
        names_max: how many may have one; the others are left out.
    """
    if run.step is not None:
        yield families.RUN_STEP, (), run.step
    for (command, mode), asked in run.commands.items():
        yield families.RUN_COMMAND_TIME, (command, mode), asked.last_ms / 1000
    for memory, share in shares_used(run.metrics):
        yield families.RUN_MEMORY, (memory,), share
    others = []
    for name, value in run.metrics.items():
        if name in _SECONDS:
            yield _SECONDS[name], (), value
        elif name in _BUSY:
            yield families.RUN_BUSY, (_BUSY[name],), value / 100
        else:
            others.append((role_of(name), name, value))
    others.sort(key=lambda each: _PRIORITY[each[0]])
    for role, name, value in others:
        if name not in named and len(named) < names_max:
            named.add(name)
        if name in named:
            yield _BY_ROLE[role], (name,), value


def sums_of(run: RunView) -> Iterator[Sample]:
    """What may be added up over runs."""
    yield families.RUN_NONFINITE, (), run.nonfinite
    for (command, mode), asked in run.commands.items():
        yield families.RUN_COMMANDS, (command, mode), asked.times
    for outcome, times in run.answers.items():
        yield families.RUN_ACKNOWLEDGEMENTS, (outcome,), times
