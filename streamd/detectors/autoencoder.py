"""Rows that look unlike the reference: the reconstruction error of a small network fitted to it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from streamd.detectors.base import DetectorConfig, Reference, Seasonal
from streamd.detectors.judge import TwoSampleSettings
from streamd.detectors.scorer import ScorerDetector, ScorerProfile
from streamd.scorers.fitted import from_bytes
from streamd.scorers.registry import Device


class AutoencoderConfig(DetectorConfig):
    """The mean squared error with which a dense autoencoder, fitted to the reference, reconstructs each row.

    It sees what no column shows alone: combinations that the reference does not have. Its errors over a window
    are compared, by Kolmogorov–Smirnov, with those of reference rows that were held out from the fit.
    """

    type: Literal["autoencoder"] = "autoencoder"
    needs_fit: ClassVar[bool] = True
    judges: ClassVar[int] = 1
    seasonal: ClassVar[Seasonal] = "phases"

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

    def profile(self, reference: Reference, weights: bytes | None) -> ScorerProfile | None:
        """None where the fit found nothing to learn from.

        Raises:
            ValueError: no weights, or bytes that are none.
        """
        if weights is None:
            raise ValueError("an autoencoder has no profile without weights: run streamd.fitting.fit first")
        return ScorerProfile.of(weights, "reconstruction_error", self.judge, self.device, reference)

    def about(self, weights: bytes) -> str:
        return from_bytes(weights).note

    def build(self, name: str, profile: ScorerProfile | None) -> ScorerDetector:
        return ScorerDetector(name, self.worst_rows, profile)
