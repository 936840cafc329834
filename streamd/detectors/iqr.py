"""The share of rows outside the quartile fences of the reference."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.detectors.base import Detector, DetectorConfig, Reference, Remembers, Seasonal
from streamd.detectors.corrections import Correction, adjust
from streamd.detectors.dependence import autocorrelation_times, centred_ranks
from streamd.detectors.shares import DOUBT, at_least, largest_shares
from streamd.detectors.window import kept_places
from streamd.detectors.wording import drifted
from streamd.model import Direction, FeatureBatch, Kind, Verdict, Window
from streamd.table import PHASE_ROWS_MIN, FloatArray

BELOW, INSIDE, ABOVE, MISSING = -1, 0, 1, 2
PRESENT_MIN = 4  # quartiles of fewer values are the values themselves


class IqrConfig(DetectorConfig):
    """Options of `iqr`.

    >>> import numpy as np
    >>> from streamd.table import Table
    >>> rng = np.random.default_rng(0)
    >>> config = IqrConfig()
    >>> profile = config.profile(Reference(Table(2000, {"amount": rng.normal(size=2000)}), "", "batches"), None)
    >>> detector = config.build("iqr", profile)
    >>> wider = FeatureBatch("fraud/7", 0, 0, Table(1000, {"amount": rng.normal(scale=2.0, size=1000)}))
    >>> [verdict] = detector.update(wider)
    >>> verdict.finding
    'amount changed (share outside=0.17, p=1e-10 over 1000 rows)'
    """

    type: Literal["iqr"] = "iqr"
    judges: ClassVar[int] = 1
    seasonal: ClassVar[Seasonal] = "values"

    window_rows: int = Field(default=1000, ge=10)
    """Rows of one window. Windows do not overlap, since overlapping looks multiply false alarms."""

    fence: float = Field(default=1.5, gt=0)
    """Fences lie this many interquartile ranges beyond the quartiles. 1.5 is Tukey's; 0.7 % of a normal column
    lie outside."""

    effect_threshold: float = Field(default=2.0, ge=0)
    """The share must be more than this many times the reference's: doubled, by default."""

    share_min: float = Field(default=0.01, gt=0, le=1)
    """A reference's share counts for at least this in that ratio. Otherwise a column of which one row in 10,000
    lies outside would page for three: to matter, the share must also rise by one row in a hundred."""

    correction: Correction = "bonferroni"
    """How p-values are adjusted for the number of columns."""

    dependence: Literal["autocorrelation", "none"] = "autocorrelation"
    """`autocorrelation` counts n/τ rows, since rows outside come in clusters; `none` is the textbook test."""

    def profile(self, reference: Reference, weights: bytes | None) -> IqrProfile:
        names, fences, counts, rows, times = [], [], [], [], []
        for name, column in reference.table.numeric.items():
            present = np.count_nonzero(~np.isnan(column))
            if present < PRESENT_MIN:
                continue
            finite = np.clip(column, -np.finfo(np.float64).max / 4, np.finfo(np.float64).max / 4)
            lower, upper = np.nanquantile(finite, [0.25, 0.75])
            reach = self.fence * (upper - lower)
            sides = _sides(column[None], np.array([[lower - reach, upper + reach]]))
            names.append(name)
            fences.append([lower - reach, upper + reach])
            counts.append(np.count_nonzero(np.abs(sides) == ABOVE))
            rows.append(present)
            times.append(_times(sides)[0] if self.dependence == "autocorrelation" else 1.0)
        counted, of, tau = np.array(counts, np.float64), np.array(rows, np.float64), np.array(times)
        doubt = DOUBT / max(len(names), 1)
        known = 1.0
        if reference.phase_rows is not None:  # a window may lie in the phase whose tails are known from the fewest rows
            judged = reference.phase_rows[reference.phase_rows >= PHASE_ROWS_MIN]
            known = float(judged.min() / judged.sum()) if len(judged) else 1.0
        return IqrProfile(
            names=tuple(names),
            fences=np.array(fences).reshape(-1, 2),
            shares=counted / of,
            limits=largest_shares(known * counted / tau, known * of / tau, doubt),
            times=tau,
            doubt=doubt,
        )

    def build(self, name: str, profile: IqrProfile) -> Detector:
        return IqrDetector(name, self, profile)


@dataclass(frozen=True, eq=False)
class IqrProfile:
    """The reference's fences.

    Attributes:
        names: k columns with at least four values.
        fences: (k, 2) lower and upper.
        shares: (k,) of the reference's values that lie outside.
        limits: (k,) upper confidence limits of those shares, at 1 − doubt, from the effective sample size.
        times: (k,) τ of lying outside.
    """

    names: tuple[str, ...]
    fences: FloatArray
    shares: FloatArray
    limits: FloatArray
    times: FloatArray
    doubt: float


class IqrDetector(Remembers):
    """One stream's window. A row that is missing is in no share; an infinity lies outside."""

    remembered = ("_sides", "_held", "_first_offset")

    def __init__(self, name: str, config: IqrConfig, profile: IqrProfile) -> None:
        self._name = name
        self._config = config
        self._profile = profile
        self._sides: NDArray[np.int8] = np.zeros((len(profile.names), config.window_rows), np.int8)
        self._held = 0
        self._first_offset = 0

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """A Verdict for every window that the batch completes; nothing before."""
        if not self._profile.names:
            return ()
        sides = _sides(batch.table.matrix(self._profile.names), self._profile.fences)
        verdicts = []
        start, rows = 0, batch.table.rows
        while start < rows:
            if self._held == 0:
                self._first_offset = batch.offset
            taken = min(rows - start, self._config.window_rows - self._held)
            self._sides[:, self._held : self._held + taken] = sides[:, start : start + taken]
            self._held += taken
            start += taken
            if self._held == self._config.window_rows:
                verdicts.append(self._judge(batch.offset))
                self._held = 0
        return tuple(verdicts)

    def take_over(self, before: IqrDetector, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        self._sides[:] = MISSING
        for place, former in kept_places(self._profile.names, before._profile.names, columns).items():
            self._sides[place] = before._sides[former]
        self._held, self._first_offset = before._held, before._first_offset

    def _judge(self, offset: int) -> Verdict:
        config, profile = self._config, self._profile
        below = np.count_nonzero(self._sides == BELOW, axis=1)
        above = np.count_nonzero(self._sides == ABOVE, axis=1)
        outside = (below + above).astype(np.float64)
        present = np.count_nonzero(self._sides != MISSING, axis=1).astype(np.float64)
        judged = present > 0
        tau = profile.times
        if config.dependence == "autocorrelation":
            tau = np.maximum(tau, _times(self._sides))
        shares = np.divide(outside, present, out=np.full(len(tau), np.nan), where=judged)
        p_values = np.where(judged, at_least(outside / tau, present / tau, profile.limits, profile.doubt), np.nan)
        # share / reference's share, where that is at least share_min; else 1 + the rise in units of share_min
        effects = np.maximum(1.0 + (shares - profile.shares) / np.maximum(profile.shares, config.share_min), 0.0)
        adjusted = adjust(p_values, config.correction)
        directions: tuple[Direction, ...] = tuple(
            "up" if a > 2 * b else "down" if b > 2 * a else "changed"
            for a, b in zip(above.tolist(), below.tolist(), strict=True)
        )
        rows = config.window_rows
        return Verdict(
            detector=self._name,
            test="binomial",
            kind=Kind.FEATURES,
            columns=profile.names,
            statistics=shares,
            p_values=p_values,
            adjusted=adjusted,
            effects=effects,
            effect_name="share_ratio",
            effect_threshold=config.effect_threshold,
            directions=directions,
            window=Window(self._first_offset, offset, rows),
            finding=drifted(
                profile.names,
                shares,
                adjusted,
                effects,
                config.effect_threshold,
                directions,
                "share outside",
                rows,
            ),
        )


def _sides(matrix: FloatArray, fences: FloatArray) -> NDArray[np.int8]:
    """Where each value of (columns, rows) lies: BELOW, INSIDE or ABOVE its column's fences, or MISSING."""
    sides = (matrix > fences[:, 1:]).astype(np.int8) - (matrix < fences[:, :1]).astype(np.int8)
    sides[np.isnan(matrix)] = MISSING
    return sides


def _times(sides: NDArray[np.int8]) -> FloatArray:
    """τ of lying outside, (columns,)."""
    outside = np.where(sides == MISSING, np.nan, np.abs(sides))
    return autocorrelation_times(np.stack([centred_ranks(column) for column in outside]))
