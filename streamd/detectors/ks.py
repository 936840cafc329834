"""Kolmogorov–Smirnov drift of every numeric feature, and of every logit or probability column."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from streamd.detectors.base import Detector, DetectorConfig, Reference, Seasonal, State
from streamd.detectors.histogram import Histogram
from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.model import FeatureBatch, Kind, Reading, Verdict
from streamd.table import PredictionKind


class KsConfig(DetectorConfig, TwoSampleSettings):
    """Options of `ks`; the window and the test are described in `judge`.

    Features and predictions are judged apart, each with its own correction and its own verdict. One verdict
    per full window by default: windows that overlap share rows, so that looking more often multiplies the false
    alarms and adds few detections. The distance of the sliding window is read at every batch all the same.

    >>> import numpy as np
    >>> from streamd.table import Table
    >>> rng = np.random.default_rng(0)
    >>> reference = Table(5000, {"amount": rng.normal(size=5000), "age": rng.normal(size=5000)})
    >>> config = KsConfig()
    >>> detector = config.build("ks", config.profile(Reference(reference, reference.sha256(), "batches")))
    >>> shifted = Table(1000, {"amount": rng.normal(1.0, 1.0, 1000), "age": rng.normal(size=1000)})
    >>> (verdict,) = detector.update(FeatureBatch("fraud/7", 0, 12, shifted))
    >>> verdict.finding
    'amount drifted up (KS D=0.37, p=4e-78 over 1000 rows)'
    """

    type: Literal["ks"] = "ks"
    judges: ClassVar[int] = 2
    seasonal: ClassVar[Seasonal] = "values"

    columns: tuple[str, ...] = ("*",)
    """Which columns, by name or pattern (`amount`, `pixel*`, `logits*`): all by default."""

    def profile(self, reference: Reference, weights: bytes | None = None) -> KsProfile:
        table = reference.table
        names = tuple(name for name in table.numeric if self._selects(name))
        features = TwoSampleProfile(names, table.matrix(names), self, reference.phase_rows)
        classes = [i for i, name in enumerate(table.prediction_names()) if self._selects(name)]
        chosen = tuple(table.prediction_names()[i] for i in classes)
        predictions = TwoSampleProfile(chosen, table.prediction_matrix()[classes], self, reference.phase_rows)
        if table.predictions is None:
            return KsProfile(features, predictions, None, 0, ())
        shape = table.predictions.values.shape
        return KsProfile(features, predictions, table.predictions.kind, shape[1], tuple(classes))

    def build(self, name: str, profile: KsProfile) -> Detector:
        return KsDetector(name, profile)

    def _selects(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.columns)


@dataclass(frozen=True, eq=False)
class KsProfile:
    """The reference's columns, prepared.

    Attributes:
        features: its numeric columns that were chosen.
        predictions: its prediction columns that were chosen.
        prediction_kind: logits or probabilities; None without predictions.
        classes: how many prediction columns it had.
        chosen: which of them.
    """

    features: TwoSampleProfile
    predictions: TwoSampleProfile
    prediction_kind: PredictionKind | None
    classes: int
    chosen: tuple[int, ...]


class KsDetector:
    """Two judges on one stream. A batch without any of the features, or without predictions, leaves that one be."""

    def __init__(self, name: str, profile: KsProfile) -> None:
        self._profile = profile
        self._features = TwoSampleJudge(name, Kind.FEATURES, profile.features)
        self._predictions = TwoSampleJudge(name, Kind.PREDICTIONS, profile.predictions)

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """Judge every window that the batch completes; predictions of another kind or shape are not comparable."""
        table, profile = batch.table, self._profile
        verdicts: list[Verdict] = []
        names = profile.features.names
        if any(name in table.numeric for name in names):
            verdicts += self._features.update(table.matrix(names), batch.offset, batch.phase)
        predictions = table.predictions
        if (
            predictions is not None
            and profile.chosen
            and (predictions.kind, predictions.values.shape[1]) == (profile.prediction_kind, profile.classes)
        ):
            matrix = table.prediction_matrix()
            chosen = matrix if len(profile.chosen) == profile.classes else matrix[list(profile.chosen)]
            verdicts += self._predictions.update(chosen, batch.offset, batch.phase)
        return tuple(verdicts)

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        return self._features.readings() + self._predictions.readings()

    def histogram(self, column: str) -> Histogram | None:
        return self._features.histogram(column) or self._predictions.histogram(column)

    def take_over(self, before: KsDetector, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        self._features.take_over(before._features, columns)
        self._predictions.take_over(before._predictions, ())

    def snapshot(self) -> State:
        return {"features": self._features.snapshot(), "predictions": self._predictions.snapshot()}

    def restore(self, state: State) -> None:
        self._features.restore(state["features"])
        self._predictions.restore(state["predictions"])

    @property
    def nbytes(self) -> int:
        return self._features.nbytes + self._predictions.nbytes
