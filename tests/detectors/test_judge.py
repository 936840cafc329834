"""The two-sample judge, against scipy on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import ks_2samp, kstwo

from streamd.detectors.judge import TwoSampleJudge, TwoSampleProfile, TwoSampleSettings
from streamd.model import Kind, Outcome, Verdict, Window
from streamd.state import pack, unpack
from streamd.table import FloatArray

NAN, INF = np.nan, np.inf


def judge_of(reference: FloatArray, **options: object) -> TwoSampleJudge:
    names = tuple(f"x{i}" for i in range(len(reference)))
    settings = TwoSampleSettings.model_validate({"dependence": "none", **options})
    return TwoSampleJudge("ks", Kind.FEATURES, TwoSampleProfile(names, reference, settings))


def verdicts(outcomes: list[Outcome]) -> list[Verdict]:
    return [outcome for outcome in outcomes if isinstance(outcome, Verdict)]


def run(judge: TwoSampleJudge, values: FloatArray, batch_rows: int) -> list[Outcome]:
    outcomes = []
    for start in range(0, values.shape[1], batch_rows):
        outcomes += judge.update(values[:, start : start + batch_rows], start)
    return outcomes


def sample(rng: np.random.Generator, rows: int) -> FloatArray:
    """One column each of: normal, ties, constant, heavy tails, with missing values, with infinities."""
    return np.stack(
        [
            rng.normal(size=rows),
            rng.integers(0, 10, rows).astype(float),
            np.full(rows, 4.0),
            rng.standard_cauchy(rows),
            np.where(rng.random(rows) < 0.3, NAN, rng.normal(size=rows)),
            rng.choice([-INF, 0.0, 1.0, INF], rows),
        ]
    )


@pytest.mark.parametrize(
    ("reference_rows", "window_rows"), [(2000, 1000), (700, 900), (40, 60), (300, 300), (2000, 50)]
)
def test_without_dependence_statistic_and_p_value_are_those_of_scipy(reference_rows: int, window_rows: int) -> None:
    rng = np.random.default_rng(reference_rows)
    for shift in (0.0, 0.05, 0.5, 5.0):
        reference, window = sample(rng, reference_rows), sample(rng, window_rows) + shift
        [verdict] = verdicts(judge_of(reference, window_rows=window_rows).update(window, 0))
        assert verdict.p_values is not None
        for i, (r, w) in enumerate(zip(reference, window, strict=True)):
            r, w = r[~np.isnan(r)], w[~np.isnan(w)]
            exact = max(len(r), len(w)) <= 500
            expected = ks_2samp(r, w, method="exact" if exact else "asymp")
            assert verdict.statistics[i] == expected.statistic
            assert verdict.p_values[i] == pytest.approx(expected.pvalue, rel=1e-9 if exact else 1e-12, abs=1e-300)


def test_identical_constants_have_distance_zero_and_different_ones_distance_one() -> None:
    reference = np.full((2, 50), 3.0)
    window = np.array([[3.0], [3.0000001]]).repeat(20, axis=1)
    [verdict] = verdicts(judge_of(reference, window_rows=20).update(window, 0))
    assert verdict.statistics.tolist() == [0.0, 1.0]
    assert verdict.p_values is not None
    assert verdict.p_values[0] == 1.0


def test_every_reading_is_scipys_statistic_of_the_sliding_window() -> None:
    rng = np.random.default_rng(5)
    reference, values = sample(rng, 500), sample(rng, 400)
    judge = judge_of(reference, window_rows=64)
    rows = 0
    while rows < 400:
        step = int(rng.integers(1, 90))
        judge.update(values[:, rows : rows + step], rows)
        rows = min(rows + step, 400)
        if rows < 64:
            assert judge.readings() == ()
            continue
        (reading,) = judge.readings()
        for i, column in enumerate(values[:, rows - 64 : rows]):
            r, w = reference[i][~np.isnan(reference[i])], column[~np.isnan(column)]
            assert reading.statistics[i] == pytest.approx(ks_2samp(r, w).statistic, abs=1e-12)


@pytest.mark.parametrize("stride_rows", [None, 7, 50, 120])
def test_verdicts_do_not_depend_on_how_the_rows_were_batched(stride_rows: int | None) -> None:
    rng = np.random.default_rng(6)
    reference, values = sample(rng, 300), sample(rng, 500) + 0.2
    expected = None
    for batch_rows in (1, 33, 50, 500):
        judge = judge_of(reference, window_rows=50, stride_rows=stride_rows, dependence="autocorrelation")
        found = [(v.statistics.tolist(), v.p_values, v.finding) for v in verdicts(run(judge, values, batch_rows))]
        assert len(found) == 1 + 450 // (stride_rows or 50)
        expected = expected or repr(found)
        assert repr(found) == expected


def test_a_verdict_names_the_records_that_its_rows_came_in() -> None:
    judge = judge_of(np.arange(20.0)[None], window_rows=10)
    found = []
    for offset, rows in ((100, 4), (101, 4), (107, 5), (108, 1), (120, 30)):
        found += verdicts(judge.update(np.zeros((1, rows)), offset))
    assert [v.window for v in found] == [
        Window(100, 107, 10),
        Window(107, 120, 10),
        Window(120, 120, 10),
        Window(120, 120, 10),
    ]


def test_the_records_are_right_where_a_part_goes_around_the_rings_end() -> None:
    judge = judge_of(np.arange(20.0)[None], window_rows=10, stride_rows=7)
    found = [
        v.window
        for offset, rows in ((1, 17), (2, 7), (3, 7))
        for v in verdicts(judge.update(np.zeros((1, rows)), offset))
    ]
    assert found == [Window(1, 1, 10), Window(1, 1, 10), Window(1, 2, 10), Window(2, 3, 10)]


def test_no_rows_and_no_columns_give_nothing() -> None:
    assert judge_of(np.zeros((1, 10)), window_rows=2).update(np.empty((1, 0)), 0) == []
    assert judge_of(np.zeros((0, 10)), window_rows=2).update(np.empty((0, 5)), 0) == []


def test_nothing_is_said_before_the_first_window_is_full() -> None:
    judge = judge_of(np.zeros((1, 10)), window_rows=5)
    assert judge.update(np.zeros((1, 4)), 0) == []
    assert judge.readings() == ()
    assert len(judge.update(np.zeros((1, 1)), 1)) == len(judge.readings()) == 1


def test_a_column_with_fewer_than_two_values_on_a_side_is_not_judged_and_not_counted() -> None:
    rng = np.random.default_rng(7)
    reference = rng.normal(size=(3, 100))
    reference[1, 1:] = NAN
    window = rng.normal(size=(3, 20))
    window[2, 1:] = NAN
    [verdict] = verdicts(judge_of(reference, window_rows=20).update(window, 0))
    assert verdict.p_values is not None
    assert verdict.adjusted is not None
    assert np.isnan(verdict.statistics).tolist() == [False, True, True]
    assert np.isnan(verdict.adjusted).tolist() == [False, True, True]
    assert verdict.adjusted[0] == verdict.p_values[0]


def test_directions_tell_a_rise_from_a_fall_and_from_a_change_of_spread() -> None:
    rng = np.random.default_rng(8)
    reference = rng.normal(size=(3, 2000))
    window = rng.normal(size=(3, 1000)) * [[1], [1], [4]] + [[1], [-1], [0]]
    [verdict] = verdicts(judge_of(reference).update(window, 0))
    assert verdict.directions == ("up", "down", "changed")
    assert "x0 drifted up" in verdict.finding
    assert "x1 drifted down" in verdict.finding
    assert "x2 changed" in verdict.finding


def test_a_long_reference_is_sampled_with_a_seed_and_read_whole_for_its_dependence() -> None:
    values = np.asarray(lfilter([1.0], [1.0, -0.9], np.random.default_rng(9).normal(size=(1, 50_000))))
    settings = TwoSampleSettings()
    first, second = (TwoSampleProfile(("x",), values, settings) for _ in range(2))
    assert first.kept_rows.tolist() == [2000]
    assert first.reference_rows.tolist() == [50_000]
    assert first.distinct.tobytes() == second.distinct.tobytes()
    assert first.reference_times[0] == pytest.approx(19, rel=0.2)
    assert TwoSampleProfile(("x",), values, settings.model_copy(update={"seed": 1})).distinct[0] != first.distinct[0]


def test_dependent_rows_count_for_less() -> None:
    rng = np.random.default_rng(10)
    reference = np.asarray(lfilter([1.0], [1.0, -0.8], rng.normal(size=(1, 1500))))
    window = np.asarray(lfilter([1.0], [1.0, -0.8], rng.normal(size=(1, 1000)))) + 1.0
    judge = judge_of(reference, dependence="autocorrelation")
    [verdict] = verdicts(judge.update(window, 0))
    [textbook] = verdicts(judge_of(reference).update(window, 0))
    assert verdict.p_values is not None
    assert textbook.p_values is not None
    assert verdict.statistics.tolist() == textbook.statistics.tolist()
    assert 1e-12 < verdict.p_values[0] < 0.05
    assert textbook.p_values[0] < verdict.p_values[0] ** 3


def test_a_window_may_be_dependent_though_the_reference_is_not() -> None:
    rng = np.random.default_rng(17)
    reference = rng.normal(size=(1, 1500))
    window = np.asarray(lfilter([1.0], [1.0, -0.9], rng.normal(size=(1, 1000)))) * 0.44
    [verdict] = verdicts(judge_of(reference, dependence="autocorrelation").update(window, 0))
    [textbook] = verdicts(judge_of(reference).update(window, 0))
    assert verdict.p_values is not None
    assert textbook.p_values is not None
    assert textbook.p_values[0] < verdict.p_values[0] ** 3


def test_independent_rows_count_in_full_or_nearly() -> None:
    rng = np.random.default_rng(11)
    reference, window = rng.normal(size=(1, 2000)), rng.normal(0.1, 1, size=(1, 1000))
    [verdict] = verdicts(judge_of(reference, dependence="autocorrelation").update(window, 0))
    assert verdict.p_values is not None
    full = kstwo.sf(verdict.statistics[0], round(2000 * 1000 / 3000))
    assert full <= verdict.p_values[0] < 3 * full


def test_more_distinct_values_than_sixteen_bits_hold_are_judged_all_the_same() -> None:
    rng = np.random.default_rng(12)
    reference, window = rng.normal(size=(1, 50_000)), rng.normal(size=(1, 45_000))
    judge = judge_of(reference, reference_rows_max=50_000, window_rows=45_000)
    [verdict] = verdicts(judge.update(window, 0))  # 50,000 × 45,000 is also more than 31 bits hold
    assert judge.ring.dtype == np.uint32
    assert verdict.statistics[0] == pytest.approx(ks_2samp(reference[0], window[0]).statistic, abs=1e-12)


def test_a_constant_reference_of_many_rows_is_counted_in_full() -> None:
    reference, window = np.full((1, 70_000), 1.0), np.repeat([[0.5, 1.0]], 50, axis=1)
    [verdict] = verdicts(judge_of(reference, reference_rows_max=70_000, window_rows=100).update(window, 0))
    assert verdict.statistics[0] == 0.5


def test_values_may_be_read_only_and_in_any_order_of_memory() -> None:
    rng = np.random.default_rng(13)
    reference, window = rng.normal(size=(4, 100)), rng.normal(size=(50, 4))
    window.flags.writeable = False
    [verdict] = verdicts(judge_of(reference, window_rows=50).update(window.T, 0))
    [again] = verdicts(judge_of(reference, window_rows=50).update(window.T.copy(), 0))
    assert verdict.statistics.tolist() == again.statistics.tolist()


def test_a_restored_judge_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(14)
    reference, values = sample(rng, 200), sample(rng, 300) + 0.3
    judge = judge_of(reference, window_rows=64, dependence="autocorrelation")
    run(judge, values[:, :123], 10)
    other = judge_of(reference, window_rows=64, dependence="autocorrelation")
    other.restore(unpack(pack(judge.snapshot())))
    assert [v.finding for v in verdicts(run(other, values[:, 123:], 10))] == [
        v.finding for v in verdicts(run(judge, values[:, 123:], 10))
    ]


def test_a_stream_of_32_columns_needs_less_than_a_tenth_of_a_megabyte() -> None:
    judge = judge_of(np.random.default_rng(15).normal(size=(32, 2000)))
    assert judge.nbytes < 80_000


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("innovations", ["normal", "t5"])
def test_two_hundred_healthy_windows_of_sixteen_dependent_columns_never_page(rho: float, innovations: str) -> None:
    rng = np.random.default_rng(int(100 * rho))
    rows = 300 + 2000 + 200 * 1000
    noise = rng.normal(size=(16, rows)) if innovations == "normal" else rng.standard_t(5, size=(16, rows))
    values = np.asarray(lfilter([1.0], [1.0, -rho], noise))[:, 300:]
    judge = judge_of(values[:, :2000], dependence="autocorrelation")
    found = verdicts(run(judge, values[:, 2000:], 4000))
    assert len(found) == 200
    assert sum(_pages(verdict) for verdict in found) == 0


@pytest.mark.slow
def test_a_shift_of_half_a_deviation_is_found_in_most_windows_and_of_three_quarters_in_all() -> None:
    """Half a deviation is D = 0.197, just under the threshold: that it is found at all is D's upward bias."""
    found: dict[float, list[bool]] = {0.5: [], 0.75: []}
    for seed in range(5):  # how often it is found depends on the reference that was drawn
        rng = np.random.default_rng(seed)
        judge = judge_of(rng.normal(size=(16, 2000)), dependence="autocorrelation")
        for shift, pages in found.items():
            outcomes = verdicts(run(judge, rng.normal(shift, 1.0, size=(16, 10_000)), 1000))
            pages += [_pages(verdict, column) for verdict in outcomes for column in range(16)]
    assert np.mean(found[0.5]) > 0.6
    assert np.mean(found[0.75]) == 1.0


def _pages(verdict: Verdict, column: int | None = None) -> bool:
    """Whether any column, or this one, would raise a warning."""
    assert verdict.adjusted is not None
    loud = (verdict.adjusted <= 0.001) & (verdict.effects > verdict.effect_threshold)
    return bool(loud.any() if column is None else loud[column])
