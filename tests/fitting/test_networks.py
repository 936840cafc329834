from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamd.fitting.base import Epoch, FitError, Learned, ScorerSettings, unwatched
from streamd.fitting.networks import (
    AutoencoderSettings,
    ConvolutionalSettings,
    GruSettings,
    LstmSettings,
    RowSettings,
    ShallowSettings,
    SparseSettings,
    VariationalSettings,
)
from streamd.scorers import registry
from streamd.scorers.base import Scorer
from streamd.scorers.fitted import Fitted, from_bytes, to_bytes
from streamd.table import Categorical, Table

ROWS = [AutoencoderSettings, ShallowSettings, SparseSettings, VariationalSettings]
SHORT = {"epochs_max": 2, "batch_rows": 16}


def fitted(settings: ScorerSettings, learned: Learned) -> Fitted:
    return Fitted(settings.kind, learned.described, learned.tensors, np.zeros(0), 0.0, learned.note)


def scorer(settings: ScorerSettings, learned: Table, validating: Table) -> Scorer:
    """What is read again from the bytes."""
    result = settings.learn(learned, validating, unwatched)
    return registry.load(from_bytes(to_bytes(fitted(settings, result))), "cpu")


def mixed(rows: int, seed: int) -> Table:
    """Six columns that are mixtures of two factors."""
    mixing = np.random.default_rng(99).normal(size=(2, 6))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 2)) @ mixing + 0.05 * rng.normal(size=(rows, 6))
    return Table(rows, {f"f{i}": values[:, i].copy() for i in range(6)})


def unmixed(rows: int, seed: int) -> Table:
    """Columns each like those of `mixed`, which have nothing to do with each other."""
    table = mixed(rows, seed)
    rng = np.random.default_rng(seed)
    return Table(rows, {name: rng.permutation(column) for name, column in table.numeric.items()})


def waves(rows: int, seed: int, kind: str = "sine") -> Table:
    """Windows of 24 steps of two channels, of any phase."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, size=(rows, 1)) + np.arange(24) * 2 * np.pi / 12
    wave = np.stack([np.sin(phase), np.cos(phase)], axis=2) if kind == "sine" else rng.uniform(-1, 1, (rows, 24, 2))
    return Table(rows, arrays={"window": wave + 0.05 * rng.normal(size=wave.shape)})


def pictures(rows: int, seed: int, kind: str = "square") -> Table:
    """Images of 11 x 9 with a bright square somewhere, or as many bright pixels anywhere."""
    rng = np.random.default_rng(seed)
    images = np.zeros((rows, 11, 9))
    for image in images:
        top, left = rng.integers(0, 8), rng.integers(0, 6)
        image[top : top + 3, left : left + 3] = 1
        if kind != "square":
            rng.shuffle(image.reshape(-1))
    return Table(rows, arrays={"image": images + 0.02 * rng.normal(size=images.shape)})


def large_pictures(rows: int, seed: int) -> Table:
    return Table(rows, arrays={"image": np.random.default_rng(seed).uniform(size=(rows, 3, 32, 28))})


def found(scoring: Scorer, normal: Table, strange: Table) -> float:
    """The share of pairs of a normal and a strange row of which the strange one scores higher: AUROC."""
    low, high = scoring.score(normal).values, scoring.score(strange).values
    return float((low[:, None] < high[None, :]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("settings", ROWS)
def test_rows_of_columns_that_no_longer_belong_together_stand_out(settings: type[ScorerSettings]) -> None:
    code = {} if settings is SparseSettings else {"code": 2}
    scoring = scorer(settings(learning_rate=0.003, epochs_max=150, **code), mixed(600, 0), mixed(150, 1))
    assert found(scoring, mixed(300, 2), unmixed(300, 3)) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ConvolutionalSettings(reads="windows", code=6, epochs_max=60),
        LstmSettings(code=6, units=24, epochs_max=60, learning_rate=0.01),
        GruSettings(code=6, units=24, epochs_max=60, learning_rate=0.01),
    ],
)
def test_windows_of_noise_stand_out_among_waves(settings: ScorerSettings) -> None:
    scoring = scorer(settings.model_copy(update={"batch_rows": 32}), waves(400, 0), waves(100, 1))
    assert found(scoring, waves(100, 2), waves(100, 3, "noise")) > 0.95


@pytest.mark.slow
def test_images_of_scattered_pixels_stand_out_among_squares() -> None:
    settings = ConvolutionalSettings(code=16, batch_rows=32, epochs_max=40, learning_rate=0.003)
    scoring = scorer(settings, pictures(600, 0), pictures(100, 1))
    assert found(scoring, pictures(200, 2), pictures(200, 3, "scattered")) > 0.95


EVERY = [
    *((settings(**SHORT), mixed) for settings in ROWS),
    (AutoencoderSettings(preset="keras-32-16-8", **SHORT), mixed),
    (AutoencoderSettings(principal=0.9, **SHORT), mixed),
    (ConvolutionalSettings(**SHORT), pictures),
    (ConvolutionalSettings(**SHORT), large_pictures),
    (ConvolutionalSettings(reads="windows", **SHORT), waves),
    (LstmSettings(units=8, code=4, **SHORT), waves),
    (GruSettings(units=8, code=4, **SHORT), waves),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "made"), EVERY)
def test_two_fits_give_the_same_bytes_whatever_the_global_generator_does(
    settings: ScorerSettings, made: object
) -> None:
    learned, validating = made(80, 0), made(20, 1)  # type: ignore[operator]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = to_bytes(fitted(settings, settings.learn(learned, validating, unwatched)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert to_bytes(fitted(settings, settings.learn(learned, validating, unwatched))) == first
    other = settings.model_copy(update={"seed": 1})
    assert to_bytes(fitted(other, other.learn(learned, validating, unwatched))) != first


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "made"), EVERY)
def test_the_score_of_a_row_does_not_depend_on_the_rows_beside_it(settings: ScorerSettings, made: object) -> None:
    scoring = scorer(settings, made(80, 0), made(20, 1))  # type: ignore[operator]
    table: Table = made(200, 2)  # type: ignore[operator]
    together = scoring.score(table).values
    for count in (1, 2, 3, 17, 64, 199):
        alone = scoring.score(table.take(np.arange(1, 1 + count))).values
        assert together[1 : 1 + count].tolist() == alone.tolist(), count


@pytest.mark.parametrize("settings", ROWS)
@pytest.mark.parametrize(
    "table",
    [
        Table(1, {"a": np.ones(1), "b": np.zeros(1)}),
        Table(30, {"a": np.arange(30.0)}),
        Table(30, {"a": np.full(30, 7.0), "b": np.full(30, -1.0)}),
        Table(30, {"a": np.full(30, math.nan), "b": np.arange(30.0)}),
        Table(30, {"a": np.where(np.arange(30) % 3, np.arange(30.0), math.inf)}),
        Table(30, categorical={"c": Categorical(np.zeros(30, np.int32), ("only",))}),
    ],
    ids=["one row", "one column", "constant columns", "an empty column", "infinities", "one category"],
)
def test_little_and_odd_data_is_fitted_sanely(settings: type[ScorerSettings], table: Table) -> None:
    scoring = scorer(settings(**SHORT), table, table.take(np.arange(table.rows // 5)))
    values = scoring.score(table).values
    assert values.shape == (table.rows,)
    assert np.isfinite(values).all()
    assert scoring.score(table.take(np.arange(0))).values.shape == (0,)


@pytest.mark.parametrize("settings", ROWS)
@pytest.mark.parametrize(
    ("table", "why"),
    [
        (Table(0, {"a": np.zeros(0)}), "there are no rows"),
        (Table(5, {"a": np.full(5, math.nan)}), "no numeric or categorical column with a value"),
        (Table(5), "no numeric or categorical column with a value"),
        (Table(5, arrays={"x": np.ones((5, 3))}), "there are conv, lstm and gru"),
    ],
)
def test_nothing_to_learn_from_is_said_so(settings: type[ScorerSettings], table: Table, why: str) -> None:
    with pytest.raises(FitError, match=why):
        settings(**SHORT).learn(table, table, unwatched)


def test_more_inputs_than_allowed_are_refused() -> None:
    table = mixed(20, 0)
    with pytest.raises(FitError, match="6 inputs are over inputs_max = 5"):
        AutoencoderSettings(inputs_max=5).learn(table, table, unwatched)
    with pytest.raises(FitError, match="99 inputs are over inputs_max = 98"):
        ConvolutionalSettings(inputs_max=98).learn(pictures(20, 0), pictures(5, 1), unwatched)


def test_a_loss_that_runs_away_stops_with_a_word() -> None:
    settings = AutoencoderSettings(learning_rate=1e30, gradient_norm_max=1e30, outlying=None)
    with pytest.raises(FitError, match="smaller learning_rate"):
        settings.learn(mixed(300, 0), mixed(50, 1), unwatched)


def test_a_category_never_seen_and_a_missing_value_are_scored() -> None:
    table = Table(
        40, {"a": np.arange(40.0)}, categorical={"c": Categorical(np.arange(40, dtype=np.int32) % 2, ("x", "y"))}
    )
    scoring = scorer(AutoencoderSettings(**SHORT), table, table)
    live = Table(
        3,
        {"a": np.array([1.0, math.nan, math.nan])},
        categorical={"c": Categorical(np.array([0, 1, -1], np.int32), ("z", "x"))},
    )
    values = scoring.score(live).values
    assert np.isfinite(values).tolist() == [True, True, False]  # of the last row nothing is known


def test_a_column_that_was_renamed_is_missing_in_all_rows_and_nothing_breaks() -> None:
    scoring = scorer(AutoencoderSettings(**SHORT), mixed(80, 0), mixed(20, 1))
    columns = dict(mixed(5, 2).numeric)
    columns["new name"] = columns.pop("f0")
    assert np.isfinite(scoring.score(Table(5, columns)).values).all()
    assert np.isnan(scoring.score(Table(5, {"other": np.ones(5)})).values).all()


def test_passes_are_told_with_their_losses() -> None:
    told: list[Epoch] = []
    AutoencoderSettings(**SHORT).learn(mixed(80, 0), mixed(20, 1), told.append)
    assert [epoch.number for epoch in told] == [1, 2]
    assert set(told[0].losses) == {"training", "validation"}


@pytest.mark.slow
def test_the_first_and_last_layers_over_principal_components_give_back_what_they_keep() -> None:
    """Two factors make nearly all of the variance of six columns: sklearn keeps the same."""
    from sklearn.decomposition import PCA

    table = mixed(300, 0)
    learned = AutoencoderSettings(principal=0.98, **SHORT).learn(table, table, unwatched)
    first, last = (
        learned.tensors["weights.0"],
        learned.tensors[f"weights.{len(learned.described['network']['activations']) - 1}"],
    )
    columns = np.stack(list(table.numeric.values()), axis=1)
    scaled = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    expected = PCA(0.98).fit(scaled)
    assert len(first) == expected.n_components_ == 2
    np.testing.assert_allclose(np.abs(first @ expected.components_.T), np.eye(2), atol=1e-4)
    np.testing.assert_array_equal(last, first.T)


def test_the_preset_is_that_of_keras_and_gives_way_to_what_is_said() -> None:
    settings = AutoencoderSettings(preset="keras-32-16-8", code=4)
    assert (settings.hidden, settings.code, settings.activation) == ((32, 16), 4, "relu")
    assert (settings.output, settings.scaling, settings.outlying) == ("sigmoid", "minmax", None)
    learned = settings.model_copy(update=SHORT).learn(mixed(80, 0), mixed(20, 1), unwatched)
    shapes = [learned.tensors[f"weights.{i}"].shape for i in range(6)]
    assert shapes == [(32, 6), (16, 32), (4, 16), (16, 4), (32, 16), (6, 32)]
    assert learned.described["network"]["activations"] == ["relu"] * 5 + ["sigmoid"]


def test_principal_components_with_an_output_between_0_and_1_are_refused() -> None:
    with pytest.raises(ValidationError, match="not between 0 and 1"):
        AutoencoderSettings(principal=0.9, output="sigmoid")


@pytest.mark.slow
@pytest.mark.parametrize("rare", [0.05, 0.15])
def test_what_is_rare_in_the_data_stays_strange_because_outliers_are_not_learned(rare: float) -> None:
    def dirty(rows: int, seed: int) -> Table:
        table, odd = mixed(rows, seed), int(rare * rows)
        return Table(rows, {name: np.r_[column[odd:], np.full(odd, 3.0)] for name, column in table.numeric.items()})

    odd = Table(20, {f"f{i}": np.full(20, 3.0) for i in range(6)})
    options = {"epochs_max": 100, "learning_rate": 0.003}
    robust = scorer(AutoencoderSettings(**options), dirty(600, 0), dirty(150, 1))
    whole = scorer(AutoencoderSettings(outlying=None, **options), dirty(600, 0), dirty(150, 1))
    normal = mixed(200, 2)
    assert np.median(robust.score(odd).values) > 3 * np.quantile(robust.score(normal).values, 0.95)
    assert np.median(robust.score(odd).values) > 3 * np.median(whole.score(odd).values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        AutoencoderSettings(code=2),
        AutoencoderSettings(code=2, activation="tanh", principal=0.999),
        ShallowSettings(code=2),
        SparseSettings(),
        VariationalSettings(code=2),
    ],
)
def test_scores_are_those_of_the_same_network_with_its_code_clipped_to_the_central_share(settings: RowSettings) -> None:
    """Beside the network that was fitted without, run by numpy."""
    settings = settings.model_copy(update={"epochs_max": 20, "learning_rate": 0.003, "weighted": False})
    table, live = mixed(300, 0), mixed(100, 1)
    far = Table(100, {name: 5 * column for name, column in live.numeric.items()})
    within = scorer(settings.model_copy(update={"code_within": 0.9}), table, live)
    plain = settings.model_copy(update={"code_within": None}).learn(table, live, unwatched)

    functions = {"leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x), "tanh": np.tanh, "linear": lambda x: x}
    activations = plain.described["network"]["activations"]
    layers = [
        (plain.tensors[f"weights.{i}"].astype(float), plain.tensors[f"biases.{i}"][:, None], functions[activation])
        for i, activation in enumerate(activations)
    ]

    def run(hidden: np.ndarray, some: slice) -> np.ndarray:
        for weights, biases, function in layers[some]:
            hidden = function(weights @ hidden + biases)
        return hidden

    def scaled(rows: Table) -> np.ndarray:
        means, scales = plain.tensors["transform.means"], plain.tensors["transform.scales"]
        columns = np.stack(list(rows.numeric.values()))
        return ((columns - means[:, None]) / scales[:, None]).clip(-settings.bound, settings.bound)

    encoder, decoder = slice(0, len(layers) // 2), slice(len(layers) // 2, None)
    lowest, highest = np.quantile(run(scaled(table), encoder), [0.05, 0.95], axis=1)[:, :, None]
    for rows in (live, far):
        outputs = run(run(scaled(rows), encoder).clip(lowest, highest), decoder)
        expected = np.square(outputs - scaled(rows)).mean(axis=0)
        np.testing.assert_allclose(within.score(rows).values, expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ROWS)
def test_a_row_far_out_in_a_usual_direction_stands_out(settings: type[RowSettings]) -> None:
    options = {"epochs_max": 100, "learning_rate": 0.003} | ({} if settings is SparseSettings else {"code": 2})
    normal = mixed(300, 2)
    far = Table(300, {name: 4 * column for name, column in normal.numeric.items()})
    within = scorer(settings(**options), mixed(600, 0), mixed(150, 1))
    plain = scorer(settings(code_within=None, **options), mixed(600, 0), mixed(150, 1))

    def times_farther(scoring: Scorer) -> float:
        return float(np.median(scoring.score(far).values) / np.median(scoring.score(normal).values))

    assert times_farther(within) > 3 * times_farther(plain)
    assert found(within, normal, far) > 0.9


@pytest.mark.parametrize("settings", ROWS)
def test_what_a_search_tries_begins_with_the_settings_and_keeps_what_was_given(settings: type[ScorerSettings]) -> None:
    tried = settings(bound=4.0, code=3).candidates()
    assert tried[0] == settings(bound=4.0, code=3)
    assert len({str(each) for each in tried}) == len(tried) > 1
    for each in tried:
        assert each.model_dump()["code"] == 3
        assert type(each).model_validate(each.model_dump()) == each
