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
from streamd.seasons import ByPhase
from streamd.table import FloatArray, Table

FEATURES_NAMED_MAX = 3  # in the sentence and with each named row
NOTHING = np.empty(0)
ROWS_EXPLAINED = 64  # between two judgements, evenly spaced: where a window alarms they name what all its rows name


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
        return (
            None if weights is None else ScorerProfile.of(weights, "anomaly_score", self.judge, self.device, reference)
        )

    def build(self, name: str, profile: ScorerProfile | None) -> ScorerDetector:
        return ScorerDetector(name, self.worst_rows, profile)


@dataclass(frozen=True, eq=False)
class ScorerProfile:
    """A fitted scorer on its device, and its held-out scores, prepared.

    Attributes:
        season: makes scores those of an average time; None: there is no season, or nobody knows when the held-out rows
            were.
    """

    judge: TwoSampleProfile
    scorer: Scorer
    fitted: Fitted
    sha256: str
    season: ByPhase | None = None

    @classmethod
    def of(
        cls, weights: bytes, score: str, judge: TwoSampleSettings, device: Device, reference: Reference
    ) -> ScorerProfile | None:
        """From the bytes of a fit, whose scores are called `score`; None where nothing could be learned.

        Raises:
            ValueError: bytes that are none, or a scorer that this version does not know.
        """
        fitted = from_bytes(weights)
        if fitted.empty:
            return None
        scores, season = fitted.calibration, None
        if reference.phases is not None and reference.phase_rows is not None and fitted.places is not None:
            phases = reference.phases[fitted.places]
            season = ByPhase(scores, phases, len(reference.phase_rows))
            scores = season.told(scores, phases)
        profile = TwoSampleProfile((score,), scores[None, :], judge, None if season is None else season.rows)
        return cls(profile, load(fitted, device), fitted, hashlib.sha256(weights).hexdigest(), season)


class ScorerDetector:
    """The scores of one stream. See ScorerConfig and AutoencoderConfig.

    A row all of whose columns are missing has none. Columns that the scorer does not know are not looked at.
    """

    def __init__(self, name: str, worst_rows: int, profile: ScorerProfile | None) -> None:
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        self._kernels = kernels
        self.name = name
        self.profile = profile
        self.spot: Spot | None = None
        if profile is None:
            return
        settings, spot = profile.judge.settings, profile.fitted.spot
        self.judge = TwoSampleJudge(name, Kind.FEATURES, profile.judge)
        self.judgements = Judgements(settings.window_rows, settings.stride_rows)
        self.worst = WorstRows(worst_rows)
        self.tally = self._new_tally(profile)
        if spot is not None:
            self.spot = Spot(profile.fitted.calibration, spot.rate, spot.depth_rows)

    def _new_tally(self, profile: ScorerProfile) -> Tally:
        return Tally(len(profile.scorer.features), max(1, self.judgements.stride // ROWS_EXPLAINED))

    # --- Judge, then learn ---

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        profile = self.profile
        if profile is None or not batch.table.rows or not _known(profile.scorer.features, batch.table):
            return ()
        scores = profile.scorer.score(batch.table)
        if profile.season is not None and batch.phase is not None:
            scores.values = profile.season(scores.values, batch.phase, batch.offset)
        findings = self._count(profile, batch, scores)
        verdicts = self.judge.update(scores.values[None, :], batch.offset, batch.phase)
        return tuple(_explained(profile, verdict, *found) for verdict, found in zip(verdicts, findings, strict=True))

    def _count(
        self, profile: ScorerProfile, batch: FeatureBatch, scores: Scores
    ) -> list[tuple[Tally, tuple[RowFinding, ...]]]:
        """Sum up what the judge's windows rest on: for each that ends in this batch its tally and worst rows."""
        values, predictions = scores.values, batch.table.predictions
        over = values > profile.fitted.row_threshold if self.spot is None else self.spot.judge(values)[0]
        sure = NOTHING if predictions is None else confidences(predictions)
        ended, start = [], 0
        for end in self.judgements.cuts(len(values)):
            self._add(batch, scores, over, sure, start, end)
            ended.append((self.tally, self.worst.take()))
            self.tally = self._new_tally(profile)
            start = end
        self._add(batch, scores, over, sure, start, len(values))
        return ended

    def _add(
        self, batch: FeatureBatch, scores: Scores, over: NDArray[np.bool_], sure: FloatArray, start: int, stop: int
    ) -> None:
        """Count the rows from `start` to `stop`, keep the worst of them, and ask of these and of a few more why."""
        assert self.profile is not None
        values = scores.values[start:stop]
        few = self.tally.add(values, over[start:stop], sure[start:stop])
        worst = self.worst.highest(values)
        if not len(few) and not len(worst):
            return
        rows = np.concatenate((few, worst))
        rows += start
        parts = np.ascontiguousarray(scores.explain(rows))  # (features, rows)
        self.tally.explain(parts, len(few))
        if len(worst):
            rows = rows[len(few) :]
            self.worst.keep(batch, rows, values[worst], self._described(parts, len(few), rows, batch.table, sure))

    def _described(
        self, parts: FloatArray, first: int, rows: NDArray[np.int64], table: Table, sure: FloatArray
    ) -> list[dict[str, Any]]:
        """Of each row the features that add most to its score, their values, and their shares of what all add: `parts`
        is (features, rows), from `first` on. And the model's confidence, empty where the model said nothing."""
        assert self.profile is not None
        features = self.profile.scorer.features
        named = np.zeros((len(rows), min(FEATURES_NAMED_MAX, len(features))), np.int64)
        shares = np.empty(named.shape)
        self._kernels.largest_shares(parts, first, named, shares)
        found = []
        for row, indices, adding in zip(rows.tolist(), named.tolist(), shares.tolist(), strict=True):
            some = zip(indices, adding, strict=True)
            contributions = {features[i]: share for i, share in some if share > 0 or i == indices[0]}
            values = {name: value_of(table, name, row) for name in contributions}
            confidence = float(sure[row]) if len(sure) and sure[row] == sure[row] else None  # NaN alone is not itself
            found.append({"features": values, "contributions": contributions, "confidence": confidence})
        return found

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        return self.judge.readings() if self.profile is not None else ()

    def histogram(self, column: str) -> Histogram | None:
        return self.judge.histogram(column) if self.profile is not None else None

    # --- State ---

    @property
    def _parts(self) -> dict[str, TwoSampleJudge | Remembers | Spot]:
        """What remembers."""
        if self.profile is None:
            return {}
        spot = {} if self.spot is None else {"spot": self.spot}
        return {"judge": self.judge, "worst": self.worst, "judgements": self.judgements, "tally": self.tally, **spot}

    def snapshot(self) -> State:
        return {name: part.snapshot() for name, part in self._parts.items()}

    def restore(self, state: State) -> None:
        for name, part in self._parts.items():
            part.restore(state[name])

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self._parts.values())


class Tally(Remembers):
    """What rows since the last judgement add up to.

    Args:
        features: how many the scorer reads.
        every: which rows are asked why: each so manieth, however they are divided into batches.

    Attributes:
        counts, sure: see kernels.tally.
        explained: rows that were asked why.
        shares: (features,) the sums of what each adds to their scores, as shares of what all add.
    """

    remembered: ClassVar[tuple[str, ...]] = ("counts", "sure", "explained", "shares")

    def __init__(self, features: int, every: int) -> None:
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        self._kernels = kernels
        self._every = every
        self.counts, self.sure, self.shares = np.zeros(5, np.int64), np.zeros(2), np.zeros(features)
        self.explained = 0

    def add(self, scores: FloatArray, over: NDArray[np.bool_], sure: FloatArray) -> NDArray[np.int64]:
        """Add rows, all (rows,); `sure` is empty where the model said nothing. Returns the places to `explain`."""
        chosen = np.empty(len(scores) // self._every + 1, np.int64)
        return chosen[: self._kernels.tally(scores, over, sure, self._every, self.counts, self.sure, chosen)]

    def explain(self, parts: FloatArray, count: int) -> None:
        """Add the first `count` rows of `parts` (features, rows): see Scores.explain."""
        self.explained += self._kernels.add_shares(parts, count, self.shares)

    def most_in(self, features: tuple[str, ...], usual: FloatArray | None) -> list[str]:
        """The features whose share grew most against what is `usual`, largest first."""
        grown = self.shares / max(1, self.explained) - (0.0 if usual is None else usual)
        largest = np.argsort(-grown, kind="stable")[:FEATURES_NAMED_MAX]
        return [features[i] for i in largest if grown[i] > 0]

    def over(self) -> str:
        """How many rows stand out, and what the model thought of them against the rest where that is known."""
        _, scored, over, *known = self.counts.tolist()
        if not over:
            return ""
        said = f"; {over} of {scored} rows over the row threshold"
        if not all(known):
            return said
        rest, there = (self.sure / known).tolist()
        return f"{said}, on which the model's confidence is {there:.2f} (else {rest:.2f})"


def _explained(profile: ScorerProfile, verdict: Verdict, tally: Tally, rows: tuple[RowFinding, ...]) -> Verdict:
    """The verdict with what moved most, how many rows stand out, which, and by whose weights."""
    (score,), (direction,) = verdict.columns, verdict.directions
    finding = verdict.finding
    for word, moved in (("drifted up", "rose"), ("drifted down", "fell"), ("changed", "changed its distribution")):
        finding = finding.replace(f"{score} {word}", f"{score.replace('_', ' ')} {moved}", 1)
    if finding != verdict.finding and direction != "down":  # where all is more normal than ever, nothing is to blame
        names = tally.most_in(profile.scorer.features, profile.fitted.usual)
        finding += f"; most in {', '.join(names)}" if names else ""
    return dataclasses.replace(verdict, finding=finding + tally.over(), rows=rows, model_sha256=profile.sha256)


def _known(features: tuple[str, ...], table: Table) -> bool:
    """Whether the batch has any column that the scorer reads: of predictions alone there is no score."""
    return any(n in table.numeric or n in table.categorical or n in table.arrays for n in features)
