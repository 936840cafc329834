"""A confusion matrix that is not good enough."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.detectors.base import State
from streamd.model import TelemetryPoint
from streamd.rules.base import Judgement, Rule, RuleConfig, Sign, loudest

_PREFIX = "confusion/"


class ConfusionConfig(RuleConfig):
    """Options of `confusion` (Debugger's Confusion). Send each row of a step's matrix as a tensor
    `confusion/<label>` with the count of every prediction under its name.

    >>> rule = ConfusionConfig(category_no=2).build()
    >>> rows = {"confusion/cat": {"cat": 70.0, "dog": 30.0}, "confusion/dog": {"cat": 1.0, "dog": 99.0}}
    >>> rule.update(TelemetryPoint("pets", 0, 1, None, {}, rows)).finding
    'cat as dog (0.2326), cat (0.7) too often confused'
    """

    type: Literal["confusion"] = "confusion"

    category_no: int = Field(default=10, ge=2, le=1000)
    """Labels that must have been seen before the matrix is judged."""

    min_diag: float = Field(default=0.9, ge=0, le=1)
    """The least share of a label's samples that must be predicted as it."""

    max_off_diag: float = Field(default=0.1, ge=0, le=1)
    """The largest share of a prediction's samples that may have another one label."""

    def build(self) -> Confusion:
        return Confusion(self)


class Confusion(Rule):
    def __init__(self, config: ConfusionConfig) -> None:
        self._config = config
        self._matrix: dict[str, dict[str, float]] = {}  # label -> prediction -> samples

    def update(self, point: TelemetryPoint) -> Judgement | None:
        rows = {name[len(_PREFIX) :]: row for name, row in point.tensors.items() if name.startswith(_PREFIX)}
        for label, row in rows.items():
            if label not in self._matrix and len(self._matrix) >= self._config.category_no:
                continue
            known = self._matrix.setdefault(label, {})
            for prediction, count in row.items():
                if prediction in known or len(known) < self._config.category_no:
                    known[prediction] = known.get(prediction, 0.0) + max(0.0, count)
        if not rows or len(self._matrix) < self._config.category_no:
            return None
        predicted: dict[str, float] = {}
        for known in self._matrix.values():
            for prediction, count in known.items():
                predicted[prediction] = predicted.get(prediction, 0.0) + count
        signs = [sign for label, row in self._matrix.items() for sign in self._row(label, row, predicted)]
        return loudest(signs, True, "too often confused", threshold=1.0)

    def _row(self, label: str, row: dict[str, float], predicted: dict[str, float]) -> list[Sign]:
        signs = []
        total = sum(row.values())
        right = row.get(label, 0.0) / total if total else 1.0
        if right < self._config.min_diag:
            signs.append(Sign(label, right, self._config.min_diag / max(right, 1e-9), "down"))
        for prediction, count in row.items():
            share = count / predicted[prediction] if predicted[prediction] else 0.0
            if prediction != label and share > self._config.max_off_diag:
                signs.append(Sign(f"{label} as {prediction}", share, share / max(self._config.max_off_diag, 1e-9)))
        return signs

    def snapshot(self) -> State:
        return {"matrix": [[label, list(row.items())] for label, row in self._matrix.items()]}

    def restore(self, state: State) -> None:
        self._matrix = {label: dict(row) for label, row in state["matrix"]}

    @property
    def nbytes(self) -> int:
        return sum(100 + 80 * len(row) for row in self._matrix.values())
