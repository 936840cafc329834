"""Is the data what the reference was: missing and non-finite values, constant columns, the schema, the predictions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from streamd.detectors.base import Detector, DetectorConfig, Reference, Seasonal, State
from streamd.detectors.quality_profile import (
    QualityProfile,
    autocorrelation_time,
    bad_predictions,
    non_finite_arrays,
    profile_of,
    value_counts,
)
from streamd.detectors.shares import DOUBT, at_least
from streamd.model import Direction, FeatureBatch, Kind, Verdict, Window
from streamd.table import PHASE_ROWS_MIN, FloatArray, Predictions, Table

NAMED_MAX = 3  # findings in the sentence; the alert's `features` has them all
TESTS = 2  # per column: missing values, and a constant
RULE, MENTION = 2.0, 0.5  # effects of what is certain: over the line, and worth `info`


class QualityConfig(DetectorConfig):
    """Options of `quality`.

    >>> reference = Reference(Table(1000, {"amount": np.arange(1000.0)}), "", "batches")
    >>> config = QualityConfig()
    >>> detector = config.build("quality", config.profile(reference, None))
    >>> amount = np.where(np.arange(256) % 8, np.arange(256.0), np.nan)
    >>> [verdict] = detector.update(FeatureBatch("fraud/7", 0, 0, Table(256, {"amount": amount}, {"amount": 32})))
    >>> verdict.finding
    'amount: 12 % of values missing (reference 0 %)'
    """

    type: Literal["quality"] = "quality"
    judges: ClassVar[int] = 1
    seasonal: ClassVar[Seasonal] = "phases"

    missing_ratio: float = Field(default=2.0, ge=1)
    """The share of missing values must be more than this many times the reference's."""

    missing_rise: float = Field(default=0.05, ge=0, le=1)
    """And must have risen by more than this: 5 points are what most imputation still carries."""

    rows_min: int = Field(default=50, ge=1)
    """Rows under which shares and constants are not judged: of ten rows nothing can be said."""

    looks: int = Field(default=1000, ge=1)
    """Batches among which one false alarm would count, since every single batch is judged: where `false_alarms` is
    null, a p-value must be this many times smaller."""

    sum_tolerance: float = Field(default=1e-3, gt=0)
    """Probabilities of a row may miss 1 by this much: 16-bit floats of many classes do."""

    dependence: Literal["autocorrelation", "none"] = "autocorrelation"
    """`autocorrelation` counts n/τ rows, since missing values come in clusters; `none` is the textbook test."""

    no_data_seconds: float | None = Field(default=900.0, gt=0)
    """Silence of a stream that has been seen, after which there is no data; null: silence is never a finding.
    A quarter of an hour is three missed batches of a five-minute job, and longer than a deployment."""

    def profile(self, reference: Reference, weights: bytes | None) -> QualityProfile:
        tests = TESTS * (len(reference.table.numeric) + len(reference.table.categorical))
        how = DOUBT / max(tests, 1), self.sum_tolerance, self.dependence == "autocorrelation"
        profile, phases = profile_of(reference.table, *how), reference.phases
        if phases is None or reference.phase_rows is None:
            return profile
        parts = [np.flatnonzero(phases == phase) for phase in range(len(reference.phase_rows))]
        known = [profile_of(reference.table.take(p), *how) if len(p) >= PHASE_ROWS_MIN else None for p in parts]
        return replace(profile, phases=tuple(known))

    def build(self, name: str, profile: QualityProfile) -> Detector:
        return QualityDetector(name, self, profile)


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing that is wrong with one column. `p_value` NaN: certain, no test was needed."""

    column: str
    statistic: float  # the share of rows concerned
    p_value: float
    effect: float  # in units of the line that must be crossed
    direction: Direction
    text: str


class QualityDetector:
    """Compares every batch with the schema; remembers nothing, so there is nothing to snapshot.

    A verdict names all columns of the reference; where a column has several findings, the gravest. What is
    certain (a column is not there) has no p-value: NaN in `p_values` and 0.0 in `adjusted`.
    """

    def __init__(self, name: str, config: QualityConfig, profile: QualityProfile) -> None:
        self._name = name
        self._config = config
        self._profile = profile
        self._columns = profile.names + profile.categorical
        self._quiet = _quiet(len(self._columns))
        self._place = {column: i for i, column in enumerate(self._columns)}

    def snapshot(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass

    @property
    def nbytes(self) -> int:
        return 64

    def take_over(self, before: QualityDetector, columns: Collection[str]) -> None:
        """See base.ByColumn; there is nothing to take over."""

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """One Verdict."""
        table = batch.table
        if table.rows == 0:
            return (self._verdict(batch, [_Finding("rows", 0.0, np.nan, MENTION, "down", "an empty batch: no rows")]),)
        findings: list[_Finding] = []
        if table.numeric or table.categorical or table.arrays:  # else predictions alone, which a batch may be
            findings += self._schema(table)
            findings += self._values(table, self._profile.at(batch.phase))
        if table.predictions is not None:
            findings += self._predictions(table.predictions)
        return (self._verdict(batch, findings),)

    def _schema(self, table: Table) -> Iterable[_Finding]:
        """Columns that are gone, new or of another type."""
        profile = self._profile
        if (
            tuple(table.numeric) == profile.names
            and tuple(table.categorical) == profile.categorical
            and {name: array.shape[1:] for name, array in table.arrays.items()} == profile.arrays
        ):
            return
        was = dict.fromkeys(profile.names, "numeric") | dict.fromkeys(profile.categorical, "categorical")
        was |= {name: f"an array of {shape}" for name, shape in profile.arrays.items()}
        now = dict.fromkeys(table.numeric, "numeric") | dict.fromkeys(table.categorical, "categorical")
        now |= {name: f"an array of {array.shape[1:]}" for name, array in table.arrays.items()}
        for name, before in was.items():
            if name not in now:
                yield _Finding(name, 1.0, np.nan, RULE, "down", f"{name}: the column is missing")
            elif now[name] != before and not _all_missing(table, name):
                text = f"{name}: was {before}, is {now[name]}"
                yield _Finding(name, 1.0, np.nan, RULE, "changed", text)
        for name in now:
            if name not in was:
                yield _Finding(name, 1.0, np.nan, MENTION, "up", f"{name}: an unknown column")

    def _values(self, table: Table, usual: QualityProfile) -> Iterable[_Finding]:
        """Values that are missing, not finite, or all the same; `usual` is what is known of their shares."""
        profile, rows = self._profile, table.rows
        matrix = table.matrix(profile.names)
        nans, infinite, same = value_counts(matrix)
        missing, constant = nans, same
        if profile.categorical:
            missing = np.concatenate([nans, np.zeros(len(profile.categorical), np.int64)])
            constant = np.concatenate([same, np.zeros(len(profile.categorical), np.int64)])
            for i, name in enumerate(profile.categorical, len(profile.names)):
                column = table.categorical.get(name)
                if column is None:
                    missing[i] = rows
                    continue
                missing[i] = np.count_nonzero(column.codes < 0)
                held = column.codes if missing[i] == 0 else column.codes[column.codes >= 0]
                constant[i] = len(held) > 0 and bool((held == held[0]).all())
        if nans.any() or infinite.any():
            yield from self._non_finite(table, nans, infinite)
        for name, count in non_finite_arrays(table).items():
            if name not in profile.had_non_finite_arrays:
                text = f"{name}: {count} of {table.arrays[name].size} values not finite (reference none)"
                yield _Finding(name, count / table.arrays[name].size, np.nan, RULE, "up", text)
        if rows >= self._config.rows_min and (missing.any() or constant.any()):
            yield from self._shares(table, usual, missing, constant)

    def _shares(self, table: Table, usual: QualityProfile, missing: Any, constant: Any) -> Iterable[_Finding]:
        """Shares of missing values and constants; `missing` (k,) counts, `constant` (k,) flags."""
        rows = table.rows
        shares = missing / rows
        smallest = 1 / (2 * rows)  # half a row: no division by zero
        rises = np.minimum(
            shares / np.maximum(usual.missing * self._config.missing_ratio, smallest),
            (shares - usual.missing) / max(self._config.missing_rise, smallest),
        )
        for i in np.flatnonzero(rises > 1).tolist():
            if self._here(table, i):
                yield self._missing(table, usual, i, float(missing[i]), float(rises[i]))
        held = rows - missing
        for i in np.flatnonzero((constant > 0) & (held >= self._config.rows_min)).tolist():
            yield self._constant(usual, i, float(held[i]))

    def _here(self, table: Table, place: int) -> bool:
        """Whether the column came with the batch, as what it was or with nothing in it."""
        name = self._columns[place]
        same = name in (table.numeric if place < len(self._profile.names) else table.categorical)
        return same or ((name in table.numeric or name in table.categorical) and _all_missing(table, name))

    def _missing(self, table: Table, usual: QualityProfile, place: int, count: float, effect: float) -> _Finding:
        name, rows = self._columns[place], float(table.rows)
        tau = float(usual.missing_times[place])  # a batch in which all are missing tells nothing of clusters
        if self._config.dependence == "autocorrelation":
            column = table.numeric.get(name)
            gone = np.isnan(column) if column is not None else table.categorical[name].codes < 0
            tau = max(tau, autocorrelation_time(gone.astype(np.float64)))
        p_value = self._tail(count / tau, rows / tau, usual.missing_limits[place])
        text = f"{name}: {_percent(count / rows)} of values missing (reference {_percent(usual.missing[place])})"
        return _Finding(name, count / rows, p_value, effect, "up", text)

    def _constant(self, usual: QualityProfile, place: int, rows: float) -> _Finding:
        """All values are the same: how often that happens by chance is how common the commonest one is."""
        name = self._columns[place]
        effective = max(rows / usual.times[place], 1.0)
        p_value = self._tail(effective, effective, usual.commonest_limits[place])
        return _Finding(name, 1.0, p_value, RULE, "changed", f"{name}: constant over {rows:.0f} rows")

    def _tail(self, count: float, rows: float, limit: float) -> float:
        return float(at_least(np.array([count]), np.array([rows]), np.array([limit]), self._profile.doubt)[0])

    def _non_finite(self, table: Table, nans: Any, infinite: Any) -> Iterable[_Finding]:
        profile = self._profile
        for i in np.flatnonzero((nans + infinite > 0) & ~profile.had_non_finite).tolist():
            name = profile.names[i]
            count = int(nans[i] + infinite[i]) - table.nulls.get(name, 0)
            if count > 0 and name in table.numeric:
                text = f"{name}: {count} of {table.rows} values not finite (reference none)"
                yield _Finding(name, count / table.rows, np.nan, RULE, "up", text)

    def _predictions(self, predictions: Predictions) -> Iterable[_Finding]:
        known, now = self._profile.predictions, (predictions.kind, predictions.values.shape[1])
        if known is not None and known != now:
            text = f"{now[0]}: {now[1]} classes of {now[0]} (reference {known[1]} of {known[0]})"
            yield _Finding(now[0], 1.0, np.nan, RULE, "changed", text)
        for text, share in bad_predictions(predictions, self._config.sum_tolerance):
            if text not in self._profile.had_bad_predictions:
                finding = f"{now[0]}: {_percent(share)} of rows {text} (reference none)"
                yield _Finding(now[0], share, np.nan, RULE, "changed", finding)

    def _verdict(self, batch: FeatureBatch, findings: list[_Finding]) -> Verdict:
        if not findings:  # nearly always
            return self._quiet_verdict(batch)
        columns = self._columns
        extra = dict.fromkeys(f.column for f in findings if f.column not in self._place)
        if extra:
            columns += tuple(extra)
        k = len(columns)
        statistics, p_values, adjusted, effects = np.zeros(k), np.ones(k), np.ones(k), np.zeros(k)
        directions: list[Direction] = ["changed"] * k
        family = TESTS * max(len(self._columns), 1)
        sure = [finding for finding in findings if _sure(finding, family * self._config.looks)]
        ordered = sorted(findings, key=lambda f: (min(f.effect, 1.0) if f in sure else 0.0, f.effect))
        for finding in ordered:  # the gravest last, so that it stays
            i = columns.index(finding.column)
            statistics[i], p_values[i], effects[i] = finding.statistic, finding.p_value, finding.effect
            adjusted[i] = 0.0 if np.isnan(finding.p_value) else min(finding.p_value * family, 1.0)
            directions[i] = finding.direction
        rows = batch.table.rows
        named = [finding.text for finding in reversed(ordered) if finding in sure]
        more = len(named) - NAMED_MAX
        text = "; ".join(named[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        return Verdict(
            detector=self._name,
            test="rule",  # one word for all findings: what began as one kind and ends as another is one incident
            kind=Kind.QUALITY,
            columns=columns,
            statistics=statistics,
            p_values=p_values,
            adjusted=adjusted,
            effects=effects,
            effect_name="lines_crossed",
            effect_threshold=1.0,
            directions=tuple(directions),
            window=Window(batch.offset, batch.offset, rows),
            finding=text or _as_expected(rows),
            looks=self._config.looks,
        )

    def _quiet_verdict(self, batch: FeatureBatch) -> Verdict:
        zeros, ones, directions = self._quiet
        rows = batch.table.rows
        window = Window(batch.offset, batch.offset, rows)
        return Verdict(
            self._name,
            "rule",
            Kind.QUALITY,
            self._columns,
            zeros,
            ones,
            ones,
            zeros,
            "lines_crossed",
            1.0,
            directions,
            window,
            _as_expected(rows),
            looks=self._config.looks,
        )


def no_data_verdict(detector: str, silent_seconds: float, limit_seconds: float, window: Window) -> Verdict:
    """What `quality` says of a stream that has been silent for too long; a rule, for the engine's ticks.

    Args:
        detector: the configured name.
        silent_seconds: since the stream's last record.
        limit_seconds: `no_data_seconds` of the Config.
        window: the last record's.
    """
    return Verdict(
        detector=detector,
        test="silence",
        kind=Kind.QUALITY,
        columns=("rows",),
        statistics=np.array([silent_seconds]),
        p_values=None,
        adjusted=None,
        effects=np.array([silent_seconds / limit_seconds]),
        effect_name="lines_crossed",
        effect_threshold=1.0,
        directions=("down",),
        window=window,
        finding=f"no data for {silent_seconds:.0f} s (limit {limit_seconds:.0f} s)",
    )


def _quiet(columns: int) -> tuple[FloatArray, FloatArray, tuple[Direction, ...]]:
    """Statistics, p-values and directions of a batch without findings: shared, so nobody may write into them."""
    zeros, ones = np.zeros(columns), np.ones(columns)
    zeros.flags.writeable = ones.flags.writeable = False
    direction: Direction = "changed"
    return zeros, ones, (direction,) * columns


def _as_expected(rows: int) -> str:
    return f"data as in the reference over {rows} rows"


def _all_missing(table: Table, name: str) -> bool:
    """Whether a column holds nothing: its type is then a guess of the codec's."""
    if name in table.numeric:
        return bool(np.isnan(table.numeric[name]).all())
    return name in table.categorical and bool((table.categorical[name].codes < 0).all())


def _sure(finding: _Finding, family: int) -> bool:
    """Whether it is not chance: what `info` needs."""
    return np.isnan(finding.p_value) or finding.p_value * family < 0.05


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"
