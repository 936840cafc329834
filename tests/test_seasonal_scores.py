"""With a season, the autoencoder's errors are compared with those of held-out rows of the same hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hours
import numpy as np
import pytest
from envelopes import T0
from hours import ROWS, engine, fired, hourly, verdicts

from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.base import Reference
from streamd.engine import PartitionEngine
from streamd.fitting import fit
from streamd.model import Effect
from streamd.scorers.fitted import from_bytes
from streamd.seasons import HOUR_MS, phases_of
from streamd.table import Table

pytestmark = pytest.mark.slow

CONFIG = AutoencoderConfig.model_validate({"judge": {"window_rows": 200}, "steps_max": 300})


def noisier_by_day(hour: int, rng: np.random.Generator, noise: float | None = None) -> Mapping[str, Any]:
    """Four columns of two sources, and noise that no network can foretell."""
    level = 1.2 + np.sin(2 * np.pi * hour / 24) if noise is None else noise
    sources = rng.normal(size=(2, ROWS))
    columns = [*sources, sources[0] + sources[1], sources[0] - sources[1]]
    return {"features": {f"x{i}": column + 0.5 * level * rng.normal(size=ROWS) for i, column in enumerate(columns)}}


def run(watch: PartitionEngine, make: hours.Make, count: int, first: int = 0) -> list[Effect]:
    """As `hours.run`, with the trainings done."""
    effects: list[Effect] = []
    for envelope in hourly(make, count, first=first):
        effects += watch.step(envelope)
        while (job := watch.fit_wanted) is not None:
            effects += watch.fitted(fit(job.config, job.reference))
    return effects


def test_errors_with_a_daily_pattern_are_no_alarm_and_a_change_against_their_own_hour_is() -> None:
    plain, watch = (engine({"autoencoder": CONFIG}, season, first_rows=4800) for season in (None, "24h"))
    healthy = run(watch, noisier_by_day, 24 * 6)
    assert fired(healthy) == set()
    effects = [float(v.effects[0]) for v in verdicts(healthy)]
    assert len(effects) > 40
    assert max(effects) < 0.2 < max(float(v.effects[0]) for v in verdicts(run(plain, noisier_by_day, 24 * 6)))
    assert fired(run(watch, lambda _, rng: noisier_by_day(6, rng), 24, first=24 * 6)) == {("autoencoder", "ks_2samp")}


def reference_of(days: int, rows: int, timed: bool = True) -> Reference:
    hour, rng = np.repeat(np.arange(24 * days), rows), np.random.default_rng(0)
    x = rng.normal(size=len(hour)) + 5.0 * np.sin(2 * np.pi * hour / 24)
    table = Table(len(hour), {"x": x, "y": x + 0.1 * rng.normal(size=len(x))})
    if timed:
        table = Table(len(hour), table.numeric, times_ms=T0 + hour * HOUR_MS)
    phases = phases_of(T0 + hour * HOUR_MS, "24h")
    return Reference(table, table.sha256(), "batches", phases, np.bincount(phases))


@pytest.mark.parametrize(("days", "rows", "rows_max"), [(2, 50, 10_000), (3, 40, 10_000), (14, 60, 4_000)])
def test_every_hour_is_held_out_however_long_the_reference(days: int, rows: int, rows_max: int) -> None:
    reference = reference_of(days, rows)
    fitted = from_bytes(fit(CONFIG.model_copy(update={"fit_rows_max": rows_max}), reference))
    assert fitted.places is not None
    assert reference.phases is not None
    assert len(fitted.places) == len(fitted.calibration)
    held = np.bincount(reference.phases[fitted.places], minlength=24)
    assert held.min() >= 20
    assert 0.3 < held.sum() / min(days * 24 * rows, rows_max) < 0.7


def test_without_times_nothing_is_known_of_hours() -> None:
    x = np.random.default_rng(0).normal(size=(2, 1000))
    reference = Reference(
        Table(1000, {"x": x[0], "y": x[1]}), "x", "batches", np.zeros(1000, np.intp), np.array([1000])
    )
    weights = fit(CONFIG, reference)
    assert from_bytes(weights).places is None
    profile = CONFIG.profile(reference, weights)
    assert profile is not None
    assert profile.season is None
    assert profile.judge.phase_rows is None


def test_a_season_is_no_dependence_that_would_forbid_the_fit() -> None:
    """Each row resembles those of its hour; of one hour after the other none resembles the next."""
    config = CONFIG.model_copy(update={"fit_effective_rows_min": 1000})
    assert not from_bytes(fit(config, reference_of(3, 40))).empty
    assert from_bytes(fit(config, reference_of(3, 40, timed=False))).empty
