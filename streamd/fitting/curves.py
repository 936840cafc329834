"""What every threshold would do to labelled scores: the counts that ROC and precision–recall curves are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamd.table import FloatArray


@dataclass(frozen=True, eq=False)
class Counts:
    """Alarms at every threshold that makes a difference, from the highest, which raises none, down.

    Attributes:
        thresholds: (points,) a row alarms whose score is over it.
        caught: (points,) abnormal rows that alarm.
        false: (points,) normal rows that alarm.
        abnormal, normal: rows of each.
    """

    thresholds: FloatArray
    caught: NDArray[np.int64]
    false: NDArray[np.int64]
    abnormal: int
    normal: int

    @cached_property
    def recall(self) -> FloatArray:
        return np.asarray(self.caught / max(self.abnormal, 1))

    @cached_property
    def false_alarm_rate(self) -> FloatArray:
        return np.asarray(self.false / max(self.normal, 1))

    @cached_property
    def precision(self) -> FloatArray:
        """1 where nothing alarms."""
        alarms = self.caught + self.false
        return np.where(alarms > 0, self.caught / np.maximum(alarms, 1), 1.0)

    @cached_property
    def f1(self) -> FloatArray:
        return np.asarray(2 * self.caught / np.maximum(self.caught + self.false + self.abnormal, 1))


def count_over(scores: FloatArray, labels: NDArray[np.bool_]) -> Counts:
    """The counts of (rows,) scores without NaN and labels, True for abnormal.

    Thresholds lie in the middle between neighbouring scores: those of rows to come fall on neither.

    >>> counts = count_over(np.array([1.0, 2.0, 2.0, 4.0]), np.array([False, False, True, True]))
    >>> counts.thresholds, counts.caught, counts.false
    (array([4. , 3. , 1.5, 1. ]), array([0, 1, 2, 2]), array([0, 0, 1, 2]))
    """
    order = np.argsort(-scores, kind="stable")
    falling, abnormal = scores[order], labels[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # the last row of each distinct score
    caught = np.concatenate([[0], np.cumsum(abnormal)[ends]])
    alarms = np.concatenate([[0], ends + 1])
    distinct = falling[ends]
    lowest = np.nextafter(distinct[-1:], -np.inf)
    thresholds = np.concatenate([distinct[:1], _between(distinct[1:], distinct[:-1]), lowest])
    positives = int(labels.sum())
    return Counts(thresholds, caught, alarms - caught, positives, len(labels) - positives)


def _between(low: FloatArray, high: FloatArray) -> FloatArray:
    """The middle; `low` where rounding or infinity leaves no number that is below `high`."""
    with np.errstate(invalid="ignore", over="ignore"):
        middle = low + (high - low) / 2
    return np.where((low <= middle) & (middle < high), middle, low)
