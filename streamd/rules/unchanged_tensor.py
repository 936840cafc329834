"""A tensor that no longer changes: frozen, detached, or never given to the optimizer."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest

_TENSORS_MAX = 4096
_COUNTS = ("class/", "confusion/")  # of labels, which a balanced sampler repeats


class UnchangedTensorConfig(RuleConfig):
    """Options of `unchanged_tensor` (Debugger's UnchangedTensor).

    >>> rule = UnchangedTensorConfig().build()
    >>> points = [TelemetryPoint("bert", 0, i, None, {}, {"head": {"norm": 1.5}}) for i in range(3)]
    >>> [rule.update(point) for point in points][-1].finding
    'head (3) no longer changes'
    """

    type: Literal["unchanged_tensor"] = "unchanged_tensor"

    num_steps: int = Field(default=3, ge=2)
    """Measurements in a row, all summaries of which are equal within the tolerances."""

    rtol: float = Field(default=1e-5, ge=0)
    """Relative tolerance, as numpy.allclose has it."""

    atol: float = Field(default=1e-8, ge=0)
    """Absolute tolerance."""

    def build(self) -> UnchangedTensor:
        return UnchangedTensor(self)


class UnchangedTensor(Rule):
    remembered = ("last", "equal")

    def __init__(self, config: UnchangedTensorConfig) -> None:
        self._config = config
        self.last: dict[str, dict[str, float]] = {}
        self.equal: dict[str, int] = {}  # measurements in a row

    def update(self, point: TelemetryPoint) -> Judgement | None:
        signs, judged = [], False
        for name, tensor in point.tensors.items():
            values = {key: value for key, value in tensor.items() if math.isfinite(value)}
            if not values or name.startswith(_COUNTS) or (name not in self.last and len(self.last) >= _TENSORS_MAX):
                continue
            known = self.last.get(name)
            count = self.equal[name] = self.equal.get(name, 0) + 1 if known and self._close(known, values) else 1
            self.last[name] = values
            judged = judged or known is not None
            if count >= self._config.num_steps:
                signs.append(Sign(name, float(count), float(count), "changed"))
        line = self._config.num_steps - 0.5
        return loudest(signs, judged, "no longer changes", threshold=line, effect_name="equal_measurements")

    def _close(self, known: dict[str, float], values: dict[str, float]) -> bool:
        if known.keys() != values.keys():
            return False
        rtol, atol = self._config.rtol, self._config.atol
        return all(abs(value - known[key]) <= atol + rtol * abs(known[key]) for key, value in values.items())

    def resume(self, step: int) -> None:
        self.last.clear()
        self.equal.clear()
