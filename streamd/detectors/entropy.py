"""How unsure the model is: the entropy of its predictions against the reference and against its own past."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamd.detectors.base import DetectorConfig, Reference, Remembers, Seasonal, State
from streamd.detectors.collapse import ClassShare, share_by_phase, share_of
from streamd.detectors.histogram import Histogram
from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.detectors.past import RollingPast, prediction_p_value
from streamd.detectors.wording import drifted
from streamd.detectors.worst import Judgements, WorstRows
from streamd.model import Direction, FeatureBatch, Kind, Reading, Verdict, Window
from streamd.seasons import ByPhase, phase_doubt
from streamd.table import FloatArray

SCORE = "entropy"
MEAN = "entropy_mean"
CLASS_SHARE = "class_share"
LEARN_BELOW_P = 0.05  # a batch whose effect matters is learned only where chance explains it this well
VALUES_NAMED_MAX = 10  # predicted values that a named row brings along


class EntropyConfig(DetectorConfig):
    """Shannon entropy of each prediction, in nats: a sudden rise, a sudden fall, a collapse to one class.

    Three judgements of one score. Its distribution over a window is compared with the reference's by
    Kolmogorov–Smirnov. Its mean over each batch is compared with the means of the batches before it by
    Student's t, which notices within one batch what a window takes longer to show. And a batch nearly all of
    whose rows were given one class is named when the reference was not like that.
    """

    type: Literal["entropy"] = "entropy"
    judges: ClassVar[int] = 3
    seasonal: ClassVar[Seasonal] = "phases"

    judge: TwoSampleSettings = TwoSampleSettings()
    """How a window's entropies are compared with the reference's."""

    batch_rows_min: int = Field(default=50, ge=2)
    """Messages of fewer rows are judged together: the mean of fewer says little, and one class of few is luck."""

    past_batches: int = Field(default=100, ge=3)
    """Batch means remembered. They are also the looks among which one false alarm would count: where `false_alarms`
    is null, a p-value must be this many times smaller."""

    past_batches_min: int = Field(default=30, ge=2)
    """Batch means before the first is judged: of fewer the deviation is hardly known."""

    past_effect_threshold: float = Field(default=0.5, ge=0)
    """A batch mean must move by more than this many standard deviations of the reference's rows to matter."""

    collapse_share: float = Field(default=0.99, gt=0.5, le=1)
    """A batch has collapsed to one class when at least this share of its rows was given it …"""

    collapse_reference_share: float = Field(default=0.9, gt=0, lt=1)
    """… and less than this share of the reference's rows was: a rare-event model says `no` all day."""

    worst_rows: int = Field(default=5, ge=0, le=100)
    """Rows of highest entropy that are named when it rose."""

    @model_validator(mode="after")
    def _shares_and_counts_fit(self) -> EntropyConfig:
        if self.past_batches_min > self.past_batches:
            raise ValueError("past_batches_min must not be over past_batches: it would never be reached")
        if self.collapse_reference_share >= self.collapse_share:
            raise ValueError("collapse_reference_share must be under collapse_share")
        return self

    def profile(self, reference: Reference, weights: bytes | None = None) -> EntropyProfile | None:
        """None where the reference has too few predictions to compare with."""
        from streamd.scorers.entropy import entropies_and_winners  # numba, which the command line need not wait for

        predictions = reference.table.predictions
        if predictions is None:
            return None
        entropies, winners = entropies_and_winners(predictions.values, predictions.kind)
        season = None
        if reference.phases is not None and reference.phase_rows is not None:
            season = ByPhase(entropies, reference.phases, len(reference.phase_rows))
            entropies = season.told(entropies, reference.phases)
            winners[np.isnan(entropies)] = -1
        counted = winners >= 0
        known = entropies[counted]
        if len(known) < 2:
            return None
        # A reference whose rows are all alike gives no scale: then 1 % of the largest entropy there can be.
        classes = max(2, predictions.values.shape[1])
        scale = max(float(known.std(ddof=1)), 0.01 * math.log(classes))
        judge = TwoSampleProfile((SCORE,), entropies[None, :], self.judge, None if season is None else season.rows)
        phases = None if reference.phases is None else reference.phases[counted]
        return EntropyProfile(judge, scale, winners[counted], classes, season, phases)

    def build(self, name: str, profile: EntropyProfile | None) -> EntropyDetector:
        return EntropyDetector(name, self, profile)


@dataclass(frozen=True, eq=False)
class EntropyProfile:
    """The reference, prepared.

    Attributes:
        judge: the entropies of its rows.
        scale: their standard deviation in nats, never 0.
        winners: (rows,) the class that each row was given.
        classes: how many there are.
        season: makes entropies those of an average time; None: there is no season.
        phases: (rows,) of each row; likewise.
    """

    judge: TwoSampleProfile
    scale: float
    winners: NDArray[np.int32]
    classes: int
    season: ByPhase | None = None
    phases: NDArray[np.intp] | None = None

    def class_share(self, winner: int, phases: Mapping[int, int]) -> ClassShare:
        """Of the reference, where there is a season of so many rows of its `phases`."""
        won = self.winners == winner
        if self.season is None or self.phases is None:
            return share_of(won)
        return share_by_phase(won, self.phases, self.season.rows, phases)


@dataclass(frozen=True, slots=True)
class Block:
    """Messages that are judged as one batch, once they have enough rows.

    Attributes:
        first_offset: of the first record in it; -1 while it is empty.
        rows: those with an entropy.
        total: the sum of the entropies.
        squares: the sum of their squares.
        counts: (classes,) how many rows were given each class.
        phases: of the season, where there is one -> rows.
    """

    first_offset: int
    rows: int
    total: float
    squares: float
    counts: NDArray[np.int64]
    phases: Mapping[int, int] = field(default_factory=dict)


EMPTY = Block(-1, 0, 0.0, 0.0, np.zeros(0, dtype=np.int64))


class EntropyDetector:
    """The entropies of one stream. See EntropyConfig; batches without predictions are passed over.

    >>> from streamd.table import Predictions, Table
    >>> rng = np.random.default_rng(0)
    >>> def served(rows, sharpness):
    ...     return Table(rows, predictions=Predictions("logits", sharpness * rng.normal(size=(rows, 3))))
    >>> config = EntropyConfig()
    >>> reference = served(2000, 4.0)
    >>> detector = config.build("entropy", config.profile(Reference(reference, reference.sha256(), "batches")))
    >>> (verdict, *_) = detector.update(FeatureBatch("fraud/7", 0, 42, served(1000, 0.5)))
    >>> verdict.finding.split(" (")[0]
    'entropy rose: the model is unsure'
    """

    def __init__(self, name: str, config: EntropyConfig, profile: EntropyProfile | None) -> None:
        self.name = name
        self.config = config
        self.profile = profile
        self.past = RollingPast(config.past_batches)
        self.worst = WorstRows(config.worst_rows)
        self.judgements = Judgements(config.judge.window_rows, config.judge.stride_rows)
        self.block = EMPTY
        if profile is None:
            return
        from streamd.scorers.entropy import entropies_and_winners

        self._score = entropies_and_winners
        self.judge = TwoSampleJudge(name, Kind.PREDICTIONS, profile.judge)

    # --- Judge, then learn ---

    def update(self, batch: FeatureBatch) -> tuple[Verdict, ...]:
        predictions = batch.table.predictions
        if self.profile is None or predictions is None or not batch.table.rows:
            return ()
        entropies, winners = self._score(predictions.values, predictions.kind)
        if self.profile.season is not None and batch.phase is not None:
            entropies = self.profile.season(entropies, batch.phase, batch.offset)
            winners[np.isnan(entropies)] = -1
        verdicts = self._against_reference(self.profile, batch, entropies)
        counted = np.bincount(winners + 1)  # its first place counts the rows without a class
        block = self.block = _joined(self.block, batch, entropies, counted[1:])
        if block.rows >= self.config.batch_rows_min:
            self.block = EMPTY
            window = Window(block.first_offset, batch.offset, block.rows)
            collapse = self._collapse(self.profile, block, window)
            verdicts.extend(self._against_past(self.profile, block, window, collapsed=bool(collapse.effects[0] > 0)))
            verdicts.append(collapse)
        return tuple(verdicts)

    def _against_reference(self, profile: EntropyProfile, batch: FeatureBatch, entropies: FloatArray) -> list[Verdict]:
        """The window's distribution by Kolmogorov–Smirnov, with the rows of highest entropy since the last look."""

        predictions = batch.table.predictions
        assert predictions is not None

        def describe(rows: NDArray[np.int64]) -> list[Mapping[str, dict[str, float]]]:
            values = predictions.values[rows, :VALUES_NAMED_MAX]
            # The rows are kept, in thousands of streams: one copy of each name is enough.
            names = [intern(f"{predictions.kind}[{i}]") for i in range(values.shape[1])]
            return [{"features": dict(zip(names, row, strict=True))} for row in values.tolist()]

        named = []
        start = 0
        for end in self.judgements.cuts(len(entropies)):
            self.worst.offer(entropies[start:end], batch, start, describe)
            named.append(self.worst.take())
            start = end
        self.worst.offer(entropies[start:], batch, start, describe)
        verdicts: list[Verdict] = []
        for verdict, rows in zip(self.judge.update(entropies[None, :], batch.offset, batch.phase), named, strict=True):
            direction = verdict.directions[0]
            verdicts.append(
                dataclasses.replace(
                    verdict,
                    finding=_reworded(verdict.finding, SCORE, direction),
                    rows=rows if direction != "down" else (),  # the highest entropies say nothing about a fall
                )
            )
        return verdicts

    def _against_past(
        self, profile: EntropyProfile, block: Block, window: Window, *, collapsed: bool
    ) -> tuple[Verdict, ...]:
        """The batch's mean in the prediction interval of the means before it; nothing before enough of them.

        The variance is that of the past means plus what the reference's rows, as dependent as they are, give a
        mean of this many, and of this phase of a season. So a small batch after large ones is not a surprise, nor a
        rare one among skewed means: on dependent healthy rows (AR(1), ρ = 0.97) the past's variance alone raised 5
        false alarms in 18,000 batches. And the interval is as wide as the autocorrelation of the past means makes it.
        """
        mean = block.total / block.rows
        n = len(self.past)
        if n < self.config.past_batches_min:
            if not collapsed:
                self.past.learn(mean)
            return ()
        usual, deviation = self.past.mean_and_deviation()
        shift = mean - usual
        time = float(profile.judge.reference_times[0])
        expected = profile.scale * math.sqrt(time / block.rows)
        if profile.season is not None:
            shares = np.zeros(len(profile.season.rows))
            shares[list(block.phases)] = np.array(list(block.phases.values())) / block.rows
            expected = math.hypot(expected, profile.scale * math.sqrt(time * phase_doubt(shares, profile.season.rows)))
        # Few far rows move the mean and the variance together: see `kernels_columns.standardise`.
        own = math.sqrt(max(block.squares / block.rows - mean * mean, 0.0))
        deviation = math.hypot(deviation, expected) * max(1.0, own / profile.scale)
        t, p = prediction_p_value(shift, deviation, n, self.past.correlation())
        effect = abs(shift) / profile.scale
        chance = p * self.config.past_batches >= LEARN_BELOW_P
        if not collapsed and (chance or effect <= self.config.past_effect_threshold):
            self.past.learn(mean)
        return (self._past_verdict(t, p, effect, window),)

    def _past_verdict(self, t: float, p_value: float, effect: float, window: Window) -> Verdict:
        direction: Direction = "up" if t > 0 else "down"
        threshold = self.config.past_effect_threshold
        finding = f"no drift over {window.rows} rows (t={t:.2g} against the past of batch means)"
        if effect > threshold and p_value * self.config.past_batches < LEARN_BELOW_P:
            judged = np.array([t]), np.array([p_value]), np.array([effect])
            finding = drifted((MEAN,), *judged, threshold, (direction,), "t", window.rows)
        return Verdict(
            detector=self.name,
            test="t",
            kind=Kind.PREDICTIONS,
            columns=(MEAN,),
            statistics=np.array([t]),
            p_values=np.array([p_value]),
            adjusted=np.array([p_value]),
            effects=np.array([effect]),
            effect_name="deviations",
            effect_threshold=threshold,
            directions=(direction,),
            window=window,
            finding=_reworded(finding, MEAN, direction),
            looks=self.config.past_batches,
        )

    def _collapse(self, profile: EntropyProfile, block: Block, window: Window) -> Verdict:
        """The commonest class of the batch: has it swallowed the others, and by chance?"""
        winner = int(np.argmax(block.counts))
        share = int(block.counts[winner]) / block.rows
        known, p_value = ClassShare(1.0, 1.0, 1.0), 1.0
        if share >= self.config.collapse_share:
            known = profile.class_share(winner, block.phases)
        usual = known.share
        collapsed = usual < self.config.collapse_reference_share
        if collapsed:
            p_value = known.tail(int(block.counts[winner]), block.rows)
        said = f"{share:.3g} of {block.rows} predictions are class {winner}"
        return Verdict(
            detector=self.name,
            test="binomial",
            kind=Kind.PREDICTIONS,
            columns=(CLASS_SHARE,),
            statistics=np.array([share]),
            p_values=np.array([p_value]),
            adjusted=np.array([min(1.0, p_value * profile.classes)]),  # any of the classes might have won
            effects=np.array([share - usual if collapsed else 0.0]),
            effect_name="class_share_rise",
            effect_threshold=self.config.collapse_share - self.config.collapse_reference_share,
            directions=("up",),
            window=window,
            finding=f"the model collapsed to one class: {said} ({usual:.2g} of the reference)" if collapsed else said,
            looks=self.config.past_batches,
        )

    def readings(self) -> tuple[Reading, ...]:
        """See base.Readable."""
        return self.judge.readings() if self.profile is not None else ()

    def histogram(self, column: str) -> Histogram | None:
        return self.judge.histogram(column) if self.profile is not None else None

    # --- State ---

    def take_over(self, before: EntropyDetector, columns: Collection[str]) -> None:
        """See base.ByColumn; the columns are features, and this looks at predictions alone."""
        self.restore(before.snapshot())

    def snapshot(self) -> State:
        block = self.block
        return {
            "judge": self.judge.snapshot() if self.profile is not None else None,
            "past": self.past.snapshot(),
            "worst": self.worst.snapshot(),
            "judgements": self.judgements.snapshot(),
            "block": [block.first_offset, block.rows, block.total, block.squares, block.counts.copy()],
        } | ({"block_phases": [list(each) for each in block.phases.items()]} if block.phases else {})

    def restore(self, state: State) -> None:
        if self.profile is not None:
            self.judge.restore(state["judge"])
        self.past.restore(state["past"])
        self.worst.restore(state["worst"])
        self.judgements.restore(state["judgements"])
        first_offset, rows, total, squares, counts = state["block"]
        phases = dict(state.get("block_phases", ()))
        self.block = Block(first_offset, rows, total, squares, counts.copy(), phases)

    @property
    def nbytes(self) -> int:
        parts: tuple[Remembers, ...] = (self.past, self.worst, self.judgements)
        judge = self.judge.nbytes if self.profile is not None else 0
        return judge + sum(part.nbytes for part in parts) + int(self.block.counts.nbytes)


def _joined(block: Block, batch: FeatureBatch, entropies: FloatArray, counts: NDArray[np.int64]) -> Block:
    """The block with one more message in it."""
    rows, offset = int(counts.sum()), batch.offset
    phases = dict(block.phases)
    if rows and batch.phase is not None:
        phases[batch.phase] = phases.get(batch.phase, 0) + rows
    known = entropies if rows == len(entropies) else entropies[~np.isnan(entropies)]
    total, squares = float(known.sum()), float(known @ known)
    if block.rows == 0:
        return Block(offset if block.first_offset < 0 else block.first_offset, rows, total, squares, counts, phases)
    both = np.zeros(max(len(counts), len(block.counts)), dtype=np.int64)
    both[: len(block.counts)] = block.counts
    both[: len(counts)] += counts
    return Block(block.first_offset, block.rows + rows, block.total + total, block.squares + squares, both, phases)


def _reworded(finding: str, column: str, direction: Direction) -> str:
    """Say what a rise and a fall of the entropy mean, where the sentence claims one."""
    meaning = {
        "up": "entropy rose: the model is unsure",
        "down": "entropy fell: the model is over-confident or its input degenerate",
        "changed": "entropy changed its distribution",
    }
    moved = "changed" if direction == "changed" else f"drifted {direction}"
    return finding.replace(f"{column} {moved}", meaning[direction], 1)
