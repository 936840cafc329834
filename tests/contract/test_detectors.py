"""What every detector promises: each Config of the registry goes through all of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest

from streamd.detectors.base import Detector, DetectorConfig, Readable, Reference
from streamd.detectors.registry import AnyDetectorConfig
from streamd.fitting import fit
from streamd.fitting.isolation import IsolationSettings
from streamd.fitting.learning import FitOptions
from streamd.fitting.learning import fit as fit_scorer
from streamd.fitting.thresholds import EvtThreshold
from streamd.model import FeatureBatch, Kind, Outcome, Reading, Verdict
from streamd.scorers.fitted import to_bytes
from streamd.state import pack, unpack
from streamd.table import Categorical, Predictions, Table

CONFIGS: list[type[DetectorConfig]] = list(get_args(get_args(AnyDetectorConfig)[0]))
BATCH_ROWS, BATCHES = 300, 12  # more rows than any default window, and more than one judgement of each
WARM_BATCHES = 60  # more than any detector's past in batches needs before it judges
CATEGORIES = ("red", "green", "blue")
ODD_VALUES = [0.0, -0.0, 1.0, 1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324]

pytestmark = pytest.mark.parametrize("config_type", CONFIGS, ids=lambda config_type: config_type.__name__)


def table_of(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Table:
    """Numbers of several kinds, categories, an image and probabilities."""
    logits = rng.normal(size=(rows, 3)) + shift * np.array([1.0, 0.0, -1.0])
    exponentials = np.exp(logits)
    return Table(
        rows,
        numeric={
            "amount": rng.normal(shift, 1.0, rows),
            "age": rng.integers(18, 90, rows).astype(float),
            "income": rng.lognormal(shift, 2.0, rows),
            "constant": np.full(rows, 3.0),
            "gaps": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
        },
        categorical={"colour": Categorical(rng.integers(-1, 3, rows).astype(np.int32), CATEGORIES)},
        arrays={"pixels": rng.random((rows, 2, 2))},
        predictions=Predictions("probabilities", exponentials / exponentials.sum(axis=1, keepdims=True)),
    )


@cache
def reference() -> Reference:
    table = table_of(np.random.default_rng(1), 2000)
    return Reference(table, table.sha256(), "batches")


def forest() -> bytes:
    """What a bundle holds: an isolation forest whose threshold goes on learning."""
    options = FitOptions(EvtThreshold(rate=0.01))
    return to_bytes(fit_scorer(IsolationSettings(trees=10), reference().table, options=options).fitted)


@cache
def profile_of(config_type: type[DetectorConfig]) -> tuple[DetectorConfig, Any]:
    config = config_type()
    if not config.needs_reference:
        return config, None
    weights = fit(config, reference()) if config.needs_fit else forest() if config.from_bundle else None
    return config, config.profile(reference(), weights)


def built(config_type: type[DetectorConfig]) -> Detector:
    config, profile = profile_of(config_type)
    return config.build("watch", profile)


def batches(count: int = BATCHES, rows: int = BATCH_ROWS, shift_from: int = 7, first: int = 0) -> list[FeatureBatch]:
    """Batches one minute apart, numbered from `first`, of which those from the `shift_from`-th on have drifted."""
    rng = np.random.default_rng(2)
    return [batch(table_of(rng, rows, 1.0 if i >= shift_from else 0.0), first + i) for i in range(count)]


def batch(table: Table, number: int) -> FeatureBatch:
    return FeatureBatch("fraud/7", 60_000 * number, 100 + number, table, tuple(f"row{i}" for i in range(table.rows)))


def said(outcomes: Iterable[Outcome]) -> list[str]:
    """Everything about the outcomes, to the last bit."""
    return [repr([(field.name, _exact(getattr(o, field.name))) for field in dataclasses.fields(o)]) for o in outcomes]


def _exact(value: Any) -> Any:
    return (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value


def check(outcomes: Iterable[Outcome]) -> None:
    """Shapes agree; numbers are finite, or NaN where a column could not be judged."""
    for outcome in outcomes:
        k = len(outcome.columns)
        assert outcome.detector == "watch"
        assert outcome.statistics.shape == (k,)
        assert not np.isinf(outcome.statistics).any()
        if isinstance(outcome, Reading):
            continue
        judged = ~np.isnan(outcome.effects)
        assert outcome.effects.shape == (k,)
        assert len(outcome.directions) == k
        assert (outcome.effects[judged] >= 0).all()
        assert not np.isinf(outcome.effects).any()
        for p_values in (outcome.p_values, outcome.adjusted):
            if p_values is not None:
                assert p_values.shape == (k,)
                assert (np.isnan(p_values) | ((p_values >= 0) & (p_values <= 1))).all()
        assert outcome.window.first_offset <= outcome.window.last_offset
        assert outcome.window.rows > 0 or outcome.kind is Kind.QUALITY  # an empty batch is news there
        assert outcome.finding


def told(detector: Detector, observed: FeatureBatch) -> list[Outcome]:
    """What the batch leads to: the verdicts, and what there is to show then."""
    return [*detector.update(observed), *(detector.readings() if isinstance(detector, Readable) else ())]


def fold(detector: Detector, fed: Iterable[FeatureBatch]) -> list[Outcome]:
    outcomes = [outcome for observed in fed for outcome in told(detector, observed)]
    check(outcomes)
    return outcomes


def test_the_defaults_build_and_their_type_is_the_word_in_the_configuration(config_type: type[DetectorConfig]) -> None:
    assert built(config_type).nbytes >= 0
    assert config_type().model_dump()["type"] == config_type.model_fields["type"].default


def test_the_same_batches_give_the_same_outcomes_to_the_last_bit(config_type: type[DetectorConfig]) -> None:
    assert said(fold(built(config_type), batches())) == said(fold(built(config_type), batches()))


def test_it_judges_something_before_long(config_type: type[DetectorConfig]) -> None:
    outcomes = fold(built(config_type), batches(count=WARM_BATCHES, shift_from=WARM_BATCHES - 5))
    assert any(isinstance(outcome, Verdict) for outcome in outcomes)


def test_every_judge_with_p_values_has_a_share_of_the_budget(config_type: type[DetectorConfig]) -> None:
    outcomes = fold(built(config_type), batches(count=WARM_BATCHES, shift_from=WARM_BATCHES - 5))
    judges = {(o.kind, o.test) for o in outcomes if isinstance(o, Verdict) and o.adjusted is not None}
    assert len(judges) <= config_type.judges
    assert config_type.judges == 0 or judges, "nothing would spend the share"


@pytest.mark.parametrize("stopped_after", [0, 1, 4, 9])
def test_a_restart_changes_nothing(config_type: type[DetectorConfig], stopped_after: int) -> None:
    fed = batches()
    whole, first, second = (built(config_type) for _ in range(3))
    expected = [said(told(whole, observed)) for observed in fed]
    fold(first, fed[:stopped_after])
    second.restore(unpack(pack(first.snapshot())))
    assert [said(told(second, observed)) for observed in fed[stopped_after:]] == expected[stopped_after:]


def test_a_snapshot_shares_no_memory_with_the_detector(config_type: type[DetectorConfig]) -> None:
    detector, other = built(config_type), built(config_type)
    fed = batches()
    fold(detector, fed[:5])
    snapshot = detector.snapshot()
    before = pack(snapshot)
    other.restore(snapshot)
    fold(detector, fed[5:])
    fold(other, fed[5:])
    assert pack(snapshot) == before


def test_state_stops_growing(config_type: type[DetectorConfig]) -> None:
    detector = built(config_type)
    sizes, written = [], []
    for observed in batches(count=450, rows=20, shift_from=450):
        detector.update(observed)
        sizes.append(detector.nbytes)
        written.append(len(pack(detector.snapshot())))
    assert max(sizes[300:]) <= 1.05 * max(sizes[:300])
    assert max(written[300:]) <= 1.05 * max(written[:300])


def test_the_input_is_neither_changed_nor_kept(config_type: type[DetectorConfig]) -> None:
    """Read-only views of a buffer that is overwritten after each batch: what a network client hands over."""
    expected = said(fold(built(config_type), batches()))
    detector = built(config_type)
    outcomes = []
    for observed in batches():
        table = observed.table
        arrays = [*table.numeric.values(), *table.arrays.values(), *(c.codes for c in table.categorical.values())]
        arrays += [table.predictions.values] if table.predictions is not None else []
        for array in arrays:
            array.flags.writeable = False
        digest = table.sha256()
        outcomes += said(told(detector, observed))
        assert table.sha256() == digest
        for array in arrays:
            array.flags.writeable = True
            array[...] = 1
        for matrix in table._matrices.values():
            matrix[...] = 1
    assert outcomes == expected


def test_no_rows_are_nothing_and_change_nothing(config_type: type[DetectorConfig]) -> None:
    fed = batches()
    empty = batch(table_of(np.random.default_rng(0), 0), 3)
    nothing = batch(Table(0), 3)
    interrupted = built(config_type)
    outcomes = fold(interrupted, fed[:4])
    for nobody in (empty, nothing):
        found = interrupted.update(nobody)
        assert all(outcome.kind is Kind.QUALITY for outcome in found if isinstance(outcome, Verdict))
    outcomes += fold(interrupted, fed[4:])
    assert said(outcomes) == said(fold(built(config_type), fed))


def test_one_row_at_a_time_is_taken(config_type: type[DetectorConfig]) -> None:
    rng = np.random.default_rng(3)
    fold(built(config_type), [batch(table_of(rng, 1), i) for i in range(1100)])


def test_a_batch_of_many_windows_is_taken(config_type: type[DetectorConfig]) -> None:
    rng = np.random.default_rng(4)
    fold(built(config_type), [batch(table_of(rng, 7001), i) for i in range(2)])


def test_constant_columns_ties_and_values_that_are_no_numbers_are_taken(config_type: type[DetectorConfig]) -> None:
    rng = np.random.default_rng(5)
    odd = []
    for i in range(24):
        whole = table_of(rng, BATCH_ROWS)
        values = [
            np.full(BATCH_ROWS, 3.0),
            np.full(BATCH_ROWS, np.nan),
            np.full(BATCH_ROWS, np.inf),
            rng.integers(0, 2, BATCH_ROWS).astype(float),
            rng.choice(ODD_VALUES, BATCH_ROWS),
        ]
        numeric = {name: values[(i // 4 + j) % 5] for j, name in enumerate(whole.numeric)}
        probabilities = rng.choice([np.nan, 0.0, 1.0], (BATCH_ROWS, 3)) if i % 2 else np.full((BATCH_ROWS, 3), 1 / 3)
        codes = np.full(BATCH_ROWS, (i % 4) - 1, np.int32)
        table = Table(
            BATCH_ROWS,
            numeric,
            categorical={"colour": Categorical(codes, CATEGORIES)},
            arrays={"pixels": np.full((BATCH_ROWS, 2, 2), np.nan)},
            predictions=Predictions("probabilities", probabilities),
        )
        odd.append(batch(table, i))
    detector = built(config_type)
    fold(detector, odd)
    fold(detector, batches(first=24))


def test_columns_may_go_come_and_change_their_type(config_type: type[DetectorConfig]) -> None:
    rng = np.random.default_rng(6)
    detector = built(config_type)
    for i in range(24):
        whole = table_of(rng, BATCH_ROWS)
        colour = whole.categorical["colour"]
        one_more = np.concatenate([whole.predictions.values, np.zeros((BATCH_ROWS, 1))], axis=1)  # type: ignore[union-attr]
        changed = [
            whole,
            Table(BATCH_ROWS, {"amount": whole.numeric["amount"]}),
            Table(BATCH_ROWS, {**whole.numeric, f"new{i}": rng.normal(size=BATCH_ROWS)}, predictions=whole.predictions),
            Table(BATCH_ROWS, {"colour": rng.normal(size=BATCH_ROWS)}, categorical={"amount": colour, "gaps": colour}),
            Table(BATCH_ROWS, predictions=Predictions("logits", one_more)),
            Table(BATCH_ROWS, categorical={"colour": Categorical(colour.codes, ("red", "mauve", f"shade{i}"))}),
            Table(BATCH_ROWS, arrays={"pixels": rng.random((BATCH_ROWS, 3))}),
        ]
        fold(detector, [batch(changed[i % len(changed)], i)])
    fold(detector, batches(first=24))


def test_a_reference_of_other_columns_of_one_row_or_of_none_builds(config_type: type[DetectorConfig]) -> None:
    config = config_type()
    if not config.needs_reference or config.needs_fit:
        pytest.skip("it takes no reference, or refuses one that it cannot be fitted to")
    rng = np.random.default_rng(7)
    for table in (Table(0), table_of(rng, 0), table_of(rng, 1), Table(3, {"other": np.full(3, np.nan)})):
        detector = config.build("watch", config.profile(Reference(table, table.sha256(), "batches"), None))
        fold(detector, batches(count=8))
