"""New categories: the p-value against counting all ways, the whole of it against streams in which all is well."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm, poisson

from streamd.detectors.base import Reference
from streamd.detectors.chi2 import Chi2Config, Chi2Detector
from streamd.detectors.novelty import KEPT_MAX, Novelty, p_value
from streamd.model import FeatureBatch, Verdict
from streamd.state import pack, unpack
from streamd.table import Categorical, FloatArray, Table

NAMES = tuple(f"c{i}" for i in range(60))


def table(codes: FloatArray) -> Table:
    return Table(len(codes), categorical={"x": Categorical(codes.astype(np.int32), NAMES)})


def detector_of(codes: FloatArray, **options: object) -> Chi2Detector:
    config, reference = Chi2Config.model_validate(options), table(codes)
    detector = config.build("chi2", config.profile(Reference(reference, reference.sha256(), "batches")))
    assert isinstance(detector, Chi2Detector)
    return detector


def judged(detector: Chi2Detector, codes: FloatArray, test: str = "new_category") -> list[Verdict]:
    return [verdict for verdict in detector.update(FeatureBatch("s", 0, 0, table(codes))) if verdict.test == test]


def adjusted(detector: Chi2Detector, codes: FloatArray, test: str = "new_category") -> float:
    [verdict] = judged(detector, codes, test)
    assert verdict.adjusted is not None
    return float(verdict.adjusted[0])


def ar1(rng: np.random.Generator, rho: float, rows: int) -> FloatArray:
    """Normal quantiles of an AR(1), uniform between 0 and 1."""
    noise = rng.normal(size=rows) * np.sqrt(1 - rho**2)
    return np.asarray(norm.cdf(lfilter([1.0], [1.0, -rho], noise, zi=[rho * rng.normal()])[0]))


@pytest.mark.parametrize(("window", "reference"), [(4, 5), (6, 3), (1, 9)])
def test_the_p_value_is_the_share_of_all_ways_to_place_the_visits(window: int, reference: int) -> None:
    for visits in range(1, window + 1):
        ways = list(combinations(range(window + reference), visits))
        in_window = sum(max(way) < window for way in ways)
        assert p_value(visits, window, reference, 1.0, 1) == pytest.approx(in_window / len(ways))
        assert p_value(visits, 7 * window, 7 * reference, 7.0, 3) == pytest.approx(min(3 * in_window / len(ways), 1.0))


def test_no_visit_says_nothing_and_neither_does_a_reference_of_less_than_a_block() -> None:
    assert p_value(0, 1000, 2000, 1.0, 10) == 1.0
    assert p_value(5, 1000, 150, 200.0, 1) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.9, 0.97])
def test_rare_categories_are_called_new_no_more_often_than_the_level_says(rho: float) -> None:
    """Common categories in the middle and ever rarer ones to both sides: most windows of 1,000 rows have some that a
    reference of 2,000 lacks, and of an AR(1) they come in crowds."""
    rng = np.random.default_rng(int(rho * 100))
    halves = 0.5 ** np.arange(1.0, 14.0)
    edges = np.unique(np.concatenate([halves, 1 - halves]))
    small, lacked, tried = 0, 0, 400
    for _ in range(tried):
        codes = np.searchsorted(edges, ar1(rng, rho, 3000)).astype(float)
        small += adjusted(detector_of(codes[:2000]), codes[2000:]) <= 0.05
        lacked += not np.isin(codes[2000:], codes[:2000]).all()
    assert lacked > 0.03 * tried  # else nothing was tried
    assert small <= poisson.ppf(0.999, 0.05 * tried)


@pytest.mark.slow
def test_a_rare_state_that_the_reference_never_was_in_is_one_piece_of_evidence() -> None:
    """In it every other row is of a kind of its own, for 100 rows: fifty visits, all in the time that it lasts."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        codes = rng.integers(5, size=3000).astype(float)
        begin = rng.integers(2000, 2900)
        codes[begin : begin + 100 : 2] = 9
        assert adjusted(detector_of(codes[:2000]), codes[2000:]) > 0.01


@pytest.mark.parametrize("rho", [0.0, 0.9])
@pytest.mark.parametrize("first", [0, 500])
def test_one_category_in_ten_that_is_replaced_is_found_in_its_first_window(rho: float, first: int) -> None:
    rng = np.random.default_rng(int(10 * rho) + first)
    found = {"new_category": 0, "chi2": 0}
    for _ in range(20):
        codes = np.floor(10 * ar1(rng, rho, 3000))
        codes[2000 + first :][codes[2000 + first :] == 3] = 11
        detector = detector_of(codes[:2000])
        verdicts = detector.update(FeatureBatch("s", 0, 0, table(codes[2000:])))
        for verdict in verdicts:
            assert verdict.adjusted is not None
            found[verdict.test] += bool(verdict.adjusted[0] < 1e-5 and verdict.effects[0] > verdict.effect_threshold)
    assert found["new_category"] >= 18
    assert found["chi2"] < 5  # its effect is a distance of 0.1


def test_the_sentence_says_what_is_new_and_in_how_many_rows() -> None:
    rng = np.random.default_rng(2)
    detector = detector_of(rng.integers(5, size=2000).astype(float))
    rows = np.where(rng.random(1000) < 0.1, 7, rng.integers(5, size=1000)).astype(float)
    [verdict] = judged(detector, rows)
    share = (rows == 7).mean()
    assert verdict.finding.startswith(f"x changed (share new={share:.2g}, p=")
    assert verdict.finding.endswith('; never seen before: x "c7"')
    assert (verdict.effect_name, verdict.effects[0]) == ("new_share", share)
    [calm] = judged(detector, rng.integers(5, size=1000).astype(float))
    assert calm.finding == "no drift over 1000 rows (largest share new=0 in x)"


def test_a_value_that_stays_is_one_visit_however_the_batches_are_cut() -> None:
    codes = np.zeros(1000)
    codes[100:600] = 9
    codes[[700, 702, 704]] = 8
    reference = np.arange(2000.0) % 3
    whole, pieces = detector_of(reference), detector_of(reference)
    judged(whole, codes[:999])
    for start in range(0, 999, 7):
        judged(pieces, codes[start : min(start + 7, 999)])
    assert pieces.unseen.latest == whole.unseen.latest
    assert [(name, len(begins)) for name, _, begins in whole.unseen.latest[0]] == [("c9", 1), ("c8", 3)]
    assert whole.unseen.visits(0, 1) == 3
    assert whole.unseen.visits(0, 10) == 1


def test_windows_that_overlap_are_asked_once_in_a_window() -> None:
    rng = np.random.default_rng(3)
    detector = detector_of(rng.integers(3, size=2000).astype(float), window_rows=100, stride_rows=10)
    codes = rng.integers(4, size=1000).astype(float)
    assert len(judged(detector, codes)) == 10
    assert detector.unseen.since == 1000


def test_rows_without_the_column_are_not_judged() -> None:
    detector = detector_of(np.arange(2000.0) % 3, window_rows=100)
    [verdict] = judged(detector, np.full(100, -1.0))
    assert np.isnan(verdict.effects[0])
    assert verdict.p_values is not None
    assert np.isnan(verdict.p_values[0])


def test_of_a_flood_of_categories_the_latest_are_kept_and_the_doubt_grows() -> None:
    novelty = Novelty(1)
    names = [f"id{i}" for i in range(1000)]
    novelty.note(0, np.arange(1000), np.arange(1000), names, 0)
    assert [each[0] for each in novelty.latest[0]] == names[-KEPT_MAX:]
    assert novelty.candidates(0, 10, 1000) == 100
    assert novelty.candidates(0, 1000, 1000) == KEPT_MAX


def test_a_restored_detector_goes_on_counting() -> None:
    rng = np.random.default_rng(4)
    reference = rng.integers(3, size=2000).astype(float)
    codes = rng.integers(5, size=1000).astype(float)
    detector, other = detector_of(reference), detector_of(reference)
    judged(detector, codes[:600])
    other.restore(unpack(pack(detector.snapshot())))
    assert adjusted(other, codes[600:]) == adjusted(detector, codes[600:]) < 1e-6


def test_every_category_that_could_have_been_the_new_one_counts() -> None:
    rng = np.random.default_rng(5)
    detector = detector_of(rng.integers(5, size=2000).astype(float), dependence="none")
    rows = rng.integers(5, size=1000).astype(float)
    rows[[100, 300, 500, 700]] = 9
    rows[200] = 8
    assert adjusted(detector, rows) == pytest.approx(p_value(4, 1000, 2000, 1.0, 5 + 2))


def test_a_reference_that_remembers_long_makes_visits_near_each_other_one() -> None:
    rng = np.random.default_rng(6)
    reference = np.repeat(rng.integers(5, size=50), 40).astype(float)
    rows = np.repeat(rng.integers(5, size=25), 40).astype(float)
    rows[::10] = 9
    assert adjusted(detector_of(reference), rows) > p_value(35, 1000, 2000, 1000 / 35, 6)
    assert adjusted(detector_of(reference, dependence="none"), rows) < p_value(99, 1000, 2000, 1.0, 6)
