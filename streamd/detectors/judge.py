"""The two-sample judge: a sliding window of one or more columns against a reference, by Kolmogorov–Smirnov.

`ks` puts features and predictions into it; `entropy` and `autoencoder` put the score of each row into it.

    reference ──sorted once──▶ profile (shared): distinct values, cumulative counts, cells, τ
    rows ──bins (kernels)──▶ ring (columns, window) of bin numbers ──counted──▶ D, and ranks ──▶ τ ──▶ p

A stream keeps the ring and nothing else, two bytes a value: 64 KB for 32 columns and a window of 1,000.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.detectors.corrections import adjust
from streamd.detectors.dependence import SHORT_ROWS_MAX, autocorrelation_times, centred_ranks
from streamd.detectors.histogram import Histogram, of_numbers
from streamd.detectors.window import SlidingWindow, kept_places
from streamd.detectors.wording import drifted
from streamd.model import Direction, Kind, Reading, Verdict
from streamd.seasons import phase_doubt
from streamd.settings import Settings
from streamd.table import FloatArray

ROWS_MAX = 2**62  # no window is as long
ONE_SIDED = 2.0  # times: a shift moves the distribution function one way; a change of spread moves it both ways


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
        phase_rows: (phases,) rows of the reference in each phase of the season; None: there is none.

    Attributes:
        reference_rows: (k,) values that are not missing, in the whole reference.
        kept_rows: (k,) of them, how many are compared with.
        reference_times: (k,) τ of the whole reference; 1 with `dependence: none`.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        values: FloatArray,
        settings: TwoSampleSettings,
        phase_rows: NDArray[np.int64] | None = None,
    ) -> None:
        from streamd.detectors import cells, kernels  # numba costs more to import than most commands take

        assert values.shape[0] == len(names), (values.shape, len(names))
        self.names = names
        self.settings = settings
        self.phase_rows = phase_rows
        rows = values.shape[1]
        if rows > settings.reference_rows_max:
            chosen = np.random.default_rng(settings.seed).choice(rows, settings.reference_rows_max, replace=False)
            kept = values[:, np.sort(chosen)]
        else:
            kept = values
        counted = [np.unique(column[~np.isnan(column)] + 0.0, return_counts=True) for column in kept]
        distinct = [values for values, _ in counted]
        self.sizes = np.array([len(values) for values in distinct], np.int64)
        largest = max(2 * self.sizes.max(initial=0), kept.shape[1])
        self.bin_type = np.dtype(np.uint16 if largest < 2**16 - 1 else np.uint32)
        # Side by side, each followed by what is compared past its end: NaN, never below anything.
        tail = np.full(kernels.SCAN, np.nan)
        self.distinct = np.concatenate([np.empty(0), *(part for values in distinct for part in (values, tail))])
        self.upto = np.zeros(len(self.distinct), self.bin_type)
        self.starts = np.cumsum(self.sizes + kernels.SCAN) - (self.sizes + kernels.SCAN)
        for start, size, (_, rises) in zip(self.starts, self.sizes, counted, strict=True):
            self.upto[start : start + size] = np.cumsum(rises)
        self.kept_rows = np.array([rises.sum() for _, rises in counted], np.int64)
        self.maps, self.kinds, self.cells = cells.choose_cells(distinct, self.bin_type)
        self.reference_rows = np.count_nonzero(~np.isnan(values), axis=1)
        self.reference_times = np.ones(len(names))
        if settings.dependence == "autocorrelation":
            for i, column in enumerate(values):  # one at a time: a reference may be long
                self.reference_times[i : i + 1] = autocorrelation_times(centred_ranks(column)[None])

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


class TwoSampleJudge(SlidingWindow):
    """A window that slides over one stream.

    Args:
        detector: the configured name, for the verdicts.
        kind: what the columns are.
        profile: the prepared reference.

    >>> normal = np.random.default_rng(0).normal(size=(1, 2000))
    >>> profile = TwoSampleProfile(("amount",), normal, TwoSampleSettings())
    >>> judge = TwoSampleJudge("ks", Kind.FEATURES, profile)
    >>> judge.update(normal[:, :999], offset=0)
    []
    >>> (verdict,) = judge.update(normal[:, 999:1000] + 1, offset=1)
    >>> verdict.finding
    'no drift over 1000 rows (largest KS D=0.025 in amount)'
    >>> (verdict,) = judge.update(normal[:, :1000] + 1, offset=2)
    >>> verdict.finding
    'amount drifted up (KS D=0.39, p=5e-85 over 1000 rows)'
    """

    def __init__(self, detector: str, kind: Kind, profile: TwoSampleProfile) -> None:
        from streamd.detectors import kernels, kernels_compare

        settings = profile.settings
        phased = profile.phase_rows is not None
        super().__init__(
            len(profile.names), settings.window_rows, settings.stride_rows, profile.bin_type, phased=phased
        )
        self._kernels, self._kernels_compare = kernels, kernels_compare
        self._no_ranks = np.empty((len(profile.names), 0), np.int32)
        self._detector = detector
        self._kind = kind
        self._profile = profile

    def update(self, values: FloatArray, offset: int, phase: int | None = None) -> list[Verdict]:
        """Push `values` (k, rows) of the record at `offset`, which is in that phase of the season.

        A Verdict for every stride that these rows complete: a batch may complete several or none.
        """
        assert values.shape[0] == len(self._profile.names), (values.shape, len(self._profile.names))
        if values.size == 0:
            return []
        if not values.flags.carray:  # a view of a network buffer, perhaps at an odd address
            values = np.require(values, np.float64, ["C_CONTIGUOUS", "ALIGNED"])
        verdicts = []
        for start, stop, due in self.cuts(values.shape[1]):
            self._push(values, start, stop, offset, phase)
            if due:
                verdicts.append(self._verdict(offset))
        return verdicts

    def take_over(self, before: TwoSampleJudge, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        self.carry(before, kept_places(self._profile.names, before._profile.names, columns))

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        names = self._profile.names
        if not self.full or not names:
            return ()
        threshold = self._profile.settings.effect_threshold
        return (Reading(self._detector, names, self._compare(self._no_ranks)[1][0], threshold),)

    def histogram(self, column: str) -> Histogram | None:
        """See histogram.Pictured."""
        profile = self._profile
        if column not in profile.names:
            return None
        i = profile.names.index(column)
        own = slice(profile.starts[i], profile.starts[i] + profile.sizes[i])
        missing = np.iinfo(self.ring.dtype).max
        rises = np.diff(profile.upto[own], prepend=profile.upto.dtype.type(0))
        return of_numbers(column, profile.distinct[own], rises, self.filled[i], missing)

    def _push(self, values: FloatArray, start: int, stop: int, offset: int, phase: int | None) -> None:
        profile = self._profile
        first, place = self.claim(start, stop, offset, phase)
        self._kernels.push(
            values,
            first,
            stop,
            place,
            profile.distinct,
            profile.starts,
            profile.maps,
            profile.kinds,
            profile.cells,
            self.ring,
        )

    def _compare(self, ranks: NDArray[Any], rounded_beyond: int = ROWS_MAX) -> tuple[NDArray[np.int64], FloatArray]:
        """See kernels_compare.compare: `present` (k,) and `distances` (3, k), and the ranks in place."""
        profile = self._profile
        columns = len(profile.names)
        present, distances = np.empty(columns, np.int64), np.empty((3, columns))
        self._kernels_compare.compare(
            self.ring,
            profile.upto,
            profile.starts,
            profile.sizes,
            profile.kept_rows,
            rounded_beyond,
            self.oldest,
            present,
            distances,
            ranks,
        )
        return present, distances

    def _verdict(self, offset: int) -> Verdict:
        names, settings = self._profile.names, self._profile.settings
        (distances, above, below), p_values = self._judged()
        adjusted = adjust(p_values, settings.correction)
        directions = tuple(map(_direction, above.tolist(), below.tolist()))
        return Verdict(
            detector=self._detector,
            test="ks_2samp",
            kind=self._kind,
            columns=names,
            statistics=distances,
            p_values=p_values,
            adjusted=adjusted,
            effects=distances.copy(),
            effect_name="ks_distance",
            effect_threshold=settings.effect_threshold,
            directions=directions,
            window=self.coordinates(offset),
            finding=drifted(
                names,
                distances,
                adjusted,
                distances,
                settings.effect_threshold,
                directions,
                "KS D",
                self.window_rows,
            ),
        )

    def _judged(self) -> tuple[FloatArray, FloatArray]:
        """The distances (3, k) of `compare` and their p-values (k,)."""
        from streamd.detectors import kolmogorov

        profile = self._profile
        if profile.settings.dependence == "none":
            present, distances = self._compare(self._no_ranks, kolmogorov.EXACT_ROWS_MAX)
            return distances, kolmogorov.p_values(distances[0], profile.kept_rows, present, exact=True)
        ranks = np.empty(self.ring.shape, np.int16 if self.window_rows <= SHORT_ROWS_MAX else np.int32)
        present, distances = self._compare(ranks)
        times = np.maximum(profile.reference_times, autocorrelation_times(ranks))
        reference_rows = np.minimum(profile.kept_rows, profile.reference_rows / times)
        if profile.phase_rows is not None:
            doubt = phase_doubt(self.phase_shares(len(profile.phase_rows)), profile.phase_rows)
            reference_rows = 1.0 / (1.0 / reference_rows + times * doubt)
        return distances, kolmogorov.p_values(distances[0], reference_rows, present / times, exact=False)


def _direction(above: float, below: float) -> Direction:
    """Where the window lies: its distribution function above the reference's means smaller values."""
    if above >= ONE_SIDED * below:
        return "down"
    return "up" if below >= ONE_SIDED * above else "changed"
