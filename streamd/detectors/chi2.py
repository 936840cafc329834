"""Drift of every categorical feature, by Pearson's chi-squared test against the reference; and categories it lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from math import ceil
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.detectors.base import Detector, DetectorConfig, Reference, Seasonal, State
from streamd.detectors.contingency import chi_squared, chi_squared_p_values, pooled, total_variation
from streamd.detectors.corrections import adjust
from streamd.detectors.dependence import autocorrelation_times, centred_ranks, slowest_time
from streamd.detectors.histogram import Histogram, of_categories
from streamd.detectors.novelty import Novelty, p_value
from streamd.detectors.window import SlidingWindow, kept_places
from streamd.detectors.wording import drifted
from streamd.model import Direction, FeatureBatch, Kind, Reading, Verdict
from streamd.table import PHASE_ROWS_MIN, Categorical, FloatArray

MISSING = 2**16 - 1  # in the ring; the slot after a column's last category is for all that the reference lacks
PRESENT_MIN = 2  # with fewer values in the window or the reference there is no distribution to speak of
SMALL_P = 0.1  # adjusted; nobody asks how large a p-value is that is larger
EXPECTED_MIN = 10.0  # effective rows of a category: rarer ones are judged together
WORK_MAX = 100_000_000  # rows times lags for which a reference's dependence is summed: 0.1 s at most
FINE = 2**40  # counts that stand for shares
CACHED_CATEGORIES_MAX = 4096  # a batch's list of categories is remembered up to this length


class Chi2Config(DetectorConfig):
    """Options of `chi2`.

    >>> from streamd.table import Table
    >>> country = Categorical(np.arange(3000, dtype=np.int32) * 7 % 3, ("DE", "FR", "IT"))
    >>> reference = Table(3000, categorical={"country": country})
    >>> config = Chi2Config()
    >>> detector = config.build("chi2", config.profile(Reference(reference, reference.sha256(), "batches")))
    >>> shifted = Categorical(np.arange(1000, dtype=np.int32) * 7 % 4, ("DE", "FR", "IT", "??"))
    >>> table = Table(1000, categorical={"country": shifted})
    >>> for verdict in detector.update(FeatureBatch("fraud/7", 0, 12, table)):
    ...     verdict.finding
    'country changed (TV=0.25, p<1e-99 over 1000 rows); never seen before: country "??"'
    'country changed (share new=0.25, p<1e-99 over 1000 rows); never seen before: country "??"'
    """

    type: Literal["chi2"] = "chi2"
    judges: ClassVar[int] = 2
    seasonal: ClassVar[Seasonal] = "values"

    window_rows: int = Field(default=1000, ge=2)
    """Rows of one window."""

    stride_rows: int | None = Field(default=None, ge=1)
    """Rows between two judgements; None: the window, since overlapping looks multiply false alarms."""

    effect_threshold: float = Field(default=0.15, ge=0, le=1)
    """The total variation distance must be greater than this to matter. The census data's quiet windows stay
    under 0.12, while the p-value alone would page at three in four of them."""

    new_effect_threshold: float = Field(default=0.02, ge=0, le=1)
    """The share of rows with categories that the reference lacks must be greater than this to matter: one row in
    fifty is of a kind that the model never learned. In the census data's quiet windows there is none. Whether they
    are new, and were not only rare, is judged by how often they came apart, in each window once."""

    correction: Literal["bonferroni", "benjamini_hochberg"] = "bonferroni"
    """How p-values are adjusted for the number of columns."""

    dependence: Literal["autocorrelation", "none"] = "autocorrelation"
    """`autocorrelation` divides the statistic by τ, and judges rare categories together; `none` is the textbook test
    of scipy."""

    categories_max: int = Field(default=256, ge=2, lt=MISSING)
    """A column with more categories in the reference is not judged: identifiers are new in every window. That
    they multiply is for `cardinality` to say."""

    rows_per_category_min: float = Field(default=5.0, ge=1)
    """Nor is a column with fewer reference rows than this for each of its categories, on average (Cochran 1954)."""

    columns: tuple[str, ...] = ("*",)
    """Which columns, by name or pattern: all by default."""

    def profile(self, reference: Reference, weights: bytes | None = None) -> Chi2Profile:
        return Chi2Profile(reference, self)

    def build(self, name: str, profile: Chi2Profile) -> Detector:
        return Chi2Detector(name, profile)


class Chi2Profile:
    """The reference's categorical columns that can be judged. Immutable, shared.

    Attributes:
        names: k columns.
        codes: for each, category -> its slot, 0 to q − 1; slot q is for what the reference lacks.
        counts: (k, slots) rows of each slot in the whole reference.
        times: (k,) τ; 1 with `dependence: none`.
        slowest: (k,) τ of the order of the categories that has the largest; likewise.
    """

    def __init__(self, reference: Reference, config: Chi2Config) -> None:
        prepared = []
        for name, column in reference.table.categorical.items():
            if any(fnmatchcase(name, pattern) for pattern in config.columns):
                judged = _prepare(column, config, reference.phases)
                prepared += [(name, *judged)] if judged else []
        self.config = config
        self.names = tuple(name for name, *_ in prepared)
        self.codes = tuple(codes for _, codes, *_ in prepared)
        self.counts = np.zeros((len(prepared), max((len(codes) for codes in self.codes), default=0) + 1), np.int64)
        for i, (_, _, counts, *_) in enumerate(prepared):
            self.counts[i, : len(counts)] = counts
        self.times = np.array([times[0] for *_, times in prepared])
        self.slowest = np.array([max(times) for *_, times in prepared])
        self.phase_counts: NDArray[np.int64] | None = None
        if reference.phases is not None and reference.phase_rows is not None:
            self.phase_counts = np.zeros((len(reference.phase_rows), *self.counts.shape), np.int64)
            for i, (name, codes, *_) in enumerate(prepared):
                column = reference.table.categorical[name]
                slots = np.array([codes.get(category, -1) for category in column.categories] + [-1])[column.codes]
                size = self.counts.shape[1]
                places = (reference.phases * size + slots)[slots >= 0]
                counted = np.bincount(places, minlength=len(reference.phase_rows) * size)
                self.phase_counts[:, i] = counted.reshape(-1, size)

    def counts_of(self, shares: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        """(k, slots) the mixture of phases that have these shares, as counts fine enough for shares of it; and (k,) how
        many rows it is known from: 1 / Σ share² / rows of the phase, which is all rows where the shares are theirs."""
        assert self.phase_counts is not None
        rows = self.phase_counts.sum(axis=2)  # (phases, k)
        known = np.where(rows > 0, shares[:, None], 0.0)
        known /= np.maximum(known.sum(axis=0), 1e-300)
        per_row = known / np.maximum(rows, 1)
        mixture = (per_row[:, :, None] * self.phase_counts).sum(axis=0)
        return np.rint(mixture * FINE).astype(np.int64), 1.0 / np.maximum((known * per_row).sum(axis=0), 1e-300)


def _prepare(
    column: Categorical, config: Chi2Config, phases: NDArray[np.intp] | None
) -> tuple[dict[str, int], NDArray[np.int64], tuple[float, float]] | None:
    """Slots, counts, τ and the slowest order's τ of a reference's column; None where it has too few rows or too many
    categories."""
    present = column.codes[column.codes >= 0]
    counts = np.bincount(present, minlength=len(column.categories))
    used = np.flatnonzero(counts)
    if len(used) > config.categories_max or len(present) < max(PRESENT_MIN, config.rows_per_category_min * len(used)):
        return None
    time = slowest = 1.0
    if config.dependence == "autocorrelation":
        from streamd.detectors import kernels_dependence  # numba costs more to import than most commands take

        slots = np.full(len(column.categories) + 1, MISSING, np.uint16)  # the last is what code -1 (missing) reads
        slots[used] = np.arange(len(used))
        rows, lags = slots[column.codes], max(2, WORK_MAX // len(present))
        # A season is no dependence: with one, rows are those of one phase after the other.
        parts = [rows] if phases is None else [rows[phases == phase] for phase in np.unique(phases).tolist()]
        times = [kernels_dependence.category_time(part, len(used), lags) for part in parts]
        longest = [slowest_time(part, len(used)) for part in parts]
        time, slowest = np.average([times, longest], axis=1, weights=[len(part) for part in parts]).tolist()
    slots_of = {column.categories[code]: slot for slot, code in enumerate(used.tolist())}
    return slots_of, counts[used], (time, slowest)


class Chi2Detector(SlidingWindow):
    """One stream's categorical columns against the reference.

    τ is that of agreement: how much more often than by chance two rows some way apart are of one category (the
    autocovariances of the categories' indicators, summed over the categories). The statistic of dependent rows
    is too large by about that factor (Rao and Scott 1981, first-order correction). Its tail is longer than that where
    the categories have an order: it is a sum of squares of which one lasts as long as `slowest_time`, and that decides
    about small p-values. So the statistic is divided by the slowest τ, and has as many times fewer degrees of freedom
    (Satterthwaite's, at the largest variance that both τ allow). With ten categories of an AR(1) of ρ = 0.9 the first
    order gave p ≤ 0.001 in 2 % of the healthy windows; this, in fewer than one in a thousand.
    """

    def __init__(self, name: str, profile: Chi2Profile) -> None:
        config = profile.config
        super().__init__(
            len(profile.names),
            config.window_rows,
            config.stride_rows,
            np.dtype(np.uint16),
            phased=profile.phase_counts is not None,
        )
        self.unseen = Novelty(len(profile.names))
        self._name = name
        self._profile = profile
        self._tables: dict[str, tuple[tuple[str, ...], NDArray[np.uint16]]] = {}  # a cache: it changes no result

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """Judge every window that the batch completes; a batch without any of the columns leaves the window be."""
        categorical, names = batch.table.categorical, self._profile.names
        if batch.table.rows == 0 or not any(name in categorical for name in names):
            return ()
        rows = np.full((len(names), batch.table.rows), MISSING, np.uint16)
        for i, name in enumerate(names):
            if self._unknown_phase(batch.phase, i):
                continue
            if (column := categorical.get(name)) is not None:
                rows[i] = self._slots(i, column.categories)[column.codes]
        verdicts = []
        for start, stop, due in self.cuts(batch.table.rows):
            self._push(rows, start, stop, batch.offset, batch.phase)
            self._note_unseen(rows[:, start:stop], start, categorical)
            if due:
                verdicts.append(self._verdict(batch.offset))
                if self.seen - self.unseen.since >= self.window_rows:
                    verdicts.append(self._new_categories(batch.offset))
        return tuple(verdicts)

    def snapshot(self) -> State:
        return super().snapshot() | {"unseen": self.unseen.snapshot()}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.unseen.restore(state["unseen"])

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.unseen.nbytes

    def take_over(self, before: Chi2Detector, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        places = kept_places(self._profile.names, before._profile.names, columns)
        self.carry(before, places)
        self.unseen.take_over(before.unseen, places)

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        if not self.full:
            return ()
        distances = total_variation(self._reference()[0], self._counts())
        return (Reading(self._name, self._profile.names, distances, self._profile.config.effect_threshold),)

    def histogram(self, column: str) -> Histogram | None:
        """See histogram.Pictured."""
        profile = self._profile
        if column not in profile.names:
            return None
        i = profile.names.index(column)
        codes = self.filled[i]
        window = np.bincount(codes[codes != MISSING], minlength=len(profile.codes[i]) + 1)
        return of_categories(column, tuple(profile.codes[i]), profile.counts[i, : len(window)], window)

    def _slots(self, index: int, categories: tuple[str, ...]) -> NDArray[np.uint16]:
        """From a batch's codes to slots: one entry for each of its categories, and one for missing."""
        name, codes = self._profile.names[index], self._profile.codes[index]
        known = self._tables.get(name)
        if known is not None and known[0] == categories:
            return known[1]
        slots = np.array([*(codes.get(category, len(codes)) for category in categories), MISSING], np.uint16)
        if len(categories) <= CACHED_CATEGORIES_MAX:
            self._tables[name] = categories, slots
        return slots

    def _unknown_phase(self, phase: int | None, column: int) -> bool:
        """Whether the reference has too few rows of that phase of the season to judge the column by."""
        counts = self._profile.phase_counts
        return counts is not None and phase is not None and int(counts[phase, column].sum()) < PHASE_ROWS_MIN

    def _push(self, rows: NDArray[np.uint16], start: int, stop: int, offset: int, phase: int | None) -> None:
        first, place = self.claim(start, stop, offset, phase)
        turn = first + min(stop - first, self.window_rows - place)  # the first row that goes to the ring's beginning
        self.ring[:, place : place + turn - first] = rows[:, first:turn]
        self.ring[:, : stop - turn] = rows[:, turn:stop]

    def _note_unseen(self, rows: NDArray[np.uint16], start: int, categorical: Mapping[str, Categorical]) -> None:
        for i, (name, codes) in enumerate(zip(self._profile.names, self._profile.codes, strict=True)):
            places = np.flatnonzero(rows[i] == len(codes))
            if len(places):
                column, row = categorical[name], self.seen - rows.shape[1]
                self.unseen.note(i, places, column.codes[start + places], column.categories, row)

    def _counts(self) -> NDArray[np.int64]:
        """(k, slots) rows of the window in each slot."""
        from streamd.detectors import kernels

        counts = np.empty_like(self._profile.counts)
        kernels.count(self.ring, counts)
        return counts

    def _reference(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(k, slots) each: what the window's shares are compared with, and the same in rows that count."""
        if self._profile.phase_counts is None:
            return self._profile.counts, self._profile.counts
        fine, rows = self._profile.counts_of(self.phase_shares(len(self._profile.phase_counts)))
        return fine, np.rint(fine * (rows / FINE)[:, None]).astype(np.int64)

    def _verdict(self, offset: int) -> Verdict:
        profile, config = self._profile, self._profile.config
        counts = self._counts()
        fine, reference = self._reference()
        distances = total_variation(fine, counts)
        distances[counts.sum(axis=1) < PRESENT_MIN] = np.nan
        statistics, freedom = chi_squared(reference, counts)
        if config.dependence == "autocorrelation":
            times = self._times(statistics, freedom)
            statistics, freedom = chi_squared(*pooled(reference, counts, EXPECTED_MIN * times))
            first_order = chi_squared_p_values(statistics / times, freedom)
            slowest = self._slowest(times, adjust(first_order, config.correction))
            statistics /= slowest
            freedom *= times / slowest
        statistics[np.isnan(distances)] = np.nan
        p_values = chi_squared_p_values(statistics, freedom)
        adjusted = adjust(p_values, config.correction)
        directions: tuple[Direction, ...] = tuple("changed" for _ in profile.names)
        finding = drifted(
            profile.names, distances, adjusted, distances, config.effect_threshold, directions, "TV", self.window_rows
        )
        return Verdict(
            detector=self._name,
            test="chi2",
            kind=Kind.FEATURES,
            columns=profile.names,
            statistics=statistics,
            p_values=p_values,
            adjusted=adjusted,
            effects=distances,
            effect_name="total_variation",
            effect_threshold=config.effect_threshold,
            directions=directions,
            window=self.coordinates(offset),
            finding=finding + self._unseen_words(),
        )

    def _new_categories(self, offset: int) -> Verdict:
        """Whether there are new categories among those that the reference lacks. See `novelty`.

        A block is as long as the slowest order of the reference remembers, or as long as being new does in the window.
        """
        profile, config = self._profile, self._profile.config
        names, counts = profile.names, self._counts()
        present = counts.sum(axis=1)
        p_values, shares = np.ones(len(names)), np.zeros(len(names))
        for i, codes in enumerate(profile.codes):
            if not (new := int(counts[i, len(codes)])):
                continue
            shares[i] = new / present[i]
            memory = self._memory(i, len(codes))
            visits = self.unseen.visits(i, ceil(memory))
            rows = self.seen - self.unseen.since
            candidates = len(codes) + self.unseen.candidates(i, visits, rows)
            p_values[i] = p_value(visits, rows, int(profile.counts[i].sum()), memory, candidates)
        p_values[present == 0] = shares[present == 0] = np.nan
        self.unseen.begin_anew(self.seen)
        adjusted = adjust(p_values, config.correction)
        directions: tuple[Direction, ...] = tuple("changed" for _ in names)
        threshold = config.new_effect_threshold
        finding = drifted(names, shares, adjusted, shares, threshold, directions, "share new", self.window_rows)
        return Verdict(
            detector=self._name,
            test="new_category",
            kind=Kind.FEATURES,
            columns=names,
            statistics=shares,
            p_values=p_values,
            adjusted=adjusted,
            effects=shares,
            effect_name="new_share",
            effect_threshold=threshold,
            directions=directions,
            window=self.coordinates(offset),
            finding=finding + self._unseen_words(),
        )

    def _memory(self, column: int, unseen: int) -> float:
        """τ of a column's categories, or of being one that the reference lacks, whichever is longer."""
        if self._profile.config.dependence == "none":
            return 1.0
        codes = np.roll(self.ring[column], -self.oldest)  # oldest row first
        is_new = np.where(codes == MISSING, np.nan, codes == unseen)
        return max(float(self._profile.slowest[column]), float(autocorrelation_times(centred_ranks(is_new)[None])[0]))

    def _times(self, statistics: FloatArray, freedom: FloatArray) -> FloatArray:
        """τ of each column: the larger of the reference's and the window's."""
        from streamd.detectors import kernels_dependence

        times = self._profile.times.copy()
        ordered = np.roll(self.ring, -self.oldest, axis=1)  # oldest row first
        for i, codes in enumerate(self._profile.codes):
            if statistics[i] > freedom[i]:  # else its p-value is about a half or more, whatever τ is
                time = kernels_dependence.category_time(ordered[i], len(codes) + 1, self.window_rows)
                times[i] = max(times[i], time)
        return times

    def _slowest(self, times: FloatArray, adjusted: FloatArray) -> FloatArray:
        """The slowest order's τ of each column, where the p-values by `times` alone are small enough to ask."""
        slowest: FloatArray = np.maximum(times, self._profile.slowest)
        ordered = np.roll(self.ring, -self.oldest, axis=1)  # oldest row first
        for i, codes in enumerate(self._profile.codes):
            if adjusted[i] < SMALL_P:
                slowest[i] = max(slowest[i], slowest_time(ordered[i], len(codes) + 1))
        return slowest

    def _unseen_words(self) -> str:
        return self.unseen.words(self._profile.names, self.seen - self.window_rows)
