"""River's HalfSpaceTrees, which learn on line: the scores of a window against those of the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from streamd.detectors.base import Reference, State
from streamd.detectors.histogram import Histogram
from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.detectors.river_state import capture, grow, reinstate
from streamd.detectors.worst import Judgements, WorstRows, value_of
from streamd.model import FeatureBatch, Kind, Reading, Verdict
from streamd.table import FloatArray

SCORE = "anomaly_score"
WARM_ROWS_MAX = 5000  # of a long reference, the last: two tenths of a second
BASELINE_ROWS_MIN = 100  # of scored reference rows; the distribution of fewer is not known
WORST_ROWS = 5
FEATURES_NAMED_MAX = 3  # with each of them


@dataclass(frozen=True, eq=False)
class TreesProfile:
    """The trees as the reference left them. Immutable.

    Attributes:
        columns: numeric ones that are not constant in the reference.
        lows, highs: (columns,) of the reference. Trees split the range from 0 to 1, which these become; values
            beyond lie in the outermost half-spaces. They stay: a running range would be squeezed by one wild value.
        warm: the masses of the trees.
        judge: the scores of reference rows, each judged before it was learned, prepared.
    """

    columns: tuple[str, ...]
    lows: FloatArray
    highs: FloatArray
    warm: State
    judge: TwoSampleProfile


def learn_reference(
    parameters: Mapping[str, JsonValue], columns: tuple[str, ...], settings: TwoSampleSettings, reference: Reference
) -> TreesProfile | None:
    """Show the trees the reference; None where it is too short, or no column of it varies."""
    names, lows, highs = [], [], []
    for name in columns or tuple(reference.table.numeric):
        column = reference.table.numeric.get(name, np.empty(0))
        finite = column[np.isfinite(column)]
        if len(finite) and 0.0 < float(finite.max()) - float(finite.min()) < np.inf:
            names.append(name)
            lows.append(finite.min())
            highs.append(finite.max())
    if not names:
        return None
    low, high = np.array(lows), np.array(highs)
    trees = _Trees(parameters, tuple(names), low, high)
    scores = trees.feed(reference.table.matrix(tuple(names))[:, -WARM_ROWS_MAX:])[trees.window_rows :]
    if np.count_nonzero(~np.isnan(scores)) < BASELINE_ROWS_MIN:
        return None
    return TreesProfile(tuple(names), low, high, trees.capture(), TwoSampleProfile((SCORE,), scores[None], settings))


class HalfSpaceTreesDetector:
    """One stream's trees. They learn every row, so that what stays odd is found once, and then is normal.

    A row whose columns are all missing has no score; a value that is missing goes where most rows went.
    """

    def __init__(self, name: str, parameters: Mapping[str, JsonValue], profile: TreesProfile | None) -> None:
        self._profile = profile
        if profile is None:
            return
        self._trees = _Trees(parameters, profile.columns, profile.lows, profile.highs)
        self._trees.reinstate(profile.warm)
        settings = profile.judge.settings
        self._judge = TwoSampleJudge(name, Kind.FEATURES, profile.judge)
        self._judgements = Judgements(settings.window_rows, settings.stride_rows)
        self._worst = WorstRows(WORST_ROWS)

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        profile = self._profile
        if profile is None or not batch.table.rows:
            return ()
        matrix = batch.table.matrix(profile.columns)
        if np.isnan(matrix).all():
            return ()
        scores = self._trees.feed(matrix)

        def describe(rows: NDArray[np.int64]) -> list[dict[str, Any]]:
            outermost = self._trees.outermost(matrix[:, rows])
            return [
                {"features": {profile.columns[i]: value_of(batch.table, profile.columns[i], row) for i in indices}}
                for row, indices in zip(rows.tolist(), outermost.T.tolist(), strict=True)
            ]

        found, start = [], 0
        for end in [*self._judgements.cuts(len(scores)), None]:
            self._worst.offer(scores[start:end], batch, start, describe)
            if end is not None:
                found.append(self._worst.take())
                start = end
        verdicts = self._judge.update(scores[None], batch.offset)
        return tuple(dataclasses.replace(v, rows=rows) for v, rows in zip(verdicts, found, strict=True))

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        return self._judge.readings() if self._profile is not None else ()

    def histogram(self, column: str) -> Histogram | None:
        return self._judge.histogram(column) if self._profile is not None else None

    def snapshot(self) -> State:
        from importlib.metadata import version

        if self._profile is None:
            return {}
        return {
            "river": version("river"),
            "trees": self._trees.capture(),
            "judge": self._judge.snapshot(),
            "judgements": self._judgements.snapshot(),
            "worst": self._worst.snapshot(),
        }

    def restore(self, state: State) -> None:
        from importlib.metadata import version

        if self._profile is None or state["river"] != version("river"):
            return  # another river may grow other trees: begin at the reference again
        self._trees.reinstate(state["trees"])
        self._judge.restore(state["judge"])
        self._judgements.restore(state["judgements"])
        self._worst.restore(state["worst"])

    @property
    def nbytes(self) -> int:
        if self._profile is None:
            return 0
        return self._trees.nbytes + self._judge.nbytes + self._judgements.nbytes + self._worst.nbytes


class _Trees:
    """River's object, and how rows become what it wants."""

    def __init__(
        self, parameters: Mapping[str, JsonValue], columns: tuple[str, ...], lows: FloatArray, highs: FloatArray
    ) -> None:
        from river.anomaly import HalfSpaceTrees  # late, because river takes a second

        options: dict[str, Any] = {**parameters, "seed": parameters.get("seed") or 0}
        self._subject: Any = HalfSpaceTrees(**options)
        grow(self._subject, columns)
        self._columns = columns
        self._lows = lows[:, None]
        self._ranges = (highs - lows)[:, None]

    @property
    def window_rows(self) -> int:
        """Rows before the first score."""
        return int(self._subject.window_size)

    def feed(self, matrix: FloatArray) -> FloatArray:
        """Judge, then learn, (columns, rows): the score of each row, 0 for the first `window_rows` ever."""
        scores = np.full(matrix.shape[1], np.nan)
        for i, row in enumerate(self._scaled(matrix).T.tolist()):
            present = {name: value for name, value in zip(self._columns, row, strict=True) if value == value}
            if present:
                scores[i] = self._subject.score_one(present)
                self._subject.learn_one(present)
        return scores

    def outermost(self, matrix: FloatArray) -> NDArray[np.intp]:
        """(named, rows): the columns whose values lie farthest from the middle of their range, farthest first."""
        far = np.abs(self._scaled(matrix) - 0.5)
        return np.argsort(-np.nan_to_num(far, nan=-1.0), axis=0, kind="stable")[:FEATURES_NAMED_MAX]

    def _scaled(self, matrix: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            scaled: FloatArray = (matrix - self._lows) / self._ranges
        return scaled

    def capture(self) -> State:
        return capture(self._subject)

    def reinstate(self, state: State) -> None:
        reinstate(self._subject, state)

    @property
    def nbytes(self) -> int:
        return int(self.capture()["masses"].nbytes)
