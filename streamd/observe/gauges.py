"""Gauges that are worked out when Prometheus asks: what each stream looks like now.

Setting a gauge per feature per batch would cost more than judging the batch, so the pump only puts the latest
outcome into the Board, and this collector turns the Board into samples at scrape time.

    streams in the order seen:  a  b  c │ d  e  f …        stream_labels_max = 3
    label:                      a  b  c │ `other` ──▶ the worst of them: largest effect, smallest p-value;
                                                      of alerts that fire, how many

The same holds for the features of a stream; a training run has `run_samples` instead. A label is kept for as long as
the stream is on the Board.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamd.observe import families
from streamd.observe.board import Board, Place, StreamView
from streamd.observe.families import Family
from streamd.observe.run_samples import RUN_FAMILIES, samples_of, sums_of
from streamd.observe.runs import RunView
from streamd.observe.settings import MetricSettings
from streamd.table import FloatArray

OTHER = "other"

STREAM_FAMILIES = (
    families.STREAM_SEVERITY,
    families.ALERTS_FIRING,
    families.WINDOW_STATISTIC,
    families.WINDOW_STATISTIC_THRESHOLD,
    families.VERDICT_EFFECT,
    families.VERDICT_EFFECT_THRESHOLD,
    families.VERDICT_P_VALUE,
    families.FALSE_ALARM_BUDGET,
    families.FALSE_ALARM_JUDGEMENTS,
    *RUN_FAMILIES,
)


class StreamGauges(Collector):
    """The per-stream families of one Board.

    Args:
        board: read at every scrape.
        settings: how many streams, and features of each, have labels of their own.
    """

    def __init__(self, board: Board, settings: MetricSettings) -> None:
        self._board = board
        self._settings = settings
        self._lock = threading.Lock()  # two scrapes may come at once, and labels are given out here
        self._features: dict[tuple[Place, str], set[str]] = {}  # a stream with a label -> its features with one

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(f.name, f.help, labels=f.labels) for f in STREAM_FAMILIES]

    def collect(self) -> Iterable[Metric]:
        samples = _Samples()
        with self._lock:
            views = self._board.views()
            self._keep_labels_of(views)
            for view in views:
                self._add(samples, view)
        return samples.families()

    def _keep_labels_of(self, views: list[StreamView]) -> None:
        """Free the labels of streams that are gone, then give what is free to those seen first."""
        present = {(view.place, view.stream) for view in views}
        for key in self._features.keys() - present:
            del self._features[key]
        for view in views:
            if len(self._features) >= self._settings.stream_labels_max:
                return
            self._features.setdefault((view.place, view.stream), set())

    def _add(self, samples: _Samples, view: StreamView) -> None:
        named = self._features.get((view.place, view.stream))
        stream = view.stream if named is not None else OTHER
        samples.add(families.STREAM_SEVERITY, (stream,), float(view.severity))
        if view.spending is not None:
            samples.add(families.FALSE_ALARM_BUDGET, (stream,), view.spending.ratio)
            samples.count(families.FALSE_ALARM_JUDGEMENTS, (stream,), float(view.spending.judgements))
        for alert in view.firing:
            samples.count(families.ALERTS_FIRING, (stream, alert.detector, alert.severity.word))
        if view.run is not None:
            self._add_run(samples, view, view.run, named)
            return
        for reading in view.readings:
            window = (stream, reading.detector)
            samples.add(families.WINDOW_STATISTIC_THRESHOLD, window, reading.threshold)
            columns = self._labels(named, reading.columns)
            samples.add_columns(families.WINDOW_STATISTIC, window, columns, reading.statistics)
        for judgement in view.judgements:
            verdict = judgement.verdict
            labels = (stream, verdict.detector, verdict.test)
            samples.add(families.VERDICT_EFFECT_THRESHOLD, labels, verdict.effect_threshold)
            columns = self._labels(named, verdict.columns)
            samples.add_columns(families.VERDICT_EFFECT, labels, columns, verdict.effects)
            if verdict.adjusted is not None:
                samples.add_columns(families.VERDICT_P_VALUE, labels, columns, verdict.adjusted)

    def _add_run(self, samples: _Samples, view: StreamView, run: RunView, named: set[str] | None) -> None:
        """Values of runs over the cap are left out: the largest of unlike ones would say nothing."""
        stream = view.stream if named is not None else OTHER
        for family, labels, number in sums_of(run):
            samples.count(family, (stream, *labels), number)
        if named is None:
            return
        if view.event_time_ms is not None:
            samples.add(families.RUN_TIME, (stream,), view.event_time_ms / 1000)
        for family, labels, value in samples_of(run, named, self._settings.feature_labels_max):
            samples.add(family, (stream, *labels), value)

    def _labels(self, named: set[str] | None, columns: tuple[str, ...]) -> list[str] | None:
        """The label of each column; None: all are `other`, because their stream is."""
        if named is None:
            return None
        labels = []
        for column in columns:
            if column not in named and len(named) < self._settings.feature_labels_max:
                named.add(column)
            labels.append(column if column in named else OTHER)
        return labels


class _Samples:
    """Samples by family and labels; where several share their labels, the worst stays."""

    def __init__(self) -> None:
        self._values: dict[Family, dict[tuple[str, ...], float]] = {family: {} for family in STREAM_FAMILIES}
        self._pools: dict[tuple[Family, tuple[str, ...]], list[FloatArray]] = {}

    def add(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        values = self._values[family]
        before = values.get(labels)
        if before is None:
            values[labels] = value
        elif family is families.VERDICT_P_VALUE:  # the smaller, the worse
            values[labels] = min(before, value)
        else:
            values[labels] = max(before, value)

    def count(self, family: Family, labels: tuple[str, ...], number: float = 1.0) -> None:
        """So many more with these labels."""
        values = self._values[family]
        values[labels] = values.get(labels, 0.0) + number

    def add_columns(
        self, family: Family, labels: tuple[str, ...], columns: list[str] | None, values: FloatArray
    ) -> None:
        """One sample a column; a column that could not be judged (NaN) has none, which is not 0.0."""
        if columns is None:  # one reduction for all such streams: there may be ten thousand of them
            self._pools.setdefault((family, (*labels, OTHER)), []).append(values)
            return
        for column, value in zip(columns, values.tolist(), strict=True):
            if not math.isnan(value):
                self.add(family, (*labels, column), value)

    def families(self) -> Iterator[Metric]:
        for (family, labels), pool in self._pools.items():
            values = np.concatenate(pool)
            judged = values[~np.isnan(values)]
            if judged.size:
                worst = judged.min() if family is families.VERDICT_P_VALUE else judged.max()
                self.add(family, labels, float(worst))
        for family, samples in self._values.items():
            metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, value in samples.items():
                metric.add_metric(labels, value)
            yield metric
