"""Rows that look unlike normal data, by whatever scorer the stream's bundle holds."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.detectors.base import DetectorConfig, Reference, Remembers, State
from streamd.detectors.histogram import Histogram
from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.detectors.worst import Judgements, WorstRows, value_of
from streamd.model import FeatureBatch, Kind, Reading, RowFinding, Verdict
from streamd.scorers.base import Scorer, Scores
from streamd.scorers.confidence import confidences
from streamd.scorers.fitted import Fitted, from_bytes
from streamd.scorers.registry import Device, load
from streamd.scorers.spot import Spot
from streamd.table import FloatArray, Table

SCORE = "anomaly_score"
FEATURES_NAMED_MAX = 3  # in the sentence and with each named row


class ScorerConfig(DetectorConfig):
    """The score that a fitted model gives each row: reconstruction error, distance, isolation, yours.

    It comes from the bundle that `reference.bundle` names, and is there by itself where that has one. The scores of
    a window are compared, by Kolmogorov–Smirnov, with those of rows that were held out when the model was fitted.
    """

    type: Literal["scorer"] = "scorer"
    from_bundle: ClassVar[bool] = True
    judges: ClassVar[int] = 1

    judge: TwoSampleSettings = TwoSampleSettings()
    """How a window's scores are compared with the held-out ones."""

    device: Device = "auto"
    """Where rows are scored: `auto` is CUDA where there is one."""

    worst_rows: int = Field(default=5, ge=0, le=100)
    """Rows of highest score that are named."""

    def profile(self, reference: Reference, weights: bytes | None) -> ScorerProfile | None:
        """None where the bundle has no scorer.

        Raises:
            ValueError: bytes that are none, or a scorer that this version does not know.
        """
        return None if weights is None else ScorerProfile.of(weights, self.judge, self.device)

    def build(self, name: str, profile: ScorerProfile | None) -> ScorerDetector:
        return ScorerDetector(name, self.worst_rows, profile)


@dataclass(frozen=True, eq=False)
class ScorerProfile:
    """A fitted scorer on its device, and its held-out scores, prepared."""

    judge: TwoSampleProfile
    scorer: Scorer
    fitted: Fitted
    sha256: str

    @classmethod
    def of(cls, weights: bytes, judge: TwoSampleSettings, device: Device) -> ScorerProfile:
        fitted = from_bytes(weights)
        profile = TwoSampleProfile((SCORE,), fitted.calibration[None, :], judge)
        return cls(profile, load(fitted, device), fitted, hashlib.sha256(weights).hexdigest())


class ScorerDetector:
    """The scores of one stream. See ScorerConfig. A row all of whose columns are missing has none."""

    def __init__(self, name: str, worst_rows: int, profile: ScorerProfile | None) -> None:
        self.name = name
        self.profile = profile
        self.worst = WorstRows(worst_rows)
        self.tally = Tally()
        self.spot: Spot | None = None
        if profile is not None:
            spot = profile.fitted.spot
            self.spot = spot and Spot(profile.fitted.calibration, spot.rate, spot.depth_rows)
            settings = profile.judge.settings
            self.judge = TwoSampleJudge(name, Kind.FEATURES, profile.judge)
            self.judgements = Judgements(settings.window_rows, settings.stride_rows)

    # --- Judge, then learn ---

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        if self.profile is None or not batch.table.rows or not _known(self.profile.scorer.features, batch.table):
            return ()
        scores = self.profile.scorer.score(batch.table)
        findings = self._count(self.profile, batch, scores)
        verdicts = self.judge.update(scores.values[None, :], batch.offset)
        return tuple(self._explained(verdict, *found) for verdict, found in zip(verdicts, findings, strict=True))

    def _count(
        self, profile: ScorerProfile, batch: FeatureBatch, scores: Scores
    ) -> list[tuple[Tally, tuple[RowFinding, ...]]]:
        """Sum up what the judge's windows rest on: for each that ends in this batch its tally and worst rows."""
        sure = None if batch.table.predictions is None else confidences(batch.table.predictions)

        def describe(rows: NDArray[np.int64]) -> list[dict[str, Any]]:
            return [
                {**found, "confidence": None if sure is None or np.isnan(sure[row]) else float(sure[row])}
                for row, found in zip(rows.tolist(), _described(profile.scorer, scores, rows, batch.table), strict=True)
            ]

        over = scores.values > profile.fitted.row_threshold if self.spot is None else self.spot.judge(scores.values)[0]
        ended, start = [], 0
        for end in [*self.judgements.cuts(len(scores.values)), None]:
            stop = len(scores.values) if end is None else end
            part = slice(start, stop)
            self.tally.add(scores.values[part], over[part], None if sure is None else sure[part])
            self.worst.offer(scores.values[part], batch, start, describe)
            if end is not None:
                ended.append((self.tally, self.worst.take()))
                self.tally = Tally()
                start = end
        return ended

    def _explained(self, verdict: Verdict, tally: Tally, rows: tuple[RowFinding, ...]) -> Verdict:
        """The verdict with how many rows stand out, which, what moved them, and by whose weights."""
        assert self.profile is not None
        finding = verdict.finding.replace(f"{SCORE} drifted up", "anomaly score rose", 1)
        finding = finding.replace(f"{SCORE} drifted down", "anomaly score fell", 1)
        finding = finding.replace(f"{SCORE} changed", "anomaly score changed its distribution", 1)
        if finding != verdict.finding and (names := _most_in(rows)):
            finding += f"; most in {', '.join(names)}"
        if tally.over:
            finding += f"; {tally.over} of {tally.rows} rows over the row threshold{tally.in_confidence()}"
        return dataclasses.replace(verdict, finding=finding, rows=rows, model_sha256=self.profile.sha256)

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        return self.judge.readings() if self.profile is not None else ()

    def histogram(self, column: str) -> Histogram | None:
        return self.judge.histogram(column) if self.profile is not None else None

    # --- State ---

    def snapshot(self) -> State:
        if self.profile is None:
            return {}
        return {
            "judge": self.judge.snapshot(),
            "worst": self.worst.snapshot(),
            "judgements": self.judgements.snapshot(),
            "tally": self.tally.snapshot(),
            "spot": self.spot and self.spot.snapshot(),
        }

    def restore(self, state: State) -> None:
        if self.profile is None:
            return
        self.judge.restore(state["judge"])
        self.worst.restore(state["worst"])
        self.judgements.restore(state["judgements"])
        self.tally.restore(state["tally"])
        if self.spot is not None:
            self.spot.restore(state["spot"])

    @property
    def nbytes(self) -> int:
        if self.profile is None:
            return 0
        spot = self.spot.nbytes if self.spot is not None else 0
        return spot + self.judge.nbytes + self.worst.nbytes + self.judgements.nbytes + self.tally.nbytes


class Tally(Remembers):
    """What rows since the last judgement add up to.

    Attributes:
        rows: rows with a score.
        over: rows over the row threshold.
        sure_over, sure_rest: the sums of the model's confidence on these and on the others, where it is known;
        counted_over, counted_rest: of how many rows.
    """

    remembered: ClassVar[tuple[str, ...]] = ("rows", "over", "sure_over", "sure_rest", "counted_over", "counted_rest")

    def __init__(self) -> None:
        self.rows = self.over = self.counted_over = self.counted_rest = 0
        self.sure_over = self.sure_rest = 0.0

    def add(self, scores: FloatArray, over: NDArray[np.bool_], sure: FloatArray | None) -> None:
        """Add rows, all (rows,): a score of NaN is none; `sure` is the model's confidence, None: it said nothing."""
        self.rows += int(np.count_nonzero(~np.isnan(scores)))
        self.over += int(np.count_nonzero(over))
        if sure is None:
            return
        known = ~np.isnan(sure)
        self.counted_over += int(np.count_nonzero(over & known))
        self.counted_rest += int(np.count_nonzero(~over & known))
        self.sure_over += float(sure[over & known].sum())
        self.sure_rest += float(sure[~over & known].sum())

    def in_confidence(self) -> str:
        """What the model thought of the rows over the threshold, against the rest; nothing where it is not known."""
        if not self.counted_over or not self.counted_rest:
            return ""
        over, rest = self.sure_over / self.counted_over, self.sure_rest / self.counted_rest
        return f", on which the model's confidence is {over:.2f} (else {rest:.2f})"


def _known(features: tuple[str, ...], table: Table) -> bool:
    """Whether the batch has any column that the scorer reads: of predictions alone there is no score."""
    return any(n in table.numeric or n in table.categorical or n in table.arrays for n in features)


def _described(scorer: Scorer, scores: Scores, rows: NDArray[np.int64], table: Table) -> list[dict[str, Any]]:
    """Of each row the features that add most to its score: their values, and their shares of what all add."""
    if not len(rows):
        return []
    parts = scores.explain(rows)  # (features, len(rows))
    named = np.argsort(-parts, axis=0, kind="stable")[:FEATURES_NAMED_MAX]
    totals = np.abs(parts).sum(axis=0)
    found = []
    for k, row in enumerate(rows.tolist()):
        indices = [i for i in named[:, k].tolist() if parts[i, k] > 0] or named[:1, k].tolist()
        shares = {scorer.features[i]: float(parts[i, k] / totals[k]) if totals[k] else 0.0 for i in indices}
        found.append({"features": {n: value_of(table, n, row) for n in shares}, "contributions": shares})
    return found


def _most_in(rows: tuple[RowFinding, ...]) -> list[str]:
    """The features that add most to the scores of the worst rows, largest first."""
    sums: dict[str, float] = {}
    for row in rows:
        for name, share in (row.contributions or {}).items():
            sums[name] = sums.get(name, 0.0) + share
    return sorted(sums, key=lambda name: -sums[name])[:FEATURES_NAMED_MAX]
