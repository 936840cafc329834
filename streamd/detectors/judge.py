"""The two-sample judge: a sliding window of one or more columns against a reference, by Kolmogorov–Smirnov.

`ks` puts features and predictions into it; `entropy` and `autoencoder` put the score of each row into it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.detectors.base import Remembers
from streamd.model import Kind, Outcome
from streamd.settings import Settings
from streamd.table import FloatArray


class TwoSampleSettings(Settings):
    """How a window is compared with the reference."""

    window_rows: int = Field(default=1000, ge=2)
    """Rows of one window. 1000 finds a shift of half a deviation in most windows."""

    stride_rows: int | None = Field(default=None, ge=1)
    """Rows between two judgements; None: the window, since overlapping looks multiply false alarms."""

    effect_threshold: float = Field(default=0.2, ge=0, le=1)
    """D must be greater than this to matter. Quiet windows of the census data stay under 0.08."""

    correction: Literal["bonferroni", "benjamini_hochberg"] = "bonferroni"
    """How p-values are adjusted for the number of columns."""

    dependence: Literal["autocorrelation", "none"] = "autocorrelation"
    """`autocorrelation` uses the effective sample size n/τ; `none` is the textbook test of scipy."""

    reference_rows_max: int = Field(default=2000, ge=2)
    """Rows of the reference that are kept, a seeded sample; τ is measured on all of them."""

    seed: int = 0
    """Of that sample."""


class TwoSampleProfile:
    """The reference, prepared: sorted, located, its τ known. Immutable, shared.

    Args:
        names: k column names.
        values: (k, rows) the reference in its own order; NaN is missing.
        settings: how to compare.
    """

    def __init__(self, names: tuple[str, ...], values: FloatArray, settings: TwoSampleSettings) -> None:
        raise NotImplementedError


class TwoSampleJudge(Remembers):
    """A window that slides over one stream.

    Args:
        detector: the configured name, for the verdicts.
        kind: what the columns are.
        profile: the prepared reference.
    """

    def __init__(self, detector: str, kind: Kind, profile: TwoSampleProfile) -> None:
        raise NotImplementedError

    def update(self, values: FloatArray, offset: int) -> list[Outcome]:
        """Push `values` (k, rows) of the record at `offset`.

        A Verdict for every stride that these rows complete (a batch may complete several or none), then one
        Reading of the sliding window. Nothing before the first window is full.
        """
        raise NotImplementedError
