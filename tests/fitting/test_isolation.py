"""`isolation`: scikit-learn's own decision function, and its own walk down the trees, are what our forest must give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from streamd.fitting.base import FitError, unwatched
from streamd.fitting.isolation import IsolationSettings, flattened
from streamd.scorers import registry
from streamd.scorers.base import Scorer
from streamd.scorers.fitted import Fitted, from_bytes, to_bytes
from streamd.scorers.isolation import Forest
from streamd.table import Categorical, FloatArray, Table


def grown(rows: FloatArray, **options: Any) -> tuple[IsolationForest, Forest]:
    theirs = IsolationForest(**{"n_estimators": 20, "random_state": 0} | options).fit(rows)
    return theirs, flattened(theirs)


def inputs(rows: FloatArray) -> Any:
    with np.errstate(over="ignore"):  # what is over float32 is infinite there, and in scikit-learn
        return np.ascontiguousarray(rows.astype(np.float32).T)


def a_table(rng: np.random.Generator, rows: int, columns: int, odd: str) -> FloatArray:
    values: FloatArray = rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-3, 6, columns)
    match odd:
        case "missing":
            values[rng.random(values.shape) < 0.2] = np.nan
        case "constant":
            values[:, :: 2 if columns > 1 else 1] = 7.25
        case "ties":
            values = values.round(0) % 4
        case "far":
            values += 1.7e9  # seconds since 1970: float32 knows them to two minutes
    return values


@pytest.mark.slow  # all of them together
@pytest.mark.parametrize("odd", ["", "missing", "constant", "ties", "far"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"contamination": 0.1},
        {"max_features": 0.4},
        {"max_samples": 1.0, "bootstrap": True},
        {"max_samples": 3},
        {"max_samples": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("columns", [1, 2, 13])
def test_scores_are_minus_the_decision_function_of_scikit_learn(
    odd: str, options: dict[str, Any], columns: int
) -> None:
    rng = np.random.default_rng(columns)
    theirs, ours = grown(a_table(rng, 700, columns, odd), random_state=columns, **options)
    judged = np.concatenate([a_table(rng, 300, columns, odd), a_table(rng, 77, columns, "missing")])
    judged[:3] = [[np.inf], [-np.inf], [np.nan]]
    expected = -theirs.decision_function(judged.astype(np.float32))
    np.testing.assert_allclose(ours.scores(inputs(judged)), expected, rtol=0, atol=1e-9)


def test_a_value_at_a_threshold_goes_the_way_that_scikit_learn_sends_it() -> None:
    rng = np.random.default_rng(0)
    theirs, ours = grown(rng.normal(size=(400, 1)))
    thresholds = np.concatenate([tree.tree_.threshold[tree.tree_.feature >= 0] for tree in theirs.estimators_])
    near = thresholds.astype(np.float32)
    judged = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    expected = -theirs.decision_function(judged[:, None])
    np.testing.assert_allclose(ours.scores(judged[None]), expected, rtol=0, atol=1e-9)


def test_what_the_inputs_shorten_a_path_by_adds_up_to_the_difference_from_the_mean_path() -> None:
    rng = np.random.default_rng(1)
    theirs, ours = grown(a_table(rng, 500, 5, "missing"))
    judged = a_table(rng, 60, 5, "missing")
    lengths = -np.log2(-theirs.score_samples(judged)) * ours.normaliser
    mean = ours.lengths[ours.roots].mean()
    np.testing.assert_allclose(ours.shortenings(inputs(judged)).sum(axis=0), mean - lengths, atol=1e-9)


def test_the_mean_path_is_that_of_the_rows_that_a_tree_was_grown_from() -> None:
    rows = np.random.default_rng(2).normal(size=(256, 4))
    theirs, ours = grown(rows, n_estimators=5)  # each of all 256 rows
    lengths = -np.log2(-theirs.score_samples(rows)) * ours.normaliser
    assert ours.lengths[ours.roots].mean() == pytest.approx(lengths.mean(), rel=1e-12)


def mixed(rows: int, seed: int) -> Table:
    """Two numbers that hang together, one with gaps, and a colour."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=rows)
    gaps = np.where(rng.random(rows) < 0.05, np.nan, rng.lognormal(0, 1, rows))
    colours = Categorical(rng.choice(3, rows, p=[0.6, 0.3, 0.1]).astype(np.int32), ("red", "green", "blue"))
    numeric = {"level": 1.7e9 + 1e3 * level, "other": level + rng.normal(0, 0.1, rows), "gaps": gaps}
    return Table(rows, numeric, categorical={"colour": colours})


def read(table: Table, **options: Any) -> Scorer:
    """As the daemon has it: through bytes."""
    cut = table.rows * 4 // 5
    every = np.arange(table.rows)
    learned = IsolationSettings(**options).learn(table.take(every[:cut]), table.take(every[cut:]), unwatched)
    fitted = Fitted("isolation", learned.described, learned.tensors, np.empty(0), 0.0, learned.note)
    return registry.load(from_bytes(to_bytes(fitted)))


def test_the_score_of_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    scorer, table = read(mixed(900, 0)), mixed(300, 1)
    together = scorer.score(table).values
    for rows in (range(1), range(100, 300), range(299, 0, -1)):
        chosen = np.array(rows)
        assert scorer.score(table.take(chosen)).values.tobytes() == together[chosen].tobytes()
    assert scorer.score(table.take(np.arange(0))).values.shape == (0,)


def test_one_seed_gives_the_same_bytes_and_another_others() -> None:
    table = mixed(500, 0)
    tensors = [IsolationSettings(seed=seed).learn(table, table, unwatched).tensors for seed in (0, 0, 1)]
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not np.array_equal(tensors[0]["forest.thresholds"], tensors[2]["forest.thresholds"])


@pytest.mark.parametrize(
    ("changed", "value", "blamed"),
    [("other", 60.0, "other"), ("level", 1.7e9 + 9e4, "level"), ("gaps", 1e9, "gaps"), ("gaps", np.inf, "gaps")],
)
def test_a_row_far_out_in_one_column_scores_higher_and_that_column_is_blamed(
    changed: str, value: float, blamed: str
) -> None:
    scorer, table = read(mixed(2000, 0)), mixed(400, 1)
    before = scorer.score(mixed(400, 1)).values[123]
    table.numeric[changed][123] = value
    scores = scorer.score(table)
    # How far out it lies changes nothing: beyond the outermost row that a tree has seen, all is one leaf.
    assert scores.values[123] > before + 0.05
    assert scores.values[123] > np.quantile(scores.values, 0.75)
    explained = scores.explain(np.array([123, 5]))
    assert explained.shape == (4, 2)
    assert scorer.features[int(np.argmax(explained[:, 0]))] == blamed
    assert (explained >= 0).all()


def test_missing_values_columns_and_categories_are_scored_and_rows_without_any_value_are_not() -> None:
    scorer, table = read(mixed(900, 0)), mixed(50, 1)
    colours = Categorical(np.full(50, 0, np.int32), ("never seen",))
    fewer = Table(50, {"gaps": table.numeric["gaps"], "unknown": np.ones(50)}, categorical={"colour": colours})
    assert np.isfinite(scorer.score(fewer).values).all()
    assert np.isnan(scorer.score(Table(7, {"unknown": np.ones(7)})).values).all()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (Table(0), "two rows or more, not 0"),
        (Table(1, {"a": np.ones(1)}), "two rows or more, not 1"),
        (Table(9), "no column has a value"),
        (Table(9, {"a": np.full(9, np.nan)}), "no column has a value"),
    ],
)
def test_a_table_with_nothing_to_learn_is_refused_with_the_reason(table: Table, sentence: str) -> None:
    with pytest.raises(FitError, match=sentence):
        IsolationSettings().learn(table, table.take(np.arange(0)), unwatched)


def test_constant_columns_and_one_column_can_be_learned_from() -> None:
    constant = Table(100, {"a": np.ones(100), "b": np.zeros(100)})
    assert len(set(read(constant).score(constant).values.tolist())) == 1
    alone = Table(400, {"a": np.random.default_rng(0).normal(size=400)})
    scores = read(alone).score(Table(2, {"a": np.array([0.0, 9.0])})).values
    assert scores[1] > scores[0]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("children", lambda a: a + 10_000),
        ("columns", lambda a: a + 1000),
        ("roots", lambda a: a + 1_000_000),
        ("depths", lambda a: a + 1_000_000),
        ("thresholds", lambda a: a[:-1]),
        ("thresholds", lambda a: np.append(a[:-1], np.float32(0.0))),  # the last leaf would have a right child
        ("lengths", lambda a: a.astype(np.float32)),
    ],
)
def test_trees_that_would_lead_out_of_their_arrays_are_refused(part: str, change: Any) -> None:
    table = mixed(300, 0)
    learned = IsolationSettings(trees=3).learn(table, table, unwatched)
    name = f"forest.{part}"
    tensors = {**learned.tensors, name: change(learned.tensors[name])}
    with pytest.raises(ValueError, match="these trees"):
        registry.load(Fitted("isolation", learned.described, tensors, np.empty(0), 0.0, ""))
    without = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(ValueError, match="lacks a part"):
        registry.load(Fitted("isolation", learned.described, without, np.empty(0), 0.0, ""))
