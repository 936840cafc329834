from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cache

import census
import numpy as np
import pytest
import torch

from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.base import Reference
from streamd.detectors.judge import TwoSampleSettings
from streamd.detectors.scorer import ScorerDetector
from streamd.fitting import fit
from streamd.model import FeatureBatch, Kind, Outcome, Verdict
from streamd.state import pack, unpack
from streamd.table import Categorical, Table

CONFIG = AutoencoderConfig(device="cpu", learning_rate=0.005)  # fewer epochs for so simple a table
COLOURS = ("red", "green", "blue")


def served(seed: int, rows: int, broken: bool = False) -> Table:
    """Eight numbers made of two, and a colour that follows the first: `broken` shuffles one number and the colour."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(2, rows))
    angles = np.arange(8) * np.pi / 8
    columns = np.column_stack([np.cos(angles), np.sin(angles)]) @ factors + 0.05 * rng.normal(size=(8, rows))
    colour = np.digitize(factors[0], [-0.5, 0.5]).astype(np.int32)
    if broken:
        columns[2] = rng.permutation(columns[2])
        colour = rng.permutation(colour)
    return Table(
        rows, {f"f{i}": columns[i].copy() for i in range(8)}, categorical={"colour": Categorical(colour, COLOURS)}
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As the daemon has it: a process uses one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def weights() -> bytes:
    return fit(CONFIG, reference())


@cache
def reference() -> Reference:
    table = served(0, 2000)
    return Reference(table, table.sha256(), "batches")


def built(config: AutoencoderConfig = CONFIG) -> ScorerDetector:
    return config.build("autoencoder", config.profile(reference(), weights()))


def outcomes(detector: ScorerDetector, tables: list[Table], first_offset: int = 0) -> list[Outcome]:
    return [o for i, t in enumerate(tables) for o in detector.update(FeatureBatch("s", 0, first_offset + i, t))]


def verdicts(detector: ScorerDetector, tables: list[Table], first_offset: int = 0) -> list[Verdict]:
    return [o for o in outcomes(detector, tables, first_offset) if isinstance(o, Verdict)]


def loud(verdict: Verdict) -> bool:
    assert verdict.adjusted is not None
    return bool(verdict.adjusted[0] <= 0.001 and verdict.effects[0] > verdict.effect_threshold)


def errors_of(table: Table) -> np.ndarray:
    profile = CONFIG.profile(reference(), weights())
    assert profile is not None
    return profile.scorer.score(table).values


def test_rows_like_the_reference_are_quiet() -> None:
    found = verdicts(built(), [served(seed, 250) for seed in range(1, 41)])
    assert len(found) == 10
    assert not any(loud(v) for v in found)
    assert max(float(v.effects[0]) for v in found) < 0.1


def test_columns_that_no_longer_fit_each_other_are_found_and_named_though_each_alone_is_as_ever() -> None:
    live = served(100, 1000, broken=True)
    (verdict,) = verdicts(built(), [live], 7)
    assert loud(verdict)
    assert (verdict.columns, verdict.directions) == (("reconstruction_error",), ("up",))
    assert verdict.kind is Kind.FEATURES
    assert verdict.finding.startswith("reconstruction error rose (KS D=0.")
    assert "f2" in verdict.finding.partition("; most in ")[2]
    profile = built().profile
    assert profile is not None
    over = np.count_nonzero(errors_of(live) > profile.fitted.row_threshold)
    assert f"; {over} of 1000 rows over the row threshold" in verdict.finding


def test_the_worst_rows_are_named_with_their_values() -> None:
    live = served(101, 1000, broken=True)
    (verdict,) = verdicts(built(), [live], 7)
    scores = errors_of(live)
    worst = np.argsort(-scores, kind="stable")[:5]
    assert [f"7:{i}" for i in worst] == [row.id for row in verdict.rows]
    assert scores[worst].tolist() == [row.score for row in verdict.rows]
    for index, row in zip(worst, verdict.rows, strict=True):
        assert len(row.features) == 3
        for name, value in row.features.items():
            colour = live.categorical["colour"]
            assert value == (COLOURS[colour.codes[index]] if name == "colour" else live.numeric[name][index])


def test_each_window_is_counted_anew() -> None:
    found = verdicts(built(), [served(seed, 500) for seed in range(1, 7)])
    assert [verdict.finding.split(" of ")[-1] for verdict in found] == ["1000 rows over the row threshold"] * 3


def test_a_verdict_says_whose_weights_scored() -> None:
    (verdict,) = verdicts(built(), [served(1, 1000)])
    assert verdict.model_sha256 == hashlib.sha256(weights()).hexdigest()


def test_how_rows_are_divided_into_messages_changes_no_score() -> None:
    table = served(3, 1000, broken=True)
    (whole,) = verdicts(built(), [table])
    parts = np.split(np.arange(1000), [1, 2, 100, 357, 999])
    (divided,) = verdicts(built(), [table.take(part) for part in parts])
    assert whole.statistics.tolist() == divided.statistics.tolist()
    assert [row.score for row in whole.rows] == [row.score for row in divided.rows]
    assert whole.finding == divided.finding


def test_one_monstrous_row_is_named_and_does_not_make_the_window_abnormal() -> None:
    table = served(4, 1000)
    table.numeric["f1"][17] = math.inf  # type: ignore[index]
    table.numeric["f2"][18] = -1e308  # type: ignore[index]
    (verdict,) = verdicts(built(), [table])
    assert not loud(verdict)
    assert {row.id for row in verdict.rows[:2]} == {"0:17", "0:18"}
    assert all(math.isfinite(row.score) for row in verdict.rows)


def test_a_row_all_of_whose_columns_are_missing_has_no_error() -> None:
    short, longer = (CONFIG.model_copy(update={"judge": TwoSampleSettings(window_rows=rows)}) for rows in (4, 60))
    gone = Table(
        4,
        {f"f{i}": np.array([math.nan, 0.0, 0.0, math.nan]) for i in range(8)},
        categorical={"colour": Categorical(np.array([-1, 0, -1, -1], np.int32), COLOURS)},
    )
    (verdict,) = verdicts(built(short), [gone])
    assert {row.id for row in verdict.rows} == {"0:1", "0:2"}
    counting, sparse = built(longer), built(longer)  # so short that all rows are asked why
    counting.update(FeatureBatch("s", 0, 0, gone))
    sparse.update(FeatureBatch("s", 0, 0, gone.take(np.array([1, 2]))))
    assert (counting.tally.counts[1], counting.tally.shares.tolist()) == (2, sparse.tally.shares.tolist())


def test_a_batch_without_any_known_column_and_one_without_rows_are_passed_over() -> None:
    detector = built()
    assert detector.update(FeatureBatch("s", 0, 0, Table(10, {"other": np.zeros(10)}))) == ()
    assert detector.update(FeatureBatch("s", 0, 1, served(5, 0))) == ()


def test_a_column_that_stays_away_is_found_and_named() -> None:
    table = served(6, 1000)
    without = Table(1000, {name: column for name, column in table.numeric.items() if name != "f2"})
    (verdict,) = verdicts(built(), [without])
    assert loud(verdict)
    assert "f2" in verdict.finding.partition("; most in ")[2]


def test_restart_anywhere_changes_nothing() -> None:
    config = CONFIG.model_copy(update={"judge": TwoSampleSettings(window_rows=150)})
    sizes = np.random.default_rng(0).integers(1, 90, 60).tolist()
    tables = [served(200 + i, n, broken=i % 3 == 0) for i, n in enumerate(sizes)]
    straight = [v.finding + str(v.rows) for v in verdicts(built(config), tables)]
    detector, found = built(config), []
    for i, table in enumerate(tables):
        state = unpack(pack(detector.snapshot()))
        detector = built(config)
        detector.restore(state)
        found += [v.finding + str(v.rows) for v in verdicts(detector, [table], i)]
    assert len(straight) > 10
    assert straight == found


def test_a_profile_needs_weights() -> None:
    with pytest.raises(ValueError, match="fit first"):
        CONFIG.profile(reference(), None)


def test_a_stream_on_which_nothing_could_be_fitted_is_silent_and_restorable() -> None:
    detector = CONFIG.build("autoencoder", None)
    assert detector.update(FeatureBatch("s", 0, 0, served(1, 10))) == ()
    CONFIG.build("autoencoder", None).restore(unpack(pack(detector.snapshot())))


@pytest.mark.slow
@pytest.mark.data
def test_the_census_event_is_found_within_2000_rows_and_named_by_its_column_and_quiet_years_are_quiet() -> None:
    """Group quarters are a RELP of 16 or 17."""
    config = AutoencoderConfig(device="cpu")
    table = census.load("reference")
    year = Reference(table, "census", "batches")
    detector = config.build("autoencoder", config.profile(year, fit(config, year)))
    analysis = census.load("analysis")
    ends, found, quiet = [], [], []
    for offset, start in enumerate(range(0, analysis.rows, 250)):
        batch = FeatureBatch("census", 0, offset, census.rows(analysis, start, start + 250))
        for outcome in detector.update(batch):
            if isinstance(outcome, Verdict):
                if loud(outcome):
                    ends.append(start + 250)
                    found.append(outcome)
                elif not census.EVENT.start < start + 250 < census.EVENT.stop + 1000:
                    quiet.append(float(outcome.effects[0]))
    assert census.EVENT.start < min(ends) <= census.EVENT.start + 2000
    assert max(ends) <= census.EVENT.stop + 1000  # a window's length
    assert all("most in RELP" in verdict.finding for verdict in found)
    assert max(quiet) < 0.12
