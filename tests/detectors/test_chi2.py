"""`chi2`, against scipy and alibi-detect on the same rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import chi2_contingency, poisson
from scipy.stats import norm as normal

from streamd.detectors.base import Reference
from streamd.detectors.chi2 import Chi2Config, Chi2Detector
from streamd.detectors.contingency import chi_squared, chi_squared_p_values, pooled, total_variation
from streamd.model import FeatureBatch, Outcome, Verdict, Window
from streamd.state import pack, unpack
from streamd.table import Categorical, Table

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_alibi_detect import CATEGORICAL, samples  # noqa: E402 # beside its golden file, which is no package


def column(values: list[str | None]) -> Categorical:
    categories = tuple(dict.fromkeys(value for value in values if value is not None))
    codes = [-1 if value is None else categories.index(value) for value in values]
    return Categorical(np.array(codes, np.int32), categories)


def table(**columns: list[str | None]) -> Table:
    rows = len(next(iter(columns.values())))
    return Table(rows, categorical={name: column(values) for name, values in columns.items()})


def detector_of(reference: Table, **options: object) -> Chi2Detector:
    config = Chi2Config.model_validate(options)
    detector = config.build("chi2", config.profile(Reference(reference, reference.sha256(), "batches")))
    assert isinstance(detector, Chi2Detector)
    return detector


def push(detector: Chi2Detector, rows: Table, offset: int = 0, test: str = "chi2") -> list[Verdict]:
    outcomes: tuple[Outcome, ...] = detector.update(FeatureBatch("fraud/7", 0, offset, rows))
    return [outcome for outcome in outcomes if isinstance(outcome, Verdict) and outcome.test == test]


def draw(rng: np.random.Generator, rows: int, shares: dict[str | None, float]) -> list[str | None]:
    return [list(shares)[i] for i in rng.choice(len(shares), rows, p=list(shares.values()))]


@pytest.mark.parametrize("name", ["ChiSquareDrift", "TabularDrift"])
def test_every_feature_has_the_statistic_and_p_value_of_alibi_detect(name: str) -> None:
    golden = json.loads((GOLDEN / "alibi_detect.json").read_text())[name]
    before, after = samples()
    reference = table(**{name: [str(v) for v in before[name]] for name in CATEGORICAL})
    window = table(**{name: [str(v) for v in after[name]] for name in CATEGORICAL})
    [verdict] = push(detector_of(reference, dependence="none", window_rows=window.rows), window)
    assert verdict.p_values is not None
    assert verdict.columns == CATEGORICAL
    for i, feature in enumerate(CATEGORICAL):  # alibi-detect keeps single precision
        assert verdict.statistics[i] == pytest.approx(golden[feature]["statistic"], rel=1e-6)
        assert verdict.p_values[i] == pytest.approx(golden[feature]["p_value"], rel=1e-5, abs=1e-30)


def test_many_tables_at_once_give_what_scipy_gives_one_by_one() -> None:
    rng = np.random.default_rng(0)
    reference, window = rng.integers(0, 30, (2, 200, 5)) * rng.integers(0, 2, (2, 200, 5))
    reference[0], window[0] = 0, 0
    reference[1], window[1] = [3, 0, 0, 0, 0], [7, 0, 0, 0, 0]
    statistics, freedom = chi_squared(reference, window)
    p_values = chi_squared_p_values(statistics, freedom)
    for i in range(200):
        used = (reference[i] + window[i]) > 0
        if reference[i].sum() == 0 or window[i].sum() == 0:
            assert np.isnan([statistics[i], p_values[i]]).all()
            continue
        expected = chi2_contingency([reference[i][used], window[i][used]])
        assert statistics[i] == pytest.approx(expected.statistic, rel=1e-12, abs=1e-12)
        assert p_values[i] == pytest.approx(expected.pvalue, rel=1e-12)


def test_the_effect_is_the_total_variation_distance() -> None:
    distances = total_variation(
        np.array([[1, 1, 0], [1, 0, 0], [2, 2, 0]]), np.array([[4, 4, 0], [0, 5, 0], [1, 1, 2]])
    )
    assert distances.tolist() == [0.0, 1.0, 0.5]


def test_a_change_of_shares_fires_and_no_change_does_not() -> None:
    rng = np.random.default_rng(1)
    shares: dict[str | None, float] = {"DE": 0.5, "FR": 0.3, "IT": 0.2}
    detector = detector_of(table(country=draw(rng, 3000, shares), shop=draw(rng, 3000, shares)))
    [quiet] = push(detector, table(country=draw(rng, 1000, shares), shop=draw(rng, 1000, shares)))
    moved: dict[str | None, float] = {"DE": 0.2, "FR": 0.3, "IT": 0.5}
    [loud] = push(detector, table(country=draw(rng, 1000, moved), shop=draw(rng, 1000, shares)), 1)
    assert quiet.finding.startswith("no drift over 1000 rows")
    assert loud.finding.startswith("country changed (TV=0.3")
    assert loud.window == Window(1, 1, 1000)
    assert (loud.test, loud.effect_name, loud.directions) == ("chi2", "total_variation", ("changed", "changed"))


def test_the_order_of_a_batchs_categories_means_nothing() -> None:
    rng = np.random.default_rng(2)
    values = draw(rng, 400, {"a": 0.3, "b": 0.3, "c": 0.4})
    reference = table(x=draw(rng, 500, {"c": 0.2, "b": 0.5, "a": 0.3}))
    [whole] = push(detector_of(reference, window_rows=400), table(x=values))
    pieces = detector_of(reference, window_rows=400)
    found = [
        verdict for start in range(0, 400, 7) for verdict in push(pieces, table(x=values[start : start + 7]), start)
    ]
    assert [v.statistics.tolist() for v in found] == [whole.statistics.tolist()]


def test_categories_that_the_reference_lacks_are_named_while_they_are_in_the_window() -> None:
    reference = table(x=["a", "b"] * 100, y=["c"] * 200)
    detector = detector_of(reference, window_rows=10)
    [first] = push(detector, table(x=["a", "b"] * 4 + ["Ω", "new"], y=["c"] * 10))
    [second] = push(detector, table(x=["a", "b"] * 5, y=["c"] * 10))
    assert first.finding.endswith('; never seen before: x "Ω", x "new"')
    assert "never" not in second.finding


def test_of_many_unseen_categories_the_last_few_are_kept() -> None:
    detector = detector_of(table(x=["a", "b"] * 100), window_rows=1000)
    for i in range(0, 2000, 100):
        found = push(detector, table(x=[f"id{j}" for j in range(i, i + 100)]))
    assert found[0].finding.endswith('never seen before: x "id1997", x "id1998", x "id1999"')
    assert detector.nbytes < 20_000


def test_an_identifier_is_not_judged() -> None:
    detector = detector_of(table(id=[str(i) for i in range(1000)], few=["a", "b", "c", "d"] * 250))
    assert detector._profile.names == ("few",)


def test_missing_values_do_not_count_and_a_missing_column_is_not_judged() -> None:
    rng = np.random.default_rng(3)
    reference = table(x=draw(rng, 500, {"a": 0.5, "b": 0.3, None: 0.2}), y=draw(rng, 500, {"c": 0.5, "d": 0.5}))
    values = draw(rng, 100, {"a": 0.4, "b": 0.3, None: 0.3})
    [verdict] = push(detector_of(reference, window_rows=100, dependence="none"), table(x=values))
    counts = [[list(map(str, v)).count(c) for c in "ab"] for v in (_values(reference, "x"), values)]
    assert verdict.statistics[0] == pytest.approx(chi2_contingency(counts).statistic, rel=1e-12)
    assert np.isnan(verdict.statistics[1])


def _values(rows: Table, name: str) -> list[str | None]:
    categorical = rows.categorical[name]
    return [None if code < 0 else categorical.categories[code] for code in categorical.codes]


def test_a_column_that_became_numeric_is_missing() -> None:
    detector = detector_of(table(x=["a", "b"] * 50, y=["c", "d"] * 50), window_rows=4)
    rows = Table(4, {"x": np.zeros(4)}, categorical={"y": column(["c", "d", "c", "d"])})
    [verdict] = push(detector, rows)
    assert np.isnan(verdict.statistics).tolist() == [True, False]


def test_every_reading_is_the_distance_of_the_sliding_window() -> None:
    rng = np.random.default_rng(4)
    shares: dict[str | None, float] = {"a": 0.5, "b": 0.3, "c": 0.2}
    reference, values = draw(rng, 300, shares), draw(rng, 200, {"a": 0.2, "b": 0.3, "z": 0.5})
    detector = detector_of(table(x=reference), window_rows=60)
    for start in range(0, 200, 20):
        detector.update(FeatureBatch("s", 0, start, table(x=values[start : start + 20])))
        if start < 40:
            assert detector.readings() == ()
            continue
        window = values[start - 40 : start + 20]
        expected = 0.5 * sum(abs(reference.count(c) / 300 - window.count(c) / 60) for c in "abcz")
        (reading,) = detector.readings()
        assert reading.statistics[0] == pytest.approx(expected, abs=1e-12)


def test_dependent_rows_count_for_less() -> None:
    """A column that keeps its category for twenty rows: alarms at 5 % stay near 5 %, not at more than half."""
    rng = np.random.default_rng(5)

    def sticky(rows: int) -> list[str | None]:
        return [value for value in draw(rng, rows // 20, {"a": 0.4, "b": 0.3, "c": 0.3}) for _ in range(20)]

    reference = table(x=sticky(4000))
    share = {}
    for dependence in ("none", "autocorrelation"):
        detector = detector_of(reference, dependence=dependence)
        found = [push(detector, table(x=sticky(1000)), i)[0] for i in range(100)]
        share[dependence] = np.mean([v.p_values is not None and v.p_values[0] < 0.05 for v in found])
    assert share["none"] > 0.5
    assert share["autocorrelation"] < 0.15


def test_the_statistic_of_dependent_rows_is_divided_by_their_time() -> None:
    """Rows that come twice: τ is 2 for any order of the categories, and of 4,000 rows chance makes the slowest a bit
    longer; the p-value has at most the textbook's degrees of freedom."""
    rng = np.random.default_rng(6)
    shares: dict[str | None, float] = {"a": 0.3, "b": 0.3, "c": 0.4}
    reference = table(x=draw(rng, 4000, shares))
    window = table(x=[v for v in draw(rng, 2000, {"a": 0.4, "b": 0.3, "c": 0.3}) for _ in range(2)])
    [verdict] = push(detector_of(reference, window_rows=4000), window)
    [textbook] = push(detector_of(reference, window_rows=4000, dependence="none"), window)
    assert textbook.statistics[0] / verdict.statistics[0] == pytest.approx(2.0, rel=0.2)
    assert verdict.p_values is not None
    statistic = verdict.statistics[0]
    assert chi2_distribution.sf(statistic, 1.6) < verdict.p_values[0] <= chi2_distribution.sf(statistic, 2)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.9, 0.97])
def test_categories_that_have_an_order_are_loud_no_more_often_than_the_level_says(rho: float) -> None:
    """Tenths of an AR(1): their order remembers far longer than they do on average."""
    rng = np.random.default_rng(int(100 * rho))
    tenths = np.array([*"abcdefghij"])
    small, tried = 0, 300
    for _ in range(tried):
        noise = rng.normal(size=6000)
        path = lfilter([np.sqrt(1 - rho**2)], [1.0, -rho], noise, zi=[rho * rng.normal()])[0]
        values = tenths[(10 * normal.cdf(path)).astype(int)].tolist()
        [verdict] = push(detector_of(table(x=values[:2000])), table(x=values[5000:]))
        assert verdict.p_values is not None
        small += verdict.p_values[0] <= 0.01
    assert small <= poisson.ppf(0.999, 0.01 * tried)


def test_a_restored_detector_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(7)
    reference = table(x=draw(rng, 300, {"a": 0.5, "b": 0.5}))
    batches = [table(x=draw(rng, 30, {"a": 0.5, "§": 0.4, None: 0.1})) for _ in range(10)]
    detector, other = detector_of(reference, window_rows=100), detector_of(reference, window_rows=100)
    for i, rows in enumerate(batches[:5]):
        push(detector, rows, i)
    other.restore(unpack(pack(detector.snapshot())))
    for i, rows in enumerate(batches[5:]):
        assert [v.finding for v in push(other, rows, i)] == [v.finding for v in push(detector, rows, i)]


@pytest.mark.slow
def test_small_windows_of_rare_categories_are_loud_no_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(4)
    shares = 1 / np.arange(1.0, 31.0)
    shares /= shares.sum()
    rows = 100_000
    reference = np.repeat(rng.multinomial(2000, shares, rows // 5), 5, axis=0)
    window = rng.multinomial(50, shares, rows)
    found = {
        "as they are": chi_squared_p_values(*chi_squared(reference, window)),
        "pooled": chi_squared_p_values(*chi_squared(*pooled(reference, window, np.full(rows, 10.0)))),
    }
    assert np.mean(found["as they are"] <= 1e-4) > 1e-3  # what it would be
    assert np.count_nonzero(found["pooled"] <= 1e-4) <= poisson.ppf(0.999, 1e-4 * rows)


def test_a_category_that_takes_over_is_never_pooled_away() -> None:
    reference, window = np.array([[990, 10, 0]]), np.array([[440, 10, 50]])
    before, after = pooled(reference, window, np.array([10.0]))
    assert before.tolist() == [[990, 0, 0, 10]]
    assert after.tolist() == [[440, 0, 50, 10]]
