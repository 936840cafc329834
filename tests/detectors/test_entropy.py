from __future__ import annotations

import math

import census
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import beta, binom, ks_2samp, t
from scipy.stats import entropy as entropy_of

from streamd.detectors.base import Reference
from streamd.detectors.entropy import CLASS_SHARE, MEAN, SCORE, EntropyConfig, EntropyDetector
from streamd.detectors.judge import TwoSampleSettings
from streamd.detectors.shares import DOUBT
from streamd.model import FeatureBatch, Kind, Verdict
from streamd.state import pack, unpack
from streamd.table import Predictions, Table

TEXTBOOK = TwoSampleSettings(dependence="none")


def served(rng: np.random.Generator, rows: int, sharpness: float = 2.0, bias: float = 0.0) -> Table:
    logits = sharpness * rng.normal(size=(rows, 3)) + np.array([bias, 0.0, 0.0])
    return Table(rows, predictions=Predictions("logits", logits))


def entropies(table: Table) -> np.ndarray:
    assert table.predictions is not None
    odds = np.exp(table.predictions.values)
    return np.asarray(entropy_of(odds / odds.sum(axis=1, keepdims=True), axis=1))


def built(config: EntropyConfig, reference: Table) -> EntropyDetector:
    return config.build("entropy", config.profile(Reference(reference, reference.sha256(), "batches")))


def judged(detector: EntropyDetector, tables: list[Table], first_offset: int = 0) -> list[Verdict]:
    outcomes = [o for i, t in enumerate(tables) for o in detector.update(FeatureBatch("s", 0, first_offset + i, t))]
    return [outcome for outcome in outcomes if isinstance(outcome, Verdict)]


def loud(verdict: Verdict) -> bool:
    assert verdict.adjusted is not None
    return bool(verdict.adjusted[0] <= 0.001 and verdict.effects[0] > verdict.effect_threshold)


def test_a_window_is_compared_as_scipy_compares_its_entropies() -> None:
    rng = np.random.default_rng(0)
    reference, live = served(rng, 1500), served(rng, 1000, sharpness=1.6)
    (verdict,) = (v for v in judged(built(EntropyConfig(judge=TEXTBOOK), reference), [live]) if v.test == "ks_2samp")
    expected = ks_2samp(entropies(reference), entropies(live), method="asymp")
    assert verdict.statistics[0] == pytest.approx(expected.statistic, abs=1e-12)
    assert verdict.columns == (SCORE,)
    assert verdict.kind is Kind.PREDICTIONS


def test_a_rise_and_a_fall_are_told_apart_and_only_a_rise_names_rows() -> None:
    rng = np.random.default_rng(1)
    reference, unsure = served(rng, 2000), served(rng, 1000, sharpness=0.4)
    (rise,) = (v for v in judged(built(EntropyConfig(), reference), [unsure], 7) if v.test == "ks_2samp")
    assert rise.directions == ("up",)
    assert rise.finding.startswith("entropy rose: the model is unsure (KS D=0.")
    worst = np.argsort(-entropies(unsure), kind="stable")[:5]
    assert [f"7:{i}" for i in worst] == [row.id for row in rise.rows]
    assert [row.score for row in rise.rows] == pytest.approx(entropies(unsure)[worst])
    assert unsure.predictions is not None
    assert list(rise.rows[0].features.values()) == unsure.predictions.values[worst[0]].tolist()
    (fall,) = (v for v in judged(built(EntropyConfig(), reference), [served(rng, 1000, 9.0)]) if v.test == "ks_2samp")
    assert fall.directions == ("down",)
    assert fall.finding.startswith("entropy fell: the model is over-confident or its input degenerate (")
    assert fall.rows == ()
    assert loud(rise)
    assert loud(fall)


def test_named_rows_carry_their_ids_and_belong_to_the_window_that_is_judged() -> None:
    rng = np.random.default_rng(2)
    detector = built(EntropyConfig(judge=TwoSampleSettings(window_rows=100)), served(rng, 500))
    tables = [served(rng, 70, sharpness=0.3) for _ in range(10)]
    found = []
    for i, table in enumerate(tables):
        batch = FeatureBatch("s", 0, i, table, ids=tuple(f"row-{70 * i + j}" for j in range(70)))
        found += [o for o in detector.update(batch) if isinstance(o, Verdict) and o.test == "ks_2samp"]
    scores = np.concatenate([entropies(table) for table in tables])
    assert len(found) == 7
    for i, verdict in enumerate(found):
        worst = 100 * i + np.argsort(-scores[100 * i : 100 * i + 100], kind="stable")[:5]
        assert [f"row-{j}" for j in worst] == [row.id for row in verdict.rows]


def test_a_batch_mean_is_judged_by_the_prediction_interval_of_its_past() -> None:
    rng = np.random.default_rng(3)
    config = EntropyConfig(past_batches=40, past_batches_min=30)
    reference, tables = served(rng, 2000), [served(rng, 200) for _ in range(60)]
    detector = built(config, reference)
    verdicts = [v for v in judged(detector, tables) if v.test == "t"]
    assert len(verdicts) == 30
    means = [float(entropies(table).mean()) for table in tables]
    past = np.array(means[19:59])
    scale = entropies(reference).std(ddof=1)
    assert detector.profile is not None
    tau = detector.profile.judge.reference_times[0]
    variance = past.var(ddof=1) + tau * scale**2 / 200
    centred = past - past.mean()
    raw = (centred[1:] @ centred[:-1]) / (centred @ centred)
    phi = max(raw + (1 + 3 * raw) / 40, 0.0)
    longer = (1 + phi) / (1 - phi)
    own = max(1.0, entropies(tables[59]).std() / scale)
    expected = (means[59] - past.mean()) / (own * np.sqrt(variance * 39 / (40 - longer) * (1 + longer / 40)))
    last = verdicts[-1]
    assert last.columns == (MEAN,)
    assert last.statistics[0] == pytest.approx(expected, rel=1e-9)
    assert last.p_values is not None
    assert last.adjusted is not None
    freedom = 40 * (1 - phi**2) / (1 + phi**2) - 1
    assert last.p_values[0] == pytest.approx(2 * t.sf(abs(expected), freedom), rel=1e-9)
    assert (last.adjusted[0], last.looks) == (last.p_values[0], 40)
    assert last.effects[0] == pytest.approx(abs(means[59] - past.mean()) / scale, rel=1e-9)


def test_a_sudden_rise_is_seen_in_its_first_batch_and_a_batch_that_alarmed_is_not_learned() -> None:
    rng = np.random.default_rng(4)
    detector = built(EntropyConfig(), served(rng, 2000))
    quiet = judged(detector, [served(rng, 250) for _ in range(40)])
    assert not any(loud(v) for v in quiet)
    before = detector.past.snapshot()
    verdicts = [v for v in judged(detector, [served(rng, 250, sharpness=0.3) for _ in range(50)]) if v.test == "t"]
    assert all(loud(v) and v.directions == ("up",) for v in verdicts)
    assert verdicts[0].finding.startswith("entropy rose: the model is unsure (t=")
    assert before["values"].tolist() == detector.past.values.tolist()
    (calm, *_) = (v for v in judged(detector, [served(rng, 250)]) if v.test == "t")
    assert not loud(calm)


def test_a_trifle_is_quiet_however_certain_it_is() -> None:
    rng = np.random.default_rng(5)
    detector = built(EntropyConfig(), served(rng, 2000))
    judged(detector, [served(rng, 20_000) for _ in range(40)])
    (verdict,) = (v for v in judged(detector, [served(rng, 20_000, sharpness=1.8)]) if v.test == "t")
    assert verdict.adjusted is not None
    assert verdict.adjusted[0] < 1e-6
    assert not loud(verdict)


def test_small_messages_are_judged_together() -> None:
    rng = np.random.default_rng(6)
    detector = built(EntropyConfig(batch_rows_min=50), served(rng, 500))
    verdicts = [v for v in judged(detector, [served(rng, 20) for _ in range(6)], 100) if v.test == "binomial"]
    assert [(v.window.first_offset, v.window.last_offset, v.window.rows) for v in verdicts] == [
        (100, 102, 60),
        (103, 105, 60),
    ]


def test_a_batch_that_collapsed_to_one_class_is_named() -> None:
    rng = np.random.default_rng(7)
    reference = served(rng, 2000)
    (verdict,) = (v for v in judged(built(EntropyConfig(), reference), [served(rng, 200, bias=50.0)]) if loud(v))
    assert verdict.test == "binomial"
    assert verdict.columns == (CLASS_SHARE,)
    assert verdict.statistics.tolist() == [1.0]
    assert verdict.finding.startswith("the model collapsed to one class: 1 of 200 predictions are class 0 (0.3")


def test_the_collapse_of_independent_rows_has_the_binomial_p_value() -> None:
    reference = Table(1000, predictions=Predictions("probabilities", np.tile([[0.9, 0.1], [0.1, 0.9]], (500, 1))))
    live = np.tile([[0.9, 0.1]], (100, 1))
    live[0] = [0.1, 0.9]
    table = Table(100, predictions=Predictions("probabilities", live))
    (verdict,) = (v for v in judged(built(EntropyConfig(), reference), [table]) if v.test == "binomial")
    assert verdict.p_values is not None
    share = beta.isf(DOUBT, 501, 500)  # of so many in the reference it may be, at most
    assert verdict.p_values[0] == pytest.approx(binom.sf(98, 100, share) + DOUBT, rel=1e-9)


@pytest.mark.parametrize(("usual", "expected"), [(1700, True), (1810, False)])
def test_one_class_is_news_only_where_the_reference_had_others(usual: int, expected: bool) -> None:
    one = np.random.default_rng(8).permutation(2000) < usual
    values = np.column_stack([one * 0.8 + 0.1, 0.9 - one * 0.8])
    reference = Table(2000, predictions=Predictions("probabilities", values))
    live = Table(2000, predictions=Predictions("probabilities", np.tile([0.9, 0.1], (2000, 1))))
    (verdict,) = (v for v in judged(built(EntropyConfig(), reference), [live]) if v.test == "binomial")
    assert loud(verdict) is expected


def test_the_commonest_class_is_that_of_all_messages_judged_together() -> None:
    rng = np.random.default_rng(12)
    first, second = (
        Table(n, predictions=Predictions("logits", np.tile(row, (n, 1))))
        for n, row in ((20, [9.0, 0.0, 0.0]), (16, [0.0, 0.0, 9.0]))
    )
    detector = built(EntropyConfig(), served(rng, 500))
    (verdict,) = (v for v in judged(detector, [first, second, first]) if v.test == "binomial")
    assert verdict.statistics.tolist() == [40 / 56]
    assert verdict.finding == "0.714 of 56 predictions are class 0"


def test_batches_without_predictions_and_rows_without_entropy_are_passed_over() -> None:
    rng = np.random.default_rng(9)
    detector = built(EntropyConfig(judge=TwoSampleSettings(window_rows=100)), served(rng, 500))
    assert detector.update(FeatureBatch("s", 0, 0, Table(50, {"x": np.zeros(50)}))) == ()
    assert detector.update(FeatureBatch("s", 0, 1, served(rng, 0))) == ()
    missing = Table(100, predictions=Predictions("logits", np.full((100, 3), math.nan)))
    (verdict,) = judged(detector, [missing])
    assert np.isnan(verdict.statistics).all()
    assert detector.block.rows == 0


def test_a_reference_without_predictions_leaves_the_detector_silent_and_restorable() -> None:
    rng = np.random.default_rng(10)
    config = EntropyConfig()
    detector = built(config, Table(100, {"x": np.zeros(100)}))
    assert detector.update(FeatureBatch("s", 0, 0, served(rng, 500))) == ()
    other = built(config, Table(100, {"x": np.zeros(100)}))
    other.restore(unpack(pack(detector.snapshot())))
    assert other.nbytes == detector.nbytes


def test_restart_anywhere_changes_nothing() -> None:
    rng = np.random.default_rng(11)
    config = EntropyConfig(judge=TwoSampleSettings(window_rows=150), past_batches=10, past_batches_min=3)
    reference = served(rng, 400)
    tables = [served(rng, int(n), sharpness=float(s)) for n, s in zip(rng.integers(1, 90, 60), rng.uniform(0.3, 3, 60))]  # noqa: B905
    straight = [v.finding + str(v.rows) for v in judged(built(config, reference), tables)]
    detector, found = built(config, reference), []
    for i, table in enumerate(tables):
        state = unpack(pack(detector.snapshot()))
        detector = built(config, reference)
        detector.restore(state)
        found += [v.finding + str(v.rows) for v in judged(detector, [table], i)]
    assert straight == found


def test_a_configuration_that_could_never_judge_is_refused() -> None:
    with pytest.raises(ValidationError, match="never be reached"):
        EntropyConfig(past_batches=20)
    with pytest.raises(ValidationError, match="must be under collapse_share"):
        EntropyConfig(collapse_share=0.9)


@pytest.mark.slow
@pytest.mark.data
def test_the_census_event_is_found_within_2000_rows_and_quiet_years_are_quiet() -> None:
    detector = built(EntropyConfig(), census.load("reference"))
    analysis = census.load("analysis")
    ends, found = [], []
    for offset, start in enumerate(range(0, analysis.rows, 250)):
        batch = FeatureBatch("census", 0, offset, census.rows(analysis, start, start + 250))
        for outcome in detector.update(batch):
            if isinstance(outcome, Verdict) and loud(outcome):
                ends.append(start + 250)
                found.append(outcome)
    assert census.EVENT.start < min(ends) <= census.EVENT.start + 2000
    assert max(ends) <= census.EVENT.stop + 1000  # a window's length
    assert {verdict.test for verdict in found} == {"ks_2samp"}
