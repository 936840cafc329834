from __future__ import annotations

import numpy as np
import pytest

from streamd.fitting.base import FitError
from streamd.fitting.isolation import IsolationSettings
from streamd.fitting.learning import FitOptions, fit
from streamd.fitting.networks import AutoencoderSettings
from streamd.fitting.registry import SCORERS
from streamd.fitting.search import search
from streamd.fitting.split import split
from streamd.fitting.thresholds import BestF1Threshold, EvtThreshold, QuantileThreshold
from streamd.scorers.fitted import from_bytes, to_bytes
from streamd.scorers.registry import load
from streamd.table import Table


def normal(rows: int, seed: int = 0) -> Table:
    generator = np.random.default_rng(seed)
    return Table(rows, {f"x{i}": generator.normal(size=rows) for i in range(4)})


def spoiled(rows: int, share: float, seed: int = 0) -> tuple[Table, np.ndarray]:
    """Normal rows, of which a share lies far away; which they are."""
    table, labels = normal(rows, seed), np.random.default_rng(seed + 1).random(rows) < share
    return Table(rows, {name: column + 6.0 * labels for name, column in table.numeric.items()}), labels


def walk(rows: int) -> Table:
    """A column each of whose values is nearly the one before it."""
    noise = np.random.default_rng(0).normal(size=rows)
    values = np.zeros(rows)
    for i in range(1, rows):
        values[i] = 0.97 * values[i - 1] + noise[i]
    return Table(rows, {"x": values})


@pytest.mark.parametrize("rows", [20, 101, 1_000, 20_003])
def test_every_row_is_in_one_part_and_each_part_has_some(rows: int) -> None:
    parts = split(normal(rows))
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))
    assert len(parts.held_out) == pytest.approx(0.2 * rows, rel=0.1, abs=2)
    assert len(parts.validating) == pytest.approx(0.16 * rows, rel=0.2, abs=6)


def test_rows_that_depend_on_their_past_are_held_out_in_longer_blocks() -> None:
    def blocks(table: Table) -> int:
        return 1 + int(np.count_nonzero(np.diff(split(table).held_out) > 1))

    assert blocks(normal(4_000)) == 4
    assert blocks(walk(4_000)) == 1


def test_the_threshold_lets_as_many_new_normal_rows_pass_as_it_says() -> None:
    found = fit(IsolationSettings(trees=50), normal(8_000))
    scores = found.scorer.score(normal(20_000, seed=9)).values
    assert np.mean(scores > found.threshold.value) == pytest.approx(0.05, abs=0.015)
    assert found.fitted.row_threshold == found.threshold.value
    assert len(found.fitted.calibration) == len(found.split.held_out) == 1600


def test_what_was_fitted_scores_the_same_after_it_was_written_and_read() -> None:
    found = fit(IsolationSettings(trees=20), normal(500), options=FitOptions(EvtThreshold(rate=0.01)))
    again = from_bytes(to_bytes(found.fitted))
    np.testing.assert_array_equal(load(again).score(normal(50, 3)).values, found.scorer.score(normal(50, 3)).values)
    assert again.spot == found.fitted.spot is not None
    assert to_bytes(again) == to_bytes(found.fitted)


def test_two_fits_of_the_same_rows_are_the_same_bytes() -> None:
    first, second = (to_bytes(fit(IsolationSettings(trees=20), normal(500)).fitted) for _ in range(2))
    assert first == second


def test_rows_that_are_labelled_abnormal_are_not_learned_from() -> None:
    table, labels = spoiled(2_000, 0.1)
    found = fit(IsolationSettings(trees=30), table, labels, FitOptions(BestF1Threshold()))
    assert not labels[found.split.learned].any()
    assert not labels[found.split.validating].any()
    alarms = found.scorer.score(table).values > found.threshold.value
    assert np.mean(alarms == labels) > 0.99
    assert len(found.fitted.calibration) == np.count_nonzero(~labels[found.split.held_out])


def test_trimming_leaves_out_the_worst_rows_of_data_that_is_not_clean() -> None:
    table, _ = spoiled(4_000, 0.04)
    clean, trimmed = normal(2_000, 7), fit(IsolationSettings(trees=50), table, options=FitOptions(trim=0.05))
    assert trimmed.trimmed == int(0.05 * len(trimmed.split.learned))
    as_is = fit(IsolationSettings(trees=50), table)

    def apart(scorer: object) -> float:
        strange = scorer.score(Table(200, {f"x{i}": np.full(200, 6.0) for i in range(4)})).values  # type: ignore[attr-defined]
        return float(strange.mean() - scorer.score(clean).values.mean())  # type: ignore[attr-defined]

    assert apart(trimmed.scorer) > apart(as_is.scorer)


def test_what_cannot_be_learned_from_is_said() -> None:
    with pytest.raises(FitError, match="5 rows are too few"):
        fit(IsolationSettings(), normal(5))
    with pytest.raises(FitError, match="all rows are labelled abnormal"):
        fit(IsolationSettings(), normal(100), np.ones(100, bool))
    with pytest.raises(FitError, match="labels"):
        fit(IsolationSettings(), normal(100), options=FitOptions(BestF1Threshold()))


@pytest.mark.slow
def test_a_search_takes_the_smallest_of_what_is_as_good_as_the_best() -> None:
    table, labels = spoiled(1_500, 0.1)

    class Tries(IsolationSettings):
        def candidates(self) -> tuple[IsolationSettings, ...]:
            return tuple(IsolationSettings(trees=trees) for trees in (80, 20, 40))

    tried = search(Tries(), table, labels)
    assert tried[0].score > 0.99
    assert tried[0].settings == IsolationSettings(trees=20)
    assert [each.score for each in tried[1:]] == sorted((each.score for each in tried[1:]), reverse=True)


def test_without_labels_what_is_compared_is_the_plain_error_of_the_reconstruction() -> None:
    """Divided by what is usual for each input, as the scorer does, every candidate would come to about 1."""

    class Tries(AutoencoderSettings):
        def candidates(self) -> tuple[AutoencoderSettings, ...]:
            return tuple(
                AutoencoderSettings(hidden=(), code=code, steps_max=steps) for code, steps in ((2, 1), (2, 400))
            )

    a, b = np.random.default_rng(0).normal(size=(2, 400))
    tried = search(Tries(), Table(400, {"a": a, "b": b, "sum": a + b, "difference": a - b}))
    assert all(np.isnan(each.precision) for each in tried)
    untaught, taught = (next(-each.score for each in tried if each.settings.steps_max == steps) for steps in (1, 400))  # type: ignore[attr-defined]
    assert taught < untaught / 2


def test_without_labels_a_forest_is_not_searched() -> None:
    with pytest.raises(FitError, match="only labels tell which isolation is better: name their column with --labels"):
        search(IsolationSettings(), normal(400))


@pytest.mark.parametrize("scorer", sorted(set(SCORERS) - {"onnx"}))
def test_a_search_tries_several_keeps_what_was_given_and_begins_with_the_usual(scorer: str) -> None:
    settings = SCORERS[scorer]()
    tried = settings.candidates()
    assert tried[0] == settings
    assert len(tried) == len({each.model_dump_json() for each in tried}) >= 3
    varied = {
        name for each in tried for name in type(each).model_fields if getattr(each, name) != getattr(settings, name)
    }
    for name in varied:
        kept = SCORERS[scorer](**{name: getattr(settings, name)})
        assert {getattr(each, name) for each in kept.candidates()} == {getattr(settings, name)}


def test_a_search_of_gans_tries_both_losses() -> None:
    assert {each.loss for each in SCORERS["f-anogan"]().candidates()} == {"bce", "wgan-gp"}  # type: ignore[attr-defined]
    assert {each.loss for each in SCORERS["wgan-gp"]().candidates()} == {"wgan-gp"}  # type: ignore[attr-defined]


def test_the_quantile_is_the_default() -> None:
    assert FitOptions().threshold == QuantileThreshold(level=0.95)
