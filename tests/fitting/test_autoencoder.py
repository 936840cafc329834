from __future__ import annotations

import numpy as np
import pytest
import torch

from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.base import Reference
from streamd.detectors.entropy import EntropyConfig
from streamd.fitting import fit
from streamd.fitting.autoencoder import BLOCKS_MAX, _block_count
from streamd.fitting.split import cut
from streamd.scorers.fitted import from_bytes
from streamd.scorers.registry import load
from streamd.table import Table

QUICK = AutoencoderConfig(epochs_max=5)


def made_of(factors: int, columns: int, rows: int, seed: int) -> Reference:
    """Columns that are mixtures of a few factors: what an autoencoder can learn."""
    mixing = np.random.default_rng(99).normal(size=(factors, columns))
    values = np.random.default_rng(seed).normal(size=(rows, factors)) @ mixing
    table = Table(rows, {f"f{i}": values[:, i].copy() for i in range(columns)})
    return Reference(table, table.sha256(), "batches")


def test_the_same_reference_gives_the_same_bytes_whatever_the_global_generator_does() -> None:
    reference = made_of(3, 8, 500, seed=0)
    torch.manual_seed(1)
    first = fit(QUICK, reference)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert fit(QUICK, reference) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_and_the_rows_change_the_weights() -> None:
    reference = made_of(3, 8, 500, seed=0)
    bundles = [
        fit(QUICK, reference),
        fit(QUICK.model_copy(update={"seed": 1}), reference),
        fit(QUICK, made_of(3, 8, 500, seed=1)),
    ]
    assert len(set(bundles)) == 3


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit(QUICK, made_of(2, 4, 200, seed=0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_it_learns_what_the_columns_have_in_common() -> None:
    fitted = from_bytes(fit(AutoencoderConfig(), made_of(3, 12, 2000, seed=0)))
    assert fitted.calibration.mean() < 0.3  # the mean alone would leave 1, the variance of a standardised column


@pytest.mark.slow
def test_held_out_errors_are_those_of_rows_never_seen_even_where_the_fit_learned_its_own_by_heart() -> None:
    """300 rows of 30 independent columns: there is nothing to learn but the rows themselves."""
    config = AutoencoderConfig(patience_epochs=200, hidden=(64, 64))
    rng = np.random.default_rng(0)
    table, fresh = (Table(n, {f"f{i}": rng.normal(size=n) for i in range(30)}) for n in (300, 2000))
    fitted = from_bytes(fit(config, Reference(table, "", "batches")))
    scorer = load(fitted, "cpu")
    blocks, _, _ = cut(300, 10_000, BLOCKS_MAX)
    learned = scorer.score(table.take(np.flatnonzero(blocks % 2 == 0))).values
    live = scorer.score(fresh).values
    assert learned.mean() < 0.9 * fitted.calibration.mean()
    assert fitted.calibration.mean() == pytest.approx(live.mean(), rel=0.1)
    held_out = scorer.score(table.take(np.flatnonzero(blocks % 2 == 1))).values
    assert held_out.tolist() == fitted.calibration.tolist()


def test_held_out_rows_without_any_value_have_no_error() -> None:
    table = made_of(3, 8, 1000, seed=0).table
    gone = np.flatnonzero(np.arange(1000) % 7 == 0)
    for column in table.numeric.values():
        column[gone] = np.nan  # type: ignore[index]
    fitted = from_bytes(fit(QUICK, Reference(table, "", "batches")))
    blocks, _, _ = cut(1000, 10_000, BLOCKS_MAX)
    assert len(fitted.calibration) == 500 - np.count_nonzero(blocks[gone] % 2 == 1)
    assert np.isfinite(fitted.calibration).all()


def test_what_is_usual_is_each_column_s_mean_share_of_the_held_out_errors() -> None:
    table = made_of(3, 8, 1000, seed=0).table
    fitted = from_bytes(fit(QUICK, Reference(table, "", "batches")))
    blocks, _, _ = cut(1000, 10_000, BLOCKS_MAX)
    scores = load(fitted, "cpu").score(table.take(np.flatnonzero(blocks % 2 == 1)))
    parts = scores.explain(np.arange(0, 500, 2))
    np.testing.assert_allclose(fitted.usual, (parts / parts.sum(axis=0)).mean(axis=1), rtol=1e-12)  # type: ignore[arg-type]


def test_the_row_threshold_is_the_quantile_of_the_held_out_errors() -> None:
    fitted = from_bytes(fit(QUICK, made_of(3, 8, 1000, seed=0)))
    assert np.count_nonzero(fitted.calibration > fitted.row_threshold) == 25  # 5 % of 500
    assert len(fitted.calibration) == 500


@pytest.mark.parametrize("rows", [200, 201, 999, 2000, 10_000, 10_001, 68_785])
def test_blocks_are_neighbouring_rows_spread_over_all_of_a_reference(rows: int) -> None:
    blocks, chosen, validating = cut(rows, 10_000, BLOCKS_MAX)
    assert len(chosen) == len(set(chosen.tolist())) <= 10_000
    assert len(chosen) == rows or len(chosen) == 10_000
    assert set(blocks.tolist()) == set(range(BLOCKS_MAX))
    for block in range(BLOCKS_MAX):
        members = chosen[blocks == block]
        assert np.all(np.diff(members) == 1)
        assert members[0] == -(-block * rows // BLOCKS_MAX)
        share = validating[blocks == block]
        assert share.mean() == pytest.approx(0.2, abs=1 / len(share))
        assert np.all(np.diff(share.astype(int)) >= 0)  # the last ones


@pytest.mark.parametrize(
    ("rows", "time", "count"), [(2000, 1.0, 20), (2000, 19.0, 10), (2000, 65.0, 4), (200, 1.0, 20)]
)
def test_the_longer_rows_remember_the_longer_the_blocks(rows: int, time: float, count: int) -> None:
    assert _block_count(rows, time) == count


@pytest.mark.parametrize(
    ("reference", "config", "why"),
    [
        (Table(500), QUICK, "no numeric or categorical column"),
        (Table(500, {"f": np.full(500, np.nan)}), QUICK, "no numeric or categorical column"),
        (Table(100, {"f": np.arange(100.0)}), QUICK, "100 rows are under fit_rows_min"),
        (made_of(2, 8, 200, 0).table, AutoencoderConfig(inputs_max=7), "8 inputs are over inputs_max"),
        (Table(500, {"f": np.sin(np.arange(500) / 80)}), QUICK, "under fit_effective_rows_min = 50; send a longer"),
    ],
)
def test_a_reference_with_too_little_or_too_much_gives_an_empty_fit_that_says_so(
    reference: Table, config: AutoencoderConfig, why: str
) -> None:
    weights = fit(config, Reference(reference, "", "batches"))
    assert why in from_bytes(weights).note
    assert config.profile(Reference(reference, "", "batches"), weights) is None


def test_a_detector_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(TypeError, match="EntropyConfig"):
        fit(EntropyConfig(), made_of(2, 4, 200, 0))
