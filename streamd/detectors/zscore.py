"""Each column's batch mean against the rolling past of its batch means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from sys import intern
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamd.detectors.base import Detector, DetectorConfig, Remembers, Seasonal
from streamd.detectors.corrections import Correction, adjust
from streamd.detectors.wording import drifted
from streamd.model import Direction, FeatureBatch, Kind, Verdict, Window
from streamd.table import FloatArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

LOUD_P = 0.001
"""A batch with a column at or under this, and over the effect, is not learned: DESIGN's line for `warning`."""

MAD_TO_DEVIATION = 1.4826  # median absolute deviation → standard deviation, of a normal distribution
MAD_EFFICIENCY = 0.37  # the MAD knows the scale as well as a standard deviation of 37 % as many values
MEDIAN_VARIANCE = float(np.pi / 2)  # of the median, in units of the mean's
WINDOW_PARTS = 96  # a day's window moves in quarters of an hour
BLOCKS = 5  # counts and deviations leave the past by fifths: only their averages are wanted


class ZscoreConfig(DetectorConfig):
    """Options of `zscore`.

    >>> import numpy as np
    >>> from streamd.table import Table
    >>> detector = ZscoreConfig(min_batches=30).build("zscore", None)
    >>> rng = np.random.default_rng(0)
    >>> for offset in range(40):
    ...     amount = rng.normal(1.0 if offset == 39 else 0.0, 1.0, 256)
    ...     outcomes = detector.update(FeatureBatch("fraud/7", 0, offset, Table(256, {"amount": amount})))
    >>> outcomes[0].finding
    'amount drifted up (z=18, p=1e-19 over 256 rows)'
    """

    type: Literal["zscore"] = "zscore"
    needs_reference: ClassVar[bool] = False
    judges: ClassVar[int] = 1
    seasonal: ClassVar[Seasonal] = "values"

    method: Literal["standard", "robust", "moving_average"] = "standard"
    """`standard`: mean and deviation of the past means; `robust`: median and MAD, for pasts with outliers;
    `moving_average`: mean and deviation of all the batches of `window_hours`."""

    threshold: float | None = Field(default=None, gt=0)
    """A shift of no more than this |z| has no effect. None: 3, and 2.5 for `moving_average`, as in the sources.
    Alone it would page at every twelfth batch of 32 columns; that is what the p-value is for."""

    effect_threshold: float = Field(default=0.5, ge=0)
    """The shift must be greater than this, in standard deviations of the rows. Half a deviation is the shift of
    a normal column whose Kolmogorov–Smirnov distance is 0.2, the line that `ks` draws."""

    past_batches: int = Field(default=100, ge=3)
    """Batches that a column remembers. The deviation of 100 is known to 7 %."""

    min_batches: int = Field(default=30, ge=3)
    """Batches before the first judgement: with fewer, the prediction interval is too wide to find anything."""

    looks: int = Field(default=1000, ge=1)
    """Batches among which one false alarm would count, since every single batch is judged: where `false_alarms` is
    null, a p-value must be this many times smaller. It also says from what on a batch is not learned."""

    window_hours: float = Field(default=24.0, gt=0)
    """Event time that `moving_average` looks back: a day, so that the hours of a day average out."""

    correction: Correction = "bonferroni"
    """How p-values are adjusted for the number of columns."""

    dependence: Literal["autocorrelation", "none"] = "autocorrelation"
    """`autocorrelation` widens the prediction interval by that of the past means; `none` is the textbook's."""

    max_columns: int = Field(default=1000, ge=1)
    """Columns that are followed, the first that are seen; bounds the memory: 1 KB each with the defaults."""

    @model_validator(mode="after")
    def _enough_past(self) -> ZscoreConfig:
        if self.min_batches > self.past_batches:
            raise ValueError(f"min_batches ({self.min_batches}) must not exceed past_batches ({self.past_batches})")
        return self

    @property
    def line(self) -> float:
        """|z| that must be exceeded."""
        return self.threshold or (2.5 if self.method == "moving_average" else 3.0)

    def build(self, name: str, profile: Any) -> Detector:
        return ZscoreDetector(name, self)


class ZscoreDetector(Remembers):
    """One stream's columns against their past.

    The p-value is that of the prediction interval: Student's t with n − 1 degrees of freedom, the deviation
    times √(1 + 1/n) (Hahn and Meeker, *Statistical Intervals*, 4.7), widened as `standardise` says. Down to 1e-6 it is
    no smaller than the truth for means of 8 rows or more that are normal, t₅, lognormal or one in a hundred. With a
    season the interval is widened by what the reference does not know of the mean of this phase.
    """

    remembered = ("_names", "_means", "_sums", "_following", "_filled", "_buckets")

    def __init__(self, name: str, config: ZscoreConfig) -> None:
        from streamd.detectors import kernels_columns  # numba costs more to import than most commands take

        self._kernels = kernels_columns
        self._name = name
        self._config = config
        self._names: list[str] = []
        self._known: tuple[str, ...] = ()
        self._block = -(-config.past_batches // BLOCKS)
        # What these hold is said in `past_moments`.
        self._means: FloatArray = np.empty((0, config.past_batches))
        self._sums: FloatArray = np.empty((2, 0, -(-config.past_batches // self._block)))
        self._following: IntArray = np.empty(0, np.int64)
        self._filled: IntArray = np.empty(0, np.int64)
        self._buckets = _TimeBuckets(config.window_hours) if config.method == "moving_average" else None

    def snapshot(self) -> dict[str, Any]:
        state = super().snapshot()
        state["_buckets"] = self._buckets and self._buckets.snapshot()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        buckets = self._buckets
        super().restore(state)
        self._names = [intern(name) for name in self._names]
        self._known = tuple(self._names)
        self._buckets = buckets
        if buckets is not None:
            buckets.restore(state["_buckets"])

    def take_over(self, before: ZscoreDetector, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        kept = [i for i, name in enumerate(before._names) if name not in columns]
        self._names = [before._names[i] for i in kept]
        self._known = tuple(self._names)
        self._means, self._sums = before._means[kept], np.ascontiguousarray(before._sums[:, kept])
        self._following, self._filled = before._following[kept], before._filled[kept]
        if self._buckets is not None and before._buckets is not None:
            self._buckets.keep(before._buckets, kept)

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """A Verdict on every batch, once a column has `min_batches` of past; its statistics are the z."""
        self._meet(batch.table.numeric)
        config = self._config
        now = self._kernels.batch_moments(batch.table.matrix(self._known))  # (3, columns)
        past = self._kernels.past_moments(self._means, self._sums, self._following, self._filled, self._block)
        centres = self._centres(past, batch.event_time_ms)
        judged = self._kernels.standardise(
            now, centres, past, config.min_batches, config.dependence == "autocorrelation"
        )
        if np.isnan(judged[0]).all():
            self._learn(batch.event_time_ms, now, np.zeros(len(self._known), np.bool_))
            return ()
        verdict, loud = self._judge(batch, judged)
        self._learn(batch.event_time_ms, now, loud)
        return (verdict,)

    def _judge(self, batch: FeatureBatch, judged: FloatArray) -> tuple[Verdict, BoolArray]:
        """The verdict on what `standardise` returned, and which columns (k,) are loud."""
        config = self._config
        z, t, freedom, shift = judged
        if batch.phase_rows:
            # All batches of a phase err alike, by what so many rows do not tell of its mean; so did those of the past.
            with np.errstate(divide="ignore", over="ignore"):
                t = np.sign(t) / np.sqrt(1.0 / t**2 + 2.0 / (shift**2 * batch.phase_rows))
        if config.method == "robust":
            freedom = np.maximum(MAD_EFFICIENCY * (freedom + 1.0), 1.0)
        shift[np.abs(z) <= config.line] = 0.0
        p_values = 2.0 * _student_t()(freedom, -np.abs(t))
        adjusted = adjust(p_values, config.correction)
        directions: tuple[Direction, ...] = tuple(["down" if value < 0 else "up" for value in z.tolist()])
        matters = shift > config.effect_threshold
        rows = batch.table.rows
        finding = f"no drift over {rows} rows"  # nearly always: sentences cost more than judgements
        if matters.any():
            finding = drifted(self._known, z, adjusted, shift, config.effect_threshold, directions, "z", rows)
        verdict = Verdict(
            self._name,
            "t",
            Kind.FEATURES,
            self._known,
            z,
            p_values,
            adjusted,
            shift,
            "row_deviations",
            config.effect_threshold,
            directions,
            Window(batch.offset, batch.offset, rows),
            finding,
            looks=config.looks,
        )
        return verdict, matters & (adjusted <= LOUD_P / config.looks)

    def _centres(self, past: FloatArray, time_ms: int) -> FloatArray:
        """(4, columns): centre, scale, past means n, and the variance of the centre times n / scale²."""
        if self._buckets is not None:
            return self._buckets.moments(time_ms, len(self._names))
        n = self._filled.astype(np.float64)
        centres = np.ones((4, len(n)))
        if self._config.method == "standard":
            centres[:2] = past[:2]
            centres[2] = n
            return centres
        means = np.where(np.arange(self._config.past_batches) < self._filled[:, None], self._means, np.nan)
        median = _row_medians(means, self._filled)
        scale = MAD_TO_DEVIATION * _row_medians(np.abs(means - median[:, None]), self._filled)
        # The correction is that of small samples: Croux and Rousseeuw 1992.
        return np.stack([median, scale * n / np.maximum(n - 0.8, 1.0), n, np.full_like(n, MEDIAN_VARIANCE)])

    def _meet(self, columns: Mapping[str, FloatArray]) -> None:
        """Follow the columns that are new."""
        if self._known == tuple(columns):
            return
        new = [name for name in columns if name not in self._names][: self._config.max_columns - len(self._names)]
        if new:
            self._names += [intern(name) for name in new]  # the same in thousands of streams
            self._known = tuple(self._names)
            self._means = np.concatenate([self._means, np.zeros((len(new), self._config.past_batches))])
            self._sums = np.concatenate([self._sums, np.zeros((2, len(new), self._sums.shape[2]))], axis=1)
            self._following = np.concatenate([self._following, np.zeros(len(new), np.int64)])
            self._filled = np.concatenate([self._filled, np.zeros(len(new), np.int64)])

    def _learn(self, time_ms: int, now: FloatArray, loud: BoolArray) -> None:
        self._kernels.remember(self._means, self._sums, self._following, self._filled, self._block, now, loud)
        if self._buckets is not None:
            usable = np.isfinite(now).all(axis=0)
            self._buckets.learn(time_ms, np.where(usable & ~loud, now[1], np.nan))


class _TimeBuckets(Remembers):
    """Batch means over a window of event time, in bounded memory.

        bucket   … 41   42   43   44   45 …     WINDOW_PARTS to a window, each: count, mean, squared deviations
                    └────── window ─────┘
                                      ▲ the batch's own time: a late batch is judged by what was before it

    A bucket takes the place of the one that is a window older (or, when time jumped back, newer): of the day
    before the newest batch nothing is left, for late ones either.
    """

    remembered = ("_ids", "_sums")

    def __init__(self, window_hours: float) -> None:
        self._width_ms = window_hours * 3_600_000 / WINDOW_PARTS
        self._ids: IntArray = np.full(WINDOW_PARTS, -1, np.int64)
        self._sums: FloatArray = np.zeros((3, WINDOW_PARTS, 0))

    def keep(self, before: _TimeBuckets, columns: list[int]) -> None:
        """Continue from `before` with some of its columns, the others gone."""
        self._ids, self._sums = before._ids, np.ascontiguousarray(before._sums[:, :, columns])

    def moments(self, time_ms: int, columns: int) -> FloatArray:
        """(4, columns) as `_centres`, of the window that ends at `time_ms`."""
        self._widen(columns)
        age = int(time_ms // self._width_ms) - self._ids
        inside = (self._ids >= 0) & (age >= 0) & (age < WINDOW_PARTS)
        counts, means, squares = self._sums[:, inside]  # (buckets, columns) each
        n = counts.sum(axis=0)
        mean = (counts * means).sum(axis=0) / np.maximum(n, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):  # such a column is not judged
            square = squares.sum(axis=0) + (counts * (means - mean) ** 2).sum(axis=0)
        return np.stack([mean, np.sqrt(square / np.maximum(n - 1.0, 1.0)), n, np.ones(columns)])

    def learn(self, time_ms: int, means: FloatArray) -> None:
        """Add one batch's `means` (columns,), NaN where there is nothing to learn (Welford 1962)."""
        self._widen(len(means))
        bucket = int(time_ms // self._width_ms)
        place = bucket % WINDOW_PARTS
        if self._ids[place] != bucket:
            self._ids[place] = bucket
            self._sums[:, place] = 0.0
        learned = np.isfinite(means)
        counts, before, _ = self._sums[:, place]
        step = np.where(learned, means - before, 0.0)
        counts += learned
        self._sums[1, place] += step / np.maximum(counts, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            self._sums[2, place] += step * np.where(learned, means - self._sums[1, place], 0.0)

    def _widen(self, columns: int) -> None:
        missing = columns - self._sums.shape[2]
        if missing:
            self._sums = np.concatenate([self._sums, np.zeros((3, WINDOW_PARTS, missing))], axis=2)


def _row_medians(values: FloatArray, filled: IntArray) -> FloatArray:
    """The median of each row (columns, places) of which `filled` (columns,) values are not NaN; NaN without any."""
    ordered = np.sort(values, axis=1)  # NaN last
    columns = np.arange(len(filled))
    lower, upper = np.maximum(filled - 1, 0) // 2, filled // 2
    return np.asarray((ordered[columns, lower] + ordered[columns, np.minimum(upper, values.shape[1] - 1)]) / 2)


@cache
def _student_t() -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Student's t distribution (degrees of freedom, t); imported late because scipy takes 60 ms."""
    from scipy.special import stdtr

    return stdtr
