"""`zscore`: against brute force and scipy, on healthy autocorrelated data, and with what batches really look like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from streamd.detectors import kernels_columns
from streamd.detectors.base import Detector
from streamd.detectors.kernels_columns import batch_moments, past_moments, remember, value_counts
from streamd.detectors.zscore import ZscoreConfig
from streamd.model import FeatureBatch, Verdict
from streamd.state import pack, unpack
from streamd.table import FloatArray, Table

MINUTE = 60_000
METHODS = ["standard", "robust", "moving_average"]


def feed(detector: Detector, offset: int, values: dict[str, FloatArray], time_ms: int = 0) -> Verdict | None:
    rows = len(next(iter(values.values()), []))
    outcomes = detector.update(FeatureBatch("s", time_ms, offset, Table(rows, values)))
    assert all(isinstance(outcome, Verdict) for outcome in outcomes)
    return outcomes[0] if outcomes else None  # type: ignore[return-value]


def loud(verdict: Verdict | None) -> bool:
    if verdict is None:
        return False
    assert verdict.adjusted is not None
    return bool(((verdict.adjusted <= 0.001) & (verdict.effects > verdict.effect_threshold)).any())


def learned(detector: Detector, batches: int = 50, rows: int = 256, seed: int = 0) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    past = [rng.normal(size=rows) for _ in range(batches)]
    for offset, values in enumerate(past):
        feed(detector, offset, {"x": values}, offset * MINUTE)
    return past


def test_the_statistic_is_the_textbooks_z_of_the_batch_mean() -> None:
    detector = ZscoreConfig(dependence="none").build("z", None)
    means = np.array([values.mean() for values in learned(detector)])
    now = np.random.default_rng(1).normal(0.1, 1, 256)
    verdict = feed(detector, 50, {"x": now})
    assert verdict is not None
    assert verdict.statistics == pytest.approx([(now.mean() - means.mean()) / means.std(ddof=1)], rel=1e-9)


def test_the_p_value_is_that_of_the_prediction_interval() -> None:
    """The same as a two-sample t-test with equal variances of the past means against this one mean."""
    detector = ZscoreConfig(dependence="none", looks=1).build("z", None)
    means = [values.mean() for values in learned(detector)]
    now = np.random.default_rng(1).normal(0.1, 1, 256)
    verdict = feed(detector, 50, {"x": now})
    assert verdict is not None
    expected = stats.ttest_ind([now.mean()], means).pvalue
    assert verdict.p_values == pytest.approx([expected], rel=1e-9)
    assert verdict.adjusted == pytest.approx([expected], rel=1e-9)


def test_the_effect_is_the_shift_in_deviations_of_a_row() -> None:
    detector = ZscoreConfig().build("z", None)
    past = learned(detector)
    now = np.random.default_rng(1).normal(2, 1, 256)
    verdict = feed(detector, 50, {"x": now})
    assert verdict is not None
    means = np.array([values.mean() for values in past])
    spread = max(np.mean([values.var() for values in past]) + means.var(ddof=1), now.var())
    assert verdict.effects == pytest.approx([(now.mean() - means.mean()) / np.sqrt(spread)], rel=1e-9)


def test_the_robust_method_uses_median_and_mad() -> None:
    detector = ZscoreConfig(method="robust").build("z", None)
    means = np.array([values.mean() for values in learned(detector, 41)])
    now = np.random.default_rng(1).normal(0.1, 1, 256)
    verdict = feed(detector, 50, {"x": now})
    assert verdict is not None
    scale = stats.median_abs_deviation(means, scale="normal") * 41 / 40.2
    assert verdict.statistics == pytest.approx([(now.mean() - np.median(means)) / scale], rel=1e-4)


def test_the_moving_average_looks_back_one_day_of_event_time() -> None:
    """Against a brute-force window over parts of a quarter of an hour, late batches among them."""
    rng = np.random.default_rng(3)
    detector = ZscoreConfig(method="moving_average", window_hours=24).build("z", None)
    width = 15 * MINUTE
    seen: list[tuple[int, float]] = []
    for offset in range(400):
        time_ms = 10**12 + offset * 11 * MINUTE - (300 * MINUTE if offset % 7 == 3 else 0)
        values = rng.normal(size=64)
        verdict = feed(detector, offset, {"x": values}, time_ms)
        bucket = time_ms // width
        window = np.array([mean for t, mean in seen if 0 <= bucket - t // width < 96])
        late = offset % 7 == 3  # for these, some of the day before is gone already
        if verdict is None:
            assert len(window) < 30
        elif not late:
            assert verdict.statistics == pytest.approx([(values.mean() - window.mean()) / window.std(ddof=1)], rel=1e-9)
        seen.append((time_ms, float(values.mean())))


@pytest.mark.parametrize("method", METHODS)
def test_a_shift_of_one_deviation_is_loud_at_the_first_batch_and_named(method: str) -> None:
    for rows in (100, 256, 1000):
        detector = ZscoreConfig.model_validate({"method": method}).build("z", None)
        learned(detector, 50, rows)
        verdict = feed(detector, 50, {"x": np.random.default_rng(9).normal(-1, 1, rows)}, 50 * MINUTE)
        assert verdict is not None
        assert loud(verdict)
        assert verdict.directions == ("down",)
        assert verdict.finding.startswith("x drifted down (z=-")


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_that_alarmed_is_not_learned(method: str) -> None:
    detector = ZscoreConfig.model_validate({"method": method}).build("z", None)
    learned(detector)
    before = pack(detector.snapshot())
    assert loud(feed(detector, 50, {"x": np.random.default_rng(9).normal(5, 1, 256)}, 49 * MINUTE))
    assert pack(detector.snapshot()) == before


def test_a_trifling_shift_is_not_loud_however_sure_it_is() -> None:
    detector = ZscoreConfig().build("z", None)
    learned(detector, 100, 20_000)
    verdict = feed(detector, 100, {"x": np.random.default_rng(9).normal(0.2, 1, 20_000)})
    assert verdict is not None
    assert verdict.adjusted is not None
    assert verdict.adjusted[0] < 1e-6
    assert not loud(verdict)


def test_the_mean_of_a_small_batch_may_vary_more() -> None:
    detector = ZscoreConfig(dependence="none").build("z", None)
    means = np.array([values.mean() for values in learned(detector)])
    verdict = feed(detector, 50, {"x": np.full(4, 0.5)})
    assert verdict is not None
    assert verdict.statistics == pytest.approx([(0.5 - means.mean()) / (means.std(ddof=1) * 8)], rel=1e-9)


def test_the_robust_p_value_knows_that_the_mad_is_less_efficient() -> None:
    """The share of healthy batches under a level is about the level, with 30 past batches."""
    rng = np.random.default_rng(8)
    p_values = []
    config = ZscoreConfig(method="robust", dependence="none", past_batches=30)
    for _ in range(40):
        detector = config.build("z", None)
        for offset in range(31):
            verdict = feed(detector, offset, {f"c{i}": column for i, column in enumerate(rng.normal(size=(50, 8)))})
        assert verdict is not None
        assert verdict.p_values is not None
        p_values += verdict.p_values.tolist()
    assert np.mean(np.array(p_values) < 0.001) < 0.003
    assert 0.035 < np.mean(np.array(p_values) < 0.05) < 0.065


def test_small_batches_among_large_ones_are_not_loud() -> None:
    rng = np.random.default_rng(5)
    detector = ZscoreConfig().build("z", None)
    for offset in range(600):
        rows = int(rng.choice([1, 2, 5, 256]))
        assert not loud(feed(detector, offset, {"x": rng.normal(size=rows)})), offset


def test_rare_flags_are_not_loud() -> None:
    rng = np.random.default_rng(6)
    detector = ZscoreConfig().build("z", None)
    for offset in range(1000):
        values = {f"p{share}": (rng.random(256) < share).astype(float) for share in (0.0001, 0.001, 0.01)}
        assert not loud(feed(detector, offset, values)), offset


def test_nothing_is_said_before_there_is_enough_past_of_a_column() -> None:
    detector = ZscoreConfig(min_batches=30).build("z", None)
    rng = np.random.default_rng(0)
    for offset in range(30):
        assert feed(detector, offset, {"x": rng.normal(size=8)}) is None
    verdict = feed(detector, 30, {"x": rng.normal(size=8), "new": rng.normal(size=8)})
    assert verdict is not None
    assert verdict.columns == ("x", "new")
    assert np.isnan(verdict.statistics).tolist() == [False, True]


def test_columns_that_come_and_go_keep_their_own_past() -> None:
    rng = np.random.default_rng(0)
    detector, alone = ZscoreConfig().build("z", None), ZscoreConfig().build("z", None)
    for offset in range(120):
        x, y = rng.normal(size=50), rng.normal(size=50)
        both = feed(detector, offset, {"y": y, "x": x} if offset % 3 else {"x": x})
        single = feed(alone, offset, {"x": x})
    assert both is not None
    assert single is not None
    assert both.statistics[both.columns.index("x")] == single.statistics[0]


def test_a_column_that_never_moved_and_then_does_is_finite_and_loud() -> None:
    detector = ZscoreConfig().build("z", None)
    for offset in range(40):
        verdict = feed(detector, offset, {"x": np.full(100, 3.0)})
    assert verdict is not None
    assert (verdict.statistics.tolist(), verdict.effects.tolist()) == ([0.0], [0.0])
    verdict = feed(detector, 40, {"x": np.full(100, 5.0)})
    assert loud(verdict)
    assert verdict is not None
    assert np.isfinite(verdict.statistics).all()
    assert np.isfinite(verdict.effects).all()


@pytest.mark.parametrize("method", METHODS)
def test_hostile_values_leave_it_finite_and_silent(method: str) -> None:
    detector = ZscoreConfig.model_validate({"method": method}).build("z", None)
    learned(detector, 40)
    for hostile in (np.full(5, np.nan), np.array([np.inf, -np.inf]), np.empty(0), np.array([1e308, -1e308, 1e308])):
        verdict = feed(detector, 50, {"x": hostile}, 40 * MINUTE)
        assert verdict is None or not np.isinf(verdict.statistics).any()
    assert feed(detector, 51, {"x": np.random.default_rng(0).normal(size=256)}, 40 * MINUTE) is not None


def test_columns_over_the_limit_are_not_followed() -> None:
    detector = ZscoreConfig(max_columns=3, min_batches=3).build("z", None)
    for offset in range(5):
        verdict = feed(detector, offset, {f"c{i}": np.arange(4.0) + offset % 2 for i in range(10)})
    assert verdict is not None
    assert verdict.columns == ("c0", "c1", "c2")


@pytest.mark.parametrize("method", METHODS)
def test_a_restart_anywhere_changes_nothing(method: str) -> None:
    rng = np.random.default_rng(7)
    config = ZscoreConfig.model_validate({"method": method, "min_batches": 5, "past_batches": 20})
    whole, parts = config.build("z", None), config.build("z", None)
    for offset in range(60):
        fresh = config.build("z", None)
        fresh.restore(unpack(pack(parts.snapshot())))
        parts = fresh
        values = {f"c{i}": rng.normal(4.0 if offset == 40 else 0.0, 1, 30) for i in range(1 + offset // 20)}
        one, other = (feed(d, offset, values, offset * 30 * MINUTE) for d in (whole, parts))
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.statistics, other.statistics)
            np.testing.assert_array_equal(one.adjusted, other.adjusted)  # type: ignore[arg-type]
    assert pack(whole.snapshot()) == pack(parts.snapshot())


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("rows", [256, 1000])
@pytest.mark.slow
def test_healthy_autocorrelated_columns_are_never_loud(rho: float, rows: int) -> None:
    rng = np.random.default_rng(11)
    for innovations in (rng.normal(size=(16, 200 * rows)), rng.standard_t(5, size=(16, 200 * rows))):
        values = lfilter([1], [1, -rho], innovations, axis=1)
        detector = ZscoreConfig().build("z", None)
        for offset in range(200):
            part = values[:, offset * rows : (offset + 1) * rows]
            assert not loud(feed(detector, offset, {f"c{i}": column for i, column in enumerate(part)}))


def test_dependent_batch_means_widen_the_prediction_interval() -> None:
    rng = np.random.default_rng(12)
    levels = lfilter([1], [1, -0.9], rng.normal(size=120))
    p_values = []
    for dependence in ("none", "autocorrelation"):
        detector = ZscoreConfig.model_validate({"dependence": dependence}).build("z", None)
        for offset, level in enumerate(levels):
            verdict = feed(detector, offset, {"x": np.array([level, level + 0.1])})
        assert verdict is not None
        assert verdict.p_values is not None
        p_values.append(verdict.p_values[0])
    assert p_values[0] < p_values[1]


def test_min_batches_over_past_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="must not exceed"):
        ZscoreConfig(min_batches=50, past_batches=40)


def test_the_compiled_loops_agree_with_numpy() -> None:
    rng = np.random.default_rng(13)
    matrix = rng.normal(1e6, 1, size=(6, 50))
    matrix[1, ::3] = np.nan
    matrix[2, 5], matrix[2, 6] = np.inf, -np.inf
    matrix[3] = 7.0
    matrix[4, ::2], matrix[4, 1::2] = 0.0, -0.0
    matrix[5] = np.nan
    counts, means, squares = batch_moments(matrix)
    kinds = value_counts(matrix)
    for i, row in enumerate(matrix):
        finite = row[np.isfinite(row)]
        assert counts[i] == len(finite)
        if len(finite):
            assert means[i] == pytest.approx(finite.mean(), rel=1e-14)
            assert squares[i] == pytest.approx(finite.var(), rel=1e-9, abs=1e-12)
        present = row[~np.isnan(row)]
        expected = [np.isnan(row).sum(), np.isinf(row).sum(), len(present) > 0 and len(np.unique(present)) == 1]
        assert kinds[:, i].tolist() == expected


@pytest.mark.parametrize("places", [3, 10, 14, 100])
def test_what_is_said_of_the_past_agrees_with_a_list_of_the_batches(places: int) -> None:
    """Deviations and counts: of the batches since the oldest block began anew, which is all of them or a few less."""
    rng = np.random.default_rng(14)
    block = -(-places // 5)
    means, sums = np.zeros((1, places)), np.zeros((2, 1, -(-places // block)))
    following, filled = np.zeros(1, np.int64), np.zeros(1, np.int64)
    batches: list[FloatArray] = []
    for number in range(1, 3 * places):
        count, mean, square = rng.integers(1, 300), rng.normal(1e6), 10 ** rng.normal(0, 9)
        now = np.array([[count], [mean], [square]])
        remember(means, sums, following, filled, block, now, np.array([False]))
        batches.append(now[:, 0])
        moments = past_moments(means, sums, following, filled, block)[:, 0]
        kept = np.array(batches[-places:])[:, 1]
        if len(kept) < 2:
            assert np.isnan(moments).all()
            continue
        centred = kept - kept.mean()
        assert moments[:2] == pytest.approx([kept.mean(), kept.std(ddof=1)], rel=1e-8)
        assert moments[2] == pytest.approx(centred[1:] @ centred[:-1] / (centred @ centred), rel=1e-6, abs=1e-8)
        # Places are taken in turn; a block that was begun anew has lost the batches of its later places.
        begun = number % places % block if number > places else 0
        first_place = number % places - begun
        lost = min(first_place + block, places) - number % places if begun else 0
        summed = np.array(batches[max(0, number - places + lost) :])
        assert moments[3] == pytest.approx(stats.hmean(summed[:, 0]), rel=1e-12)
        assert moments[4] == pytest.approx(summed[:, 2].mean(), rel=1e-12)


@pytest.mark.parametrize("past_batches", [30, 100])
def test_the_past_is_exact_while_it_fills_and_when_it_turns(past_batches: int) -> None:
    """Also for a column that came late or is often empty."""
    rng = np.random.default_rng(15)
    detector = ZscoreConfig(past_batches=past_batches, dependence="none").build("z", None)
    seen: dict[str, list[float]] = {"x": [], "late": [], "rare": []}
    for offset in range(250):
        values = {"x": rng.normal(1e5, size=40), "rare": rng.normal(-3.0, size=40)}
        if offset >= 40:
            values["late"] = rng.normal(size=40)
        if offset % 3:
            values["rare"][:] = np.nan
        verdict = feed(detector, offset, values)
        for name, column in values.items():
            past = np.array(seen[name][-past_batches:])
            if verdict is not None and len(past) >= 30 and np.isfinite(column).all():
                z = verdict.statistics[verdict.columns.index(name)]
                assert z == pytest.approx((column.mean() - past.mean()) / past.std(ddof=1), rel=1e-7)
            if np.isfinite(column).all():
                seen[name].append(float(column.mean()))


def test_one_monstrous_value_in_a_healthy_batch_is_forgotten_when_its_batch_is() -> None:
    rng = np.random.default_rng(16)
    detector, spared = ZscoreConfig().build("z", None), ZscoreConfig().build("z", None)
    for offset in range(250):
        values = rng.normal(size=256)
        monstrous = np.where(np.arange(256) == 7, 1e30, values) if offset == 33 else values
        verdict, other = feed(detector, offset, {"x": monstrous}), feed(spared, offset, {"x": values})
        assert not loud(verdict)
    assert verdict is not None
    assert other is not None
    assert verdict.effects.tolist() == other.effects.tolist()
    assert verdict.statistics.tolist() == other.statistics.tolist()


def test_a_column_takes_less_than_a_kilobyte_and_its_name_is_kept_once_for_all_streams() -> None:
    detectors = [ZscoreConfig().build("z", None) for _ in range(2)]
    for detector in detectors:
        feed(detector, 0, {"".join(("c", str(i))): np.arange(4.0) for i in range(32)})
    assert 800 < detectors[0].nbytes / 32 < 1000
    first, second = (detector.snapshot()["_names"] for detector in detectors)
    assert all(a is b for a, b in zip(first, second, strict=True))


# --- P-values where the textbook's are wrong: held against simulation --------------------------------


def past_of(means: FloatArray, rows: int, squares: FloatArray) -> tuple[FloatArray, int]:
    """What the kernels say of (columns, batches) past means and the mean squared deviations of their rows."""
    columns, n = means.shape
    block = n // 5
    sums = np.empty((2, columns, 5))
    sums[0] = block / rows
    sums[1] = squares.reshape(columns, 5, block).sum(axis=2)
    place, filled = np.zeros(columns, np.int64), np.full(columns, n, np.int64)
    return kernels_columns.past_moments(np.ascontiguousarray(means), sums, place, filled, block), n


def p_values(means: FloatArray, rows: int, squares: FloatArray, dependent: bool) -> FloatArray:
    """Of each column's last mean against those before it; `squares` are the mean squared deviations of the rows."""
    past, n = past_of(means[:, :-1], rows, squares[:, :-1])
    now = np.stack([np.full(len(means), float(rows)), means[:, -1], squares[:, -1]])
    centres = np.ones((4, len(means)))
    centres[:2], centres[2] = past[:2], n
    _, t, freedom, _ = kernels_columns.standardise(now, centres, past, 30, dependent)
    return np.asarray(2 * stats.t.sf(np.abs(t), freedom))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.slow
def test_batch_means_that_depend_on_their_past_are_loud_no_more_often_than_the_level_says(rho: float) -> None:
    columns, n = 40_000, 100
    rng = np.random.default_rng(7)
    means = np.empty((columns, n + 1))
    means[:, 0] = rng.standard_normal(columns)
    for i in range(n):
        means[:, i + 1] = rho * means[:, i] + np.sqrt(1 - rho**2) * rng.standard_normal(columns)
    squares = np.full((columns, n + 1), 256.0)
    for level in (1e-2, 1e-3):
        most = stats.poisson.ppf(0.975, level * columns)
        assert np.count_nonzero(p_values(means, 256, squares, True) <= level) <= most
        if rho >= 0.9:
            assert np.count_nonzero(p_values(means, 256, squares, False) <= level) > most  # the textbook's


@pytest.mark.parametrize("name", ["normal", "t5", "lognormal", "rare"])
@pytest.mark.slow
def test_means_of_skewed_and_long_tailed_rows_are_loud_no_more_often_than_the_level_says(name: str) -> None:
    rng = np.random.default_rng(8)
    draw: dict[str, Callable[[tuple[int, int]], FloatArray]] = {
        "normal": rng.standard_normal,
        "t5": lambda shape: rng.standard_t(5, shape),
        "lognormal": lambda shape: rng.lognormal(size=shape),
        "rare": lambda shape: (rng.random(shape) < 0.01).astype(np.float64),
    }
    rows, pasts, n, each = 32, 400, 100, 2000
    old, new = draw[name]((pasts * n, rows)), draw[name]((each, rows))
    before = old.mean(axis=1).reshape(pasts, n), old.var(axis=1).reshape(pasts, n)
    every = [
        np.column_stack([np.repeat(past, each, axis=0), np.tile(now, pasts)])
        for past, now in zip(before, (new.mean(axis=1), new.var(axis=1)), strict=True)
    ]
    found = p_values(every[0], rows, every[1], False)
    assert np.mean(found <= 1e-3) <= 2e-3  # as many as 2,000 batches of their own would be, 500 against 400 pasts
    assert np.mean(found <= 1e-5) <= 5e-5
