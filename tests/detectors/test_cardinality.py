"""`cardinality`: bursts fire, growth does not, and the window is that of a brute-force count."""

from __future__ import annotations

import numpy as np

from streamd.detectors.base import Detector
from streamd.detectors.cardinality import WINDOW_PARTS, CardinalityConfig
from streamd.model import FeatureBatch, Verdict
from streamd.state import pack, unpack
from streamd.table import Categorical, Table

MINUTE, HOUR = 60_000, 3_600_000


def column(values: list[str | None]) -> Categorical:
    categories = tuple(dict.fromkeys(value for value in values if value is not None))
    return Categorical(np.array([-1 if v is None else categories.index(v) for v in values], np.int32), categories)


def feed(detector: Detector, offset: int, values: list[str | None], time_ms: int = 0) -> Verdict | None:
    table = Table(len(values), categorical={"country": column(values)})
    outcomes = detector.update(FeatureBatch("s", time_ms, offset, table))
    assert all(isinstance(outcome, Verdict) for outcome in outcomes)
    return outcomes[0] if outcomes else None  # type: ignore[return-value]


def fired(verdict: Verdict | None) -> bool:
    return verdict is not None and bool((verdict.effects > verdict.effect_threshold).any())


def names(distinct: int, rows: int = 256, start: int = 0) -> list[str | None]:
    return [f"v{start + i % distinct}" for i in range(rows)]


def test_from_five_values_to_two_hundred_fires_whether_at_once_or_over_five_batches() -> None:
    for step in (200, 40):
        detector = CardinalityConfig().build("cardinality", None)
        for offset in range(20):
            assert not fired(feed(detector, offset, names(5)))
        assert any(fired(feed(detector, 20 + i, names(step, start=i * step))) for i in range(200 // step))


def test_a_burst_that_creeps_in_over_a_few_batches_does_not_vouch_for_itself() -> None:
    detector = CardinalityConfig().build("cardinality", None)
    for offset in range(20):
        feed(detector, offset, names(5))
    assert any(fired(feed(detector, 20 + i, names(4, start=100 + 4 * i))) for i in range(5))


def test_nothing_is_said_before_there_is_a_past() -> None:
    detector = CardinalityConfig(min_batches=10).build("cardinality", None)
    assert [feed(detector, offset, names(5)) for offset in range(10)] == [None] * 10
    assert feed(detector, 10, names(5)) is not None


def test_a_burst_is_not_learned_and_fires_again() -> None:
    detector = CardinalityConfig().build("cardinality", None)
    for offset in range(20):
        feed(detector, offset, names(5))
    before = pack(detector.snapshot()["columns"])
    assert fired(feed(detector, 20, names(200)))
    assert pack(detector.snapshot()["columns"]) == before
    assert fired(feed(detector, 21, names(200)))


def test_slow_growth_and_ids_that_never_repeat_do_not_fire() -> None:
    slow = CardinalityConfig().build("cardinality", None)
    ids = CardinalityConfig(values_max=100_000).build("cardinality", None)
    for offset in range(200):
        assert not fired(feed(slow, offset, names(5 + offset)))
        assert not fired(feed(ids, offset, names(64, 64, start=64 * offset)))


def test_a_long_tail_that_batches_of_any_size_uncover_does_not_fire() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        detector = CardinalityConfig(values_max=100_000).build("cardinality", None)
        for offset in range(150):
            rows = int(rng.choice([20, 50, 256, 3000]))
            values: list[str | None] = [f"v{v}" for v in rng.zipf(1.6, rows)]
            assert not fired(feed(detector, offset, values, offset * 7 * MINUTE)), (seed, offset)


def test_the_count_is_that_of_a_brute_force_window_to_a_part_of_it() -> None:
    rng = np.random.default_rng(1)
    detector = CardinalityConfig(window_hours=24, effect_threshold=1e9).build("cardinality", None)
    seen: list[tuple[int, set[str]]] = []
    width = 24 * HOUR // WINDOW_PARTS
    for offset in range(400):
        time_ms = offset * 17 * MINUTE
        values = [f"v{v}" for v in rng.integers(0, 400, 20)]
        seen.append((time_ms, set(values)))
        verdict = feed(detector, offset, list(values), time_ms)
        if verdict is not None:
            since = time_ms // width - WINDOW_PARTS
            assert verdict.statistics[0] == len(set().union(*(s for t, s in seen if t // width > since)))


def test_values_of_yesterday_are_forgotten_and_rows_too() -> None:
    detector = CardinalityConfig(window_rows=960).build("cardinality", None)
    for offset in range(40):
        verdict = feed(detector, offset, names(5, 96, start=5 * (offset // 20)))
    assert verdict is not None
    assert verdict.statistics.tolist() == [5.0]


def test_memory_is_bounded_by_the_number_and_the_length_of_values() -> None:
    detector = CardinalityConfig(values_max=100).build("cardinality", None)
    for offset in range(50):
        feed(detector, offset, [f"{offset}-{i}" + "x" * 10_000 for i in range(50)])
    assert len(pack(detector.snapshot())) < 20_000
    sizes = detector.nbytes
    for offset in range(50, 80):
        feed(detector, offset, [f"{offset}-{i}" + "x" * 10_000 for i in range(50)])
    assert detector.nbytes == sizes


def test_numeric_columns_are_counted_by_name_only() -> None:
    detector = CardinalityConfig(numeric_columns=("code",)).build("cardinality", None)
    for offset in range(20):
        table = Table(100, {"code": np.arange(100.0) % 5, "amount": np.arange(100.0) + 100 * offset})
        outcomes = detector.update(FeatureBatch("s", 0, offset, table))
    assert outcomes[0].columns == ("code",)
    [verdict] = detector.update(FeatureBatch("s", 0, 20, Table(100, {"code": np.arange(100.0)})))
    assert isinstance(verdict, Verdict)
    assert fired(verdict)
    assert verdict.finding == "code: 100 distinct values over 2100 rows (expected at most 7), new: 5, 6, 7"


def test_missing_values_are_not_a_value_and_late_batches_are_taken_as_they_come() -> None:
    detector = CardinalityConfig().build("cardinality", None)
    for offset in range(20):
        verdict = feed(detector, offset, ["a", None, "b"], 10 * HOUR if offset % 2 else 0)
    assert verdict is not None
    assert verdict.statistics.tolist() == [2.0]


def test_a_restart_anywhere_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    batches = [[f"v{v}" for v in rng.zipf(1.7, 50)] for _ in range(60)]
    config = CardinalityConfig(values_max=60)
    whole, parts = config.build("cardinality", None), config.build("cardinality", None)
    for offset, values in enumerate(batches):
        fresh = config.build("cardinality", None)
        fresh.restore(unpack(pack(parts.snapshot())))
        parts = fresh
        one, other = (feed(d, offset, list(values), offset * 40 * MINUTE) for d in (whole, parts))
        assert (one and (one.statistics.tolist(), one.effects.tolist(), one.finding)) == (
            other and (other.statistics.tolist(), other.effects.tolist(), other.finding)
        )
    assert pack(whole.snapshot()) == pack(parts.snapshot())
