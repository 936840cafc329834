from __future__ import annotations

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
from streamd.fitting.base import unwatched
from streamd.fitting.training import one_thread
from streamd.scorers.adversarial.judges import HIDDEN_ROWS, falls
from streamd.scorers.fitted import Fitted
from streamd.scorers.registry import load
from streamd.table import FloatArray, Table

COLUMNS = 12


def correlated(rows: int, seed: int) -> FloatArray:
    """(rows, columns): each column is a mixture of as many normal ones, of deviation 1."""
    mixture = np.random.default_rng(11).normal(size=(COLUMNS, COLUMNS))
    return np.random.default_rng(seed).normal(size=(rows, COLUMNS)) @ (mixture / np.linalg.norm(mixture, axis=0))


def table(values: FloatArray) -> Table:
    return Table(len(values), {f"f{i}": np.ascontiguousarray(column) for i, column in enumerate(values.T)})


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [FAnoGANSettings, AnoGANSettings, VaeGanSettings, DiscriminatorSettings, WassersteinSettings]
)
def test_a_column_out_of_range_is_named_first_in_nearly_all_rows(settings: type[AdversarialSettings]) -> None:
    options = settings(steps_max=300)
    learned = options.learn(table(correlated(800, 1)), table(correlated(200, 2)), unwatched)
    fitted = Fitted(options.kind, learned.described, learned.tensors, np.empty(0), np.inf, "")
    rows, planted = np.arange(60), np.arange(60) % COLUMNS
    values = correlated(60, 3)
    values[rows, planted] = np.where(rows % 2, 6.0, -6.0)  # deviations
    with one_thread():  # as in the daemon
        named = load(fitted, "cpu").score(table(values)).explain(rows).argmax(axis=0)
    assert (named == planted).mean() >= 0.95


@pytest.mark.parametrize("rows", [1, 7, HIDDEN_ROWS // 2])
def test_the_score_falls_by_what_an_input_is_away_from_what_the_others_say(rows: int) -> None:
    """Each input should be the mean of the others: a quarter of the sum in which it is hidden."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, rows)))

    def generated(asked: torch.Tensor) -> torch.Tensor:
        return (asked.sum(dim=0) / 4).repeat(5, 1)

    def score(asked: torch.Tensor) -> torch.Tensor:
        return (asked - generated(asked)).square().sum(dim=0)

    expected = np.zeros((5, rows))
    for i in range(5):
        changed = x.clone()
        changed[i] = (x.sum(dim=0) - x[i]) / 4
        expected[i] = (score(x) - score(changed)).clamp(min=0.0).numpy()
    before = x.clone()
    np.testing.assert_allclose(falls(score, generated, x), expected, atol=1e-12)
    assert torch.equal(x, before)
