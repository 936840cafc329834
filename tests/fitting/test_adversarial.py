from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from streamd.fitting.adversarial import (
    AdversarialSettings,
    AnoGANSettings,
    DiscriminatorSettings,
    FAnoGANSettings,
    VaeGanSettings,
    WassersteinSettings,
)
from streamd.fitting.base import Epoch, FitError, Learned, unwatched
from streamd.fitting.registry import SCORERS
from streamd.scorers.fitted import Fitted, from_bytes, to_bytes
from streamd.scorers.registry import load
from streamd.table import Categorical, FloatArray, Table

QUICK: dict[str, Any] = {"steps_max": 50, "batch_rows": 32, "units": 8}
TYPES = [FAnoGANSettings, AnoGANSettings, VaeGanSettings, DiscriminatorSettings, WassersteinSettings]


def on_a_plane(rows: int, seed: int = 0) -> FloatArray:
    """Rows of six columns that are mixtures of two."""
    mixing = np.random.default_rng(99).normal(size=(2, 6))
    generator = np.random.default_rng(seed)
    values: FloatArray = generator.normal(size=(rows, 2)) @ mixing + 0.05 * generator.normal(size=(rows, 6))
    return values


def columns(values: FloatArray) -> Table:
    return Table(len(values), {f"f{i}": np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])})


def written(settings: AdversarialSettings, learned: Learned) -> bytes:
    return to_bytes(Fitted(settings.kind, learned.described, learned.tensors, np.zeros(1), 1.0, learned.note))


def fitted(settings: AdversarialSettings, learned: Table, validating: Table) -> bytes:
    return written(settings, settings.learn(learned, validating, unwatched))


def test_every_type_can_be_asked_for_by_name() -> None:
    assert {"f-anogan", "anogan", "vae-gan", "discriminator", "wgan-gp"} <= set(SCORERS)


@pytest.mark.slow
@pytest.mark.parametrize("settings", TYPES)
def test_the_same_rows_give_the_same_bytes_whatever_the_global_generator_does(
    settings: type[AdversarialSettings],
) -> None:
    learned, validating = columns(on_a_plane(100)), columns(on_a_plane(40, seed=1))
    torch.manual_seed(1)
    first = fitted(settings(**QUICK), learned, validating)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert fitted(settings(**QUICK), learned, validating) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert fitted(settings(**QUICK, seed=1), learned, validating) != first


@pytest.mark.slow
@pytest.mark.parametrize("settings", TYPES)
def test_rows_off_the_plane_score_above_those_on_it(settings: type[AdversarialSettings]) -> None:
    learned, validating = columns(on_a_plane(600)), columns(on_a_plane(150, seed=1))
    scorer = load(from_bytes(fitted(settings(steps_max=300), learned, validating)), "cpu")
    normal = on_a_plane(100, seed=2)
    planted = normal[:20].copy()
    planted[:, 3] += 8.0
    values = scorer.score(columns(np.concatenate([normal, planted]))).values
    above = values[100:, None] > values[None, :100]
    assert above.mean() > 0.9


@pytest.mark.slow
def test_the_explanation_names_the_column_that_was_planted() -> None:
    settings = FAnoGANSettings(steps_max=300)
    scorer = load(from_bytes(fitted(settings, columns(on_a_plane(600)), columns(on_a_plane(150, seed=1)))), "cpu")
    planted = on_a_plane(2, seed=2)
    planted[0, 0] += 8.0
    planted[1, 2] += 8.0
    shares = scorer.score(columns(planted)).explain(np.array([1, 0]))
    assert shares.shape == (6, 2)
    assert [scorer.features[i] for i in shares.argmax(axis=0)] == ["f2", "f0"]


def test_progress_tells_of_generator_and_critic() -> None:
    seen: list[Epoch] = []
    settings = FAnoGANSettings(**{**QUICK, "steps_max": 100})
    settings.learn(columns(on_a_plane(60)), columns(on_a_plane(20, seed=1)), seen.append)
    assert [epoch.number for epoch in seen] == [1, 2, 1, 2]  # the game, then the encoder
    assert set(seen[0].losses) == {"critic", "generator", "validation"}
    assert set(seen[2].losses) == {"encoder", "validation"}
    assert all(np.isfinite(loss) for epoch in seen for loss in epoch.losses.values())


def test_a_fit_that_runs_away_stops_with_a_sentence() -> None:
    settings = VaeGanSettings(**QUICK, learning_rate=1e30)
    with pytest.raises(FitError, match="ran away"):
        settings.learn(columns(on_a_plane(60)), columns(on_a_plane(20, seed=1)), unwatched)


def test_nothing_is_learned_from_what_has_no_value() -> None:
    settings = FAnoGANSettings(**QUICK)
    nothing = columns(np.full((50, 3), np.nan))
    with pytest.raises(FitError, match="no numeric or categorical column"):
        settings.learn(nothing, nothing, unwatched)
    with pytest.raises(FitError, match="too few"):
        settings.learn(columns(on_a_plane(0)), columns(on_a_plane(3)), unwatched)
    with pytest.raises(FitError, match="inputs_max"):
        FAnoGANSettings(inputs_max=5).learn(columns(on_a_plane(50)), columns(on_a_plane(3)), unwatched)
    with pytest.raises(FitError, match="n-dimensional"):
        FAnoGANSettings(network="dcgan").learn(columns(on_a_plane(50)), columns(on_a_plane(3)), unwatched)


@pytest.mark.parametrize("values", [on_a_plane(1), on_a_plane(40)[:, :1], np.ones((40, 2))])
def test_one_row_one_column_and_constant_columns_are_learned_from(values: FloatArray) -> None:
    scorer = load(from_bytes(fitted(FAnoGANSettings(**QUICK), columns(values), columns(values))), "cpu")
    assert np.isfinite(scorer.score(columns(values)).values).all()


def test_categories_and_missing_values_are_read() -> None:
    values = on_a_plane(60)
    values[::7, 0] = np.nan
    kinds = Categorical(np.arange(60, dtype=np.int32) % 3, ("a", "b", "c"))
    table = Table(60, columns(values).numeric, categorical={"kind": kinds})
    scorer = load(from_bytes(fitted(FAnoGANSettings(**QUICK), table, table)), "cpu")
    unseen = Table(2, categorical={"kind": Categorical(np.array([0, -1], np.int32), ("never seen",))})
    scores = scorer.score(unseen)
    assert np.isfinite(scores.values[0])
    assert np.isnan(scores.values[1])  # all of its columns are missing
    assert scores.explain(np.array([0])).shape == (7, 1)


@pytest.mark.parametrize(
    ("shape", "network", "family"), [((9, 7), "auto", "dcgan"), ((12,), "auto", "lstm"), ((6, 2), "lstm", "lstm")]
)
def test_images_and_windows_get_networks_of_their_own(shape: tuple[int, ...], network: Any, family: str) -> None:
    values = np.random.default_rng(0).normal(size=(40, *shape))
    table = Table(40, arrays={"seen": values})
    settings = FAnoGANSettings(steps_max=50, batch_rows=8, units=4, network=network)
    learned = settings.learn(table, table, unwatched)
    assert learned.described["architecture"]["family"] == family
    scorer = load(from_bytes(written(settings, learned)), "cpu")
    scores = scorer.score(table)
    assert np.isfinite(scores.values).all()
    assert scores.explain(np.array([3, 4])).shape == (1, 2)
