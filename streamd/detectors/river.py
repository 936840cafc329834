"""River's online drift and anomaly detectors, by name, on features, batch means or the predictions' entropy."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from pydantic import Field, JsonValue, model_validator

from streamd.detectors.base import Detector, DetectorConfig, Reference, Seasonal, State
from streamd.detectors.judge import TwoSampleSettings
from streamd.detectors.river_state import capture, grow, is_generator, reinstate
from streamd.model import Direction, FeatureBatch, Kind, Verdict, Window
from streamd.table import FloatArray

DRIFT_LINE = 0.5  # of an effect that is 1 where a drift was found
ROW_SCORERS = ("GaussianScorer", "StandardAbsoluteDeviation")  # score one number; HalfSpaceTrees scores a row
NEEDS_LABELS = ("DDM", "EDDM", "FHDDM", "HDDMA", "HDDMW")
ENTROPY = "prediction_entropy"


class RiverConfig(DetectorConfig):
    """Options of `river`.

    >>> from streamd.table import Table
    >>> detector = RiverConfig(detector="ADWIN", params={"delta": 0.001}).build("adwin", None)
    >>> rng = np.random.default_rng(0)
    >>> for offset in range(10):
    ...     amount = rng.normal(5.0 if offset == 9 else 0.0, 1.0, 256)
    ...     outcomes = detector.update(FeatureBatch("fraud/7", 0, offset, Table(256, {"amount": amount})))
    >>> outcomes[0].finding
    'amount changed (ADWIN, over 256 rows)'
    """

    type: Literal["river"] = "river"

    detector: str = "ADWIN"
    """The class: ADWIN, KSWIN, PageHinkley, DummyDriftDetector, NoDrift; HalfSpaceTrees, GaussianScorer,
    StandardAbsoluteDeviation. ADWIN because its false alarms are bounded by its one parameter."""

    params: dict[str, JsonValue] = Field(default_factory=dict)
    """Its parameters, as river names them. A `seed` that is not given is 0: chance may not differ between runs."""

    input: Literal["values", "mean", "entropy"] = "values"
    """What it is fed: every value of a feature, each batch's mean, or the entropy of each row's prediction."""

    columns: tuple[str, ...] = ()
    """Features to watch, each with a detector of its own (HalfSpaceTrees: one for all). Empty: all numeric ones."""

    score_threshold: float | None = Field(default=None, gt=0)
    """For the anomaly detectors, which give scores: the mean score of a batch that matters. Theirs have no
    common scale, so there is no default. HalfSpaceTrees do without: they are shown the reference, their features
    scaled to its range, and a window's scores are then compared with the reference's."""

    judge: TwoSampleSettings = TwoSampleSettings()
    """How HalfSpaceTrees without score_threshold compare them."""

    values_min: int = Field(default=30, ge=1)
    """Values before the first judgement of a column: what river's own detectors wait for."""

    max_columns: int = Field(default=100, ge=1)
    """Columns that are followed, the first that are seen: river is written in Python and costs 0.2 to 300 µs a
    value (KSWIN)."""

    @model_validator(mode="after")
    def _known(self) -> RiverConfig:
        cls = _river_class(self.detector)
        known = [name for name in inspect.signature(cls).parameters if name not in ("window", "sub_stat")]
        for name in self.params:
            if name not in known:
                raise ValueError(f"params.{name}: {self.detector} has no such parameter{_did_you_mean(name, known)}")
        if not self.needs_reference and _scores(self.detector) != (self.score_threshold is not None):
            verb = "needs" if _scores(self.detector) else "finds drift by itself and takes no"
            raise ValueError(f"score_threshold: {self.detector} {verb} score_threshold")
        if self.needs_reference and "limits" in self.params:
            raise ValueError("params.limits: the reference gives them; with score_threshold they are yours to give")
        if self.detector == "HalfSpaceTrees" and self.input != "values":
            raise ValueError("input: HalfSpaceTrees scores rows of features; input must be `values`")
        try:
            judge = _Judge(self, ("x",))
            judge.feed(np.zeros((1, 2)))
            judge.reinstate(judge.capture())
        except Exception as error:  # whatever river says of its parameters is the operator's to read
            raise ValueError(f"params: river's {self.detector} refuses them: {error}") from error
        return self

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]  # of one class of river's, not of all
        return self.detector == "HalfSpaceTrees" and self.score_threshold is None

    @property
    def seasonal(self) -> Seasonal:  # type: ignore[override]  # nor of all inputs
        return None if self.input == "entropy" else "values"

    def profile(self, reference: Reference, weights: bytes | None) -> Any:
        from streamd.detectors.river_trees import learn_reference

        return learn_reference(self.params, self.columns, self.judge, reference)

    def build(self, name: str, profile: Any) -> Detector:
        if self.needs_reference:
            from streamd.detectors.river_trees import HalfSpaceTreesDetector

            return HalfSpaceTreesDetector(name, self.params, profile)
        return RiverDetector(name, self)


class RiverDetector:
    """One stream's river detectors. A rule: the effect is 1 where drift was found, or a batch's mean anomaly score.

    River's detectors learn what they see and start anew after a drift, as river made them: a level that stays
    is found once.
    """

    def __init__(self, name: str, config: RiverConfig) -> None:
        self._name = name
        self._config = config
        self._judges: dict[str, _Judge] = {}  # by column; one under "" for all of them

    def snapshot(self) -> State:
        from importlib.metadata import version

        judges = [[key, list(judge.columns), judge.capture()] for key, judge in self._judges.items()]
        return {"river": version("river"), "judges": judges}

    def restore(self, state: State) -> None:
        from importlib.metadata import version

        self._judges = {}
        if state["river"] != version("river"):
            return  # another river may keep its state otherwise: start anew
        for key, columns, judge in state["judges"]:
            self._judges[key] = _Judge(self._config, tuple(columns))
            self._judges[key].reinstate(judge)

    @property
    def nbytes(self) -> int:
        return 64 + sum(judge.nbytes for judge in self._judges.values())

    def take_over(self, before: RiverDetector, columns: Collection[str]) -> None:
        """See base.ByColumn."""
        self._judges = {key: judge for key, judge in before._judges.items() if not set(judge.columns) & set(columns)}

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        """One Verdict on every batch, once a column has seen `values_min` values."""
        names, found, drifts = [], [], []
        for key, columns, values in self._inputs(batch):
            judge = self._judges.get(key)
            if judge is None:
                if len(self._judges) >= self._config.max_columns:
                    continue
                judge = self._judges[key] = _Judge(self._config, columns)
            if judge.columns != columns:
                continue  # HalfSpaceTrees cannot score a row of other columns
            effect = judge.feed(values)
            names.append(key or "rows")
            found.append(effect if judge.values_seen >= self._config.values_min or effect == 1.0 else np.nan)
            drifts.append(found[-1] > self._line)
        if np.isnan(found).all():
            return ()
        effects = np.array(found)
        kind = Kind.PREDICTIONS if self._config.input == "entropy" else Kind.FEATURES
        moved = [name for name, drift in zip(names, drifts, strict=True) if drift]
        rows = batch.table.rows
        direction: Direction = "up" if _scores(self._config.detector) else "changed"
        verdict = Verdict(
            detector=self._name,
            test="rule",
            kind=kind,
            columns=tuple(names),
            statistics=effects.copy(),
            p_values=None,
            adjusted=None,
            effects=effects,
            effect_name="anomaly_score" if _scores(self._config.detector) else "drift_detected",
            effect_threshold=self._line,
            directions=(direction,) * len(names),
            window=Window(batch.offset, batch.offset, rows),
            finding=self._sentence(moved, rows),
        )
        return (verdict,)

    @property
    def _line(self) -> float:
        return self._config.score_threshold or DRIFT_LINE

    def _sentence(self, moved: list[str], rows: int) -> str:
        if not moved:
            return f"{self._config.detector} found nothing over {rows} rows"
        what = "anomalous" if _scores(self._config.detector) else "changed"
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        return f"{', '.join(moved[:3])}{more} {what} ({self._config.detector}, over {rows} rows)"

    def _inputs(self, batch: FeatureBatch) -> Iterable[tuple[str, tuple[str, ...], FloatArray]]:
        """Key, columns and finite values (columns, rows) of each detector that this batch has something for."""
        table = batch.table
        if self._config.input == "entropy":
            if table.predictions is not None:
                from streamd.scorers.entropy import softmax_entropy

                entropies = softmax_entropy(table.predictions.values, table.predictions.kind)
                yield from _finite(ENTROPY, (ENTROPY,), entropies[None])
            return
        names = self._config.columns or tuple(table.numeric)
        if self._config.detector == "HalfSpaceTrees":
            present = self._judges[""].columns if "" in self._judges else tuple(n for n in names if n in table.numeric)
            if present:
                yield from _finite("", present, table.matrix(present))
            return
        for name in names:
            if name in table.numeric:
                for key, columns, values in _finite(name, (name,), table.numeric[name][None]):
                    means = self._config.input == "mean"
                    yield key, columns, values.mean(axis=1, keepdims=True) if means else values


class _Judge:
    """One of river's objects and what it has been fed."""

    def __init__(self, config: RiverConfig, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self.values_seen = 0
        self._kind = config.detector
        parameters: dict[str, Any] = dict(config.params)
        cls = _river_class(config.detector)
        if "seed" in inspect.signature(cls).parameters and parameters.get("seed") is None:
            parameters["seed"] = 0
        limits = parameters.get("limits")
        if isinstance(limits, dict):
            parameters["limits"] = {name: tuple(pair) for name, pair in limits.items()}
        self._subject = cls(**parameters)
        _settle(self._subject)
        if self._kind == "HalfSpaceTrees":
            grow(self._subject, columns)

    def feed(self, values: FloatArray) -> float:
        """Judge, then learn, `values` (columns, rows): 1.0 or 0.0 for a drift, or the mean score."""
        self.values_seen += values.shape[1]
        if not _scores(self._kind):
            drifts = 0
            for value in values[0].tolist():
                self._subject.update(value)
                drifts += self._subject.drift_detected
            return float(drifts > 0)
        total = 0.0
        for row in values.T.tolist():
            if self._kind == "HalfSpaceTrees":
                features = dict(zip(self.columns, row, strict=True))
                total += self._subject.score_one(features)
                self._subject.learn_one(features)
            else:
                total += self._subject.score_one(None, row[0])
                self._subject.learn_one(None, row[0])
        return float(total / values.shape[1])

    def capture(self) -> State:
        return {"values_seen": self.values_seen, "subject": capture(self._subject)}

    def reinstate(self, state: State) -> None:
        self.values_seen = state["values_seen"]
        reinstate(self._subject, state["subject"])

    @property
    def nbytes(self) -> int:
        return _size(self.capture())


def _finite(
    key: str, columns: tuple[str, ...], values: FloatArray
) -> Iterable[tuple[str, tuple[str, ...], FloatArray]]:
    """The rows (columns, rows) without a value that is missing or infinite, if there are any."""
    kept = values[:, np.isfinite(values).all(axis=0)]
    if kept.shape[1]:
        yield key, columns, kept


def _scores(detector: str) -> bool:
    return detector == "HalfSpaceTrees" or detector in ROW_SCORERS


def _river_class(name: str) -> Any:
    """River's class of that name; imported late because river takes a second.

    Raises:
        ValueError: there is none that can be used here.
    """
    from river import anomaly, base, drift

    # Not by __all__, which names a class that 0.26 no longer has.
    known = {k: cls for k, cls in vars(drift).items() if isinstance(cls, type) and issubclass(cls, base.DriftDetector)}
    known |= {key: getattr(anomaly, key) for key in ("HalfSpaceTrees", *ROW_SCORERS)}
    if name in NEEDS_LABELS:
        raise ValueError(f"detector: {name} watches a model's errors, and a batch carries no labels")
    if name not in known:
        raise ValueError(f"detector: {name} is not one of {', '.join(known)}{_did_you_mean(name, list(known))}")
    return known[name]


def _did_you_mean(word: str, known: list[str]) -> str:
    lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), lower, n=1)
    return f"; did you mean {lower[close[0]]}?" if close else ""


def _settle(subject: Any) -> None:
    """Seed the generators that river left to chance: equal input, equal state."""
    for value in vars(subject).values():
        if is_generator(value) and getattr(subject, "seed", None) is None:
            value.seed(0)
        elif type(value).__module__.startswith("river.") and hasattr(value, "__dict__"):
            _settle(value)


def _size(value: Any) -> int:
    """Memory of a captured state in bytes: arrays as they are, 64 for any other value."""
    if isinstance(value, dict):
        return 64 + sum(_size(item) for item in value.values())
    if isinstance(value, list):
        return 64 + sum(_size(item) for item in value)
    return int(getattr(value, "nbytes", 64))
