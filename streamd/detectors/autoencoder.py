"""Rows that look unlike the reference: the reconstruction error of a small network fitted to it."""

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
from streamd.scorers.bundle import Bundle, from_bytes
from streamd.scorers.dense import DenseAutoencoder, Device
from streamd.scorers.transform import Inputs, Transform
from streamd.table import FloatArray

SCORE = "reconstruction_error"
FEATURES_NAMED_MAX = 3  # in the sentence and with each named row


class AutoencoderConfig(DetectorConfig):
    """The mean squared error with which a dense autoencoder, fitted to the reference, reconstructs each row.

    It sees what no column shows alone: combinations that the reference does not have. Its errors over a window
    are compared, by Kolmogorov–Smirnov, with those of reference rows that were held out from the fit.
    """

    type: Literal["autoencoder"] = "autoencoder"
    needs_fit: ClassVar[bool] = True
    judges: ClassVar[int] = 1

    judge: TwoSampleSettings = TwoSampleSettings()
    """How a window's errors are compared with the reference's."""

    device: Device = "auto"
    """Where rows are scored: `auto` is CUDA where there is one. Fitting is done on the processor."""

    hidden: tuple[int, ...] = Field(default=(32, 16, 8), min_length=1, max_length=8)
    """Units of the encoder's layers, at most; the decoder mirrors them. The i-th has ⌈inputs / 2ⁱ⌉ at most."""

    bound: float = Field(default=10.0, gt=0)
    """Standard deviations that an input is clipped to, so that one infinite value does not hide all others."""

    categories_max: int = Field(default=20, ge=1)
    """Commonest categories of a column that get an input of their own."""

    inputs_max: int = Field(default=1024, ge=1)
    """With more inputs than this nothing is fitted: it would take minutes."""

    fit_rows_min: int = Field(default=200, ge=40)
    """With fewer rows nothing is fitted: half are held out, and of fewer the errors' distribution is not known."""

    fit_effective_rows_min: int = Field(default=50, ge=1)
    """With fewer independent rows (rows over their autocorrelation time) nothing is fitted: what a network learns
    from so few is the past it saw, and what comes next looks like drift. 2000 rows of an AR(1) with 0.97 are 31."""

    fit_rows_max: int = Field(default=10_000, ge=40)
    """Rows of a long reference that are used, evenly from all of it: more find the census event no better."""

    batch_rows: int = Field(default=128, ge=1)
    """Rows of one step of the optimiser."""

    learning_rate: float = Field(default=0.001, gt=0)
    """Of Adam: its authors' own. At 0.003 the census event stands out by less (D 0.24 in place of 0.36)."""

    epochs_max: int = Field(default=200, ge=1)
    """Passes over the rows at most; most fits stop before."""

    steps_max: int = Field(default=1500, ge=1)
    """Steps of the optimiser at most: about a second on one core, for which the partition waits."""

    patience_epochs: int = Field(default=10, ge=1)
    """Passes that bring nothing better before the fit stops."""

    row_quantile: float = Field(default=0.95, gt=0, lt=1)
    """A row stands out when its error is over this quantile of the held-out errors."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the first weights and the order of the rows."""

    worst_rows: int = Field(default=5, ge=0, le=100)
    """Rows of largest error that are named."""

    def profile(self, reference: Reference, weights: bytes | None) -> AutoencoderProfile | None:
        """None where the fit found nothing to learn from.

        Raises:
            ValueError: no weights, or bytes that are none.
        """
        if weights is None:
            raise ValueError("an autoencoder has no profile without weights: run streamd.fitting.fit first")
        bundle = from_bytes(weights)
        if not bundle.fitted:
            return None
        judge = TwoSampleProfile((SCORE,), bundle.errors[None, :], self.judge)
        network = DenseAutoencoder(bundle.layers, self.device)
        return AutoencoderProfile(judge, network, bundle, hashlib.sha256(weights).hexdigest())

    def about(self, weights: bytes) -> str:
        return from_bytes(weights).note

    def build(self, name: str, profile: AutoencoderProfile | None) -> AutoencoderDetector:
        return AutoencoderDetector(name, self, profile)


@dataclass(frozen=True, eq=False)
class AutoencoderProfile:
    """The fitted network on its device, and the held-out errors of the reference, prepared."""

    judge: TwoSampleProfile
    network: DenseAutoencoder
    bundle: Bundle
    sha256: str

    @property
    def transform(self) -> Transform:
        return self.bundle.transform


class AutoencoderDetector:
    """The reconstruction errors of one stream. See AutoencoderConfig.

    A row all of whose columns are missing has no error. Columns that the network does not know are not looked at.
    """

    def __init__(self, name: str, config: AutoencoderConfig, profile: AutoencoderProfile | None) -> None:
        from streamd.scorers import kernels  # numba, which the command line need not wait for

        self.name = name
        self.config = config
        self.profile = profile
        self.worst = WorstRows(config.worst_rows)
        self.judgements = Judgements(config.judge.window_rows, config.judge.stride_rows)
        self.tally = Tally(profile.transform.inputs if profile is not None else 0)
        if profile is not None:
            self.judge = TwoSampleJudge(name, Kind.FEATURES, profile.judge)
            self._starts = profile.transform.starts
            self._kernels = kernels

    # --- Judge, then learn ---

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        profile, table = self.profile, batch.table
        if profile is None or not table.rows:
            return ()
        inputs = profile.transform(table)
        unknown = profile.transform.unknown_rows(table)
        if unknown is not None and unknown.all():
            return ()
        squared, errors = profile.network.errors(inputs)
        if unknown is not None:
            squared[:, unknown] = 0.0
            errors[unknown] = np.nan
        findings = self._count(profile, batch, squared, errors)
        verdicts = self.judge.update(errors[None, :], batch.offset)
        return tuple(self._explained(verdict, *found) for verdict, found in zip(verdicts, findings, strict=True))

    def _count(
        self, profile: AutoencoderProfile, batch: FeatureBatch, squared: Inputs, errors: FloatArray
    ) -> list[tuple[Tally, tuple[RowFinding, ...]]]:
        """Sum up what the judge's windows rest on: for each that ends in this batch its tally and worst rows."""

        features = profile.transform.features

        def describe(rows: NDArray[np.int64]) -> list[dict[str, Any]]:
            named = np.zeros((len(rows), min(FEATURES_NAMED_MAX, len(features))), np.int64)
            self._kernels.largest_features(squared, self._starts, rows, named)
            return [
                {"features": {features[i]: value_of(batch.table, features[i], row) for i in indices}}
                for row, indices in zip(rows.tolist(), named.tolist(), strict=True)
            ]

        ended = []
        start = 0
        for end in [*self.judgements.cuts(len(errors)), None]:
            stop = len(errors) if end is None else end
            self.tally.add(squared, errors, start, stop, profile.bundle.row_threshold)
            self.worst.offer(errors[start:stop], batch, start, describe)
            if end is not None:
                ended.append((self.tally, self.worst.take()))
                self.tally = Tally(profile.transform.inputs)
                start = end
        return ended

    def _explained(self, verdict: Verdict, tally: Tally, rows: tuple[RowFinding, ...]) -> Verdict:
        """The verdict with what moved most, how many rows stand out, which, and by whose weights."""
        assert self.profile is not None
        moved = {"up": "rose", "down": "fell", "changed": "changed its distribution"}
        finding = verdict.finding
        for word, direction in (("drifted up", "up"), ("drifted down", "down"), ("changed", "changed")):
            finding = finding.replace(f"{SCORE} {word}", f"reconstruction error {moved[direction]}", 1)
        if finding != verdict.finding and (names := self._most_in(self.profile, tally)):
            finding += f"; most in {', '.join(names)}"
        if tally.over:
            finding += f"; {tally.over} of {tally.rows} rows over the row threshold"
        return dataclasses.replace(verdict, finding=finding, rows=rows, model_sha256=self.profile.sha256)

    def _most_in(self, profile: AutoencoderProfile, tally: Tally) -> list[str]:
        """The columns whose share of the error grew most since the reference, largest first."""
        if not tally.rows:
            return []
        grown = np.add.reduceat(tally.sums / tally.rows - profile.bundle.input_errors, self._starts)
        worst = np.argsort(-grown, kind="stable")[:FEATURES_NAMED_MAX]
        return [profile.transform.features[i] for i in worst if grown[i] > 0]

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        return self.judge.readings() if self.profile is not None else ()

    def histogram(self, column: str) -> Histogram | None:
        return self.judge.histogram(column) if self.profile is not None else None

    # --- State ---

    def snapshot(self) -> State:
        return {
            "judge": self.judge.snapshot() if self.profile is not None else None,
            "worst": self.worst.snapshot(),
            "judgements": self.judgements.snapshot(),
            "tally": self.tally.snapshot(),
        }

    def restore(self, state: State) -> None:
        if self.profile is not None:
            self.judge.restore(state["judge"])
        self.worst.restore(state["worst"])
        self.judgements.restore(state["judgements"])
        self.tally.restore(state["tally"])

    @property
    def nbytes(self) -> int:
        judge = self.judge.nbytes if self.profile is not None else 0
        return judge + self.worst.nbytes + self.judgements.nbytes + self.tally.nbytes


class Tally(Remembers):
    """What rows since the last judgement add up to.

    Attributes:
        sums: (inputs,) squared errors.
        rows: rows with an error.
        over: rows over the row threshold.
    """

    remembered: ClassVar[tuple[str, ...]] = ("sums", "rows", "over")

    def __init__(self, inputs: int) -> None:
        self.sums = np.zeros(inputs)
        self.rows = 0
        self.over = 0

    def add(self, squared: Inputs, errors: FloatArray, start: int, stop: int, threshold: float) -> None:
        """Add rows `start` to `stop`: `squared` (inputs, rows), 0 where `errors` (rows,) is NaN."""
        from streamd.scorers import kernels

        rows, over = kernels.add_up(squared, errors, start, stop, threshold, self.sums)
        self.rows += rows
        self.over += over
