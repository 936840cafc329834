"""What `quality` knows of the reference, and what it looks for in any table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamd.detectors.dependence import autocorrelation_times, centred_ranks
from streamd.detectors.shares import largest_shares
from streamd.table import FloatArray, Predictions, Table


@dataclass(frozen=True, eq=False)
class QualityProfile:
    """The reference's schema and habits, over k columns: the numeric ones, then the categorical ones.

    Attributes:
        names, categorical: the columns' names.
        arrays: n-dimensional features and the shape of a row.
        missing: (k,) share of missing values.
        missing_times: (k,) τ of being missing.
        missing_limits: (k,) its upper confidence limit at 1 − doubt.
        commonest_limits: (k,) upper confidence limit of the commonest value's share; 1 for a constant column.
        times: (k,) τ of the column.
        had_non_finite: (numeric columns,) whether the reference held any itself.
        had_non_finite_arrays: the n-dimensional features that did.
        predictions: kind and number of classes.
        had_bad_predictions: what was wrong with them already.
        phases: of a season, the habits of its rows; None where there are too few of them. Nothing without a season.
    """

    names: tuple[str, ...]
    categorical: tuple[str, ...]
    arrays: dict[str, tuple[int, ...]]
    missing: FloatArray
    missing_times: FloatArray
    missing_limits: FloatArray
    commonest_limits: FloatArray
    times: FloatArray
    doubt: float
    had_non_finite: Any
    had_non_finite_arrays: frozenset[str]
    predictions: tuple[str, int] | None
    had_bad_predictions: frozenset[str]
    phases: tuple[QualityProfile | None, ...] = ()

    def at(self, phase: int | None) -> QualityProfile:
        """What is known of that phase of the season; of all, where it is little."""
        return self if phase is None or not self.phases else self.phases[phase] or self


def profile_of(table: Table, doubt: float, sum_tolerance: float, dependent: bool) -> QualityProfile:
    """Prepare a reference. `doubt` as in `shares`; `dependent` counts n/τ rows."""
    names = tuple(table.numeric)
    matrix = table.matrix(names)
    nans, infinite, _ = value_counts(matrix)
    nulls = np.array([table.nulls.get(name, 0) for name in names], np.int64)
    columns = (*names, *table.categorical)
    gone = [*np.isnan(matrix), *(column.codes < 0 for column in table.categorical.values())]
    codes = [*matrix, *(np.where(c.codes < 0, np.nan, c.codes) for c in table.categorical.values())]
    missing = np.array([np.count_nonzero(rows) for rows in gone], np.float64)
    present = table.rows - missing
    commonest = np.array([_commonest(column) for column in codes], np.float64)
    gone_times, times = np.ones(len(columns)), np.ones(len(columns))
    if dependent:
        for i in range(len(columns)):  # one at a time: a reference may be long
            gone_times[i] = autocorrelation_time(gone[i].astype(np.float64))
            times[i] = autocorrelation_time(codes[i])
    return QualityProfile(
        names=names,
        categorical=tuple(table.categorical),
        arrays={name: array.shape[1:] for name, array in table.arrays.items()},
        missing=missing / max(table.rows, 1),
        missing_times=gone_times,
        missing_limits=largest_shares(missing / gone_times, table.rows / gone_times, doubt),
        commonest_limits=largest_shares(commonest / times, present / times, doubt),
        times=times,
        doubt=doubt,
        had_non_finite=(nans - nulls + infinite) > 0,
        had_non_finite_arrays=frozenset(non_finite_arrays(table)),
        predictions=_prediction_type(table.predictions),
        had_bad_predictions=frozenset(text for text, _ in bad_predictions(table.predictions, sum_tolerance)),
    )


def value_counts(matrix: FloatArray) -> Any:
    from streamd.detectors import kernels_columns  # numba costs more to import than most commands take

    return kernels_columns.value_counts(matrix)


def autocorrelation_time(column: FloatArray) -> float:
    """τ of one column (rows,)."""
    return float(autocorrelation_times(centred_ranks(column)[None])[0])


def _prediction_type(predictions: Predictions | None) -> tuple[str, int] | None:
    return None if predictions is None else (predictions.kind, predictions.values.shape[1])


def non_finite_arrays(table: Table) -> dict[str, int]:
    """How many values of n-dimensional features are not finite, of those that have any."""
    counts = {name: int(np.count_nonzero(~np.isfinite(array))) for name, array in table.arrays.items()}
    return {name: count for name, count in counts.items() if count}


def _commonest(column: FloatArray) -> int:
    """How often the commonest value of (rows,) occurs; NaN is no value."""
    _, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    return int(counts.max(initial=0))


def bad_predictions(predictions: Predictions | None, tolerance: float) -> Iterable[tuple[str, float]]:
    """What is wrong with predictions, and the share of rows concerned."""
    if predictions is None or predictions.values.size == 0:
        return
    values = predictions.values  # (rows, classes)
    finite = np.isfinite(values)
    if not finite.all():
        yield "not finite", float(np.mean(~finite.all(axis=1)))
    if predictions.kind == "probabilities":
        with np.errstate(invalid="ignore", over="ignore"):
            outside = ((values < 0) | (values > 1)).any(axis=1)
            wrong_sum = np.abs(values.sum(axis=1) - 1.0) > tolerance
            wrong_sum &= values.shape[1] > 1  # one column is the probability of one of two classes
        if outside.any():
            yield "outside 0 to 1", float(np.mean(outside))
        if wrong_sum.any():
            yield "do not sum to 1", float(np.mean(wrong_sum))
