from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from budget_inputs import CHANGES, COLUMNS, INPUTS, ROWS, T0_MS, Series, changed_batches
from needs import unavailable
from peer_budget import _chi2_p_value, ks_p_value, peers
from quality_budget import Warm, trial
from scipy.stats import chi2_contingency, ks_2samp

HERE = Path(__file__).parent


def test_the_textbooks_p_values_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    for shift in (0.0, 0.05, 0.1):
        a, b = np.sort(rng.normal(size=2000)), np.sort(rng.normal(shift, size=1000))
        assert ks_p_value(a, b) == pytest.approx(ks_2samp(a, b, method="exact").pvalue, rel=0.1, abs=0.01)
    reference, window = np.array([300, 200, 500, 0]), np.array([140, 110, 240, 10])
    assert _chi2_p_value(reference, window) == pytest.approx(chi2_contingency(np.stack([reference, window])).pvalue)


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_has_the_deviation_and_the_memory_that_it_says(name: str) -> None:
    kind = INPUTS[name]
    values, codes = Series(kind, [0]).batch(T0_MS, 100_000)
    assert values.shape == (100_000, len(COLUMNS))
    assert values.std(axis=0) == pytest.approx(kind.deviation, rel=0.15)
    centred = np.argsort(np.argsort(values[:, 0])) - 49_999.5
    assert centred[1:] @ centred[:-1] / (centred @ centred) == pytest.approx(kind.rho, abs=0.03)
    assert np.bincount(codes) / 100_000 == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_begins_at_its_row_and_a_batch_goes_on_where_the_last_one_ended(change: str) -> None:
    kind = INPUTS["AR(1) 0.97"]
    times_ms = [T0_MS, T0_MS + 1, T0_MS + 2]
    calm = Series(kind, [3])
    values, codes = (np.concatenate(each) for each in zip(*(calm.batch(t) for t in times_ms), strict=True))
    bad = changed_batches(Series(kind, [3]), kind, change, ROWS + 500, times_ms)
    differs = np.concatenate([v != values[i * ROWS :][:ROWS] for i, (v, _) in enumerate(bad)]).any(axis=1)
    differs |= np.concatenate([c != codes[i * ROWS :][:ROWS] for i, (_, c) in enumerate(bad)])
    assert not differs[: ROWS + 500].any()
    assert differs[ROWS + 500 :].mean() > 0.03
    assert abs(np.diff(values[:, 0])[[ROWS - 1, 2 * ROWS - 1]]).max() < 5 * np.sqrt(1 - 0.97**2)


def test_every_peer_sees_two_deviations_in_the_end() -> None:
    rng = np.random.default_rng(0)
    others = peers(rng.normal(size=(2000, 1)), None)
    for _ in range(60):
        for peer in others.values():
            peer.update(rng.normal(size=(500, 1)), None)
    found = {
        name: any(peer.update(rng.normal(2, size=(500, 1)), None) for _ in range(60)) for name, peer in others.items()
    }
    assert found == dict.fromkeys(others, True)


@pytest.mark.slow
def test_a_doubled_variance_is_found_with_the_thresholds_of_calibrate_and_not_by_default() -> None:
    warm, kind = Warm.of("normal", 0, 0, 200), INPUTS["normal"]
    assert "streams" in warm.past.calibrated.config.model_fields_set
    for seed in range(3):
        delays, _ = trial(warm, kind, "variance doubled", [seed], with_peers=False)
        assert set(delays) == {"calibrated"}
        delays, _ = trial(warm, kind, "2 deviations", [seed], with_peers=False)
        assert set(delays) == {"budget", "without", "calibrated"}


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(600)
def test_the_alarm_budget_is_tried_on_every_input_and_every_change() -> None:
    data = Path(os.environ.get("STREAMD_TEST_DATA", HERE.parents[2] / "shared/data"))
    if not data.is_dir():
        unavailable(f"no data at {data}: say where it is with STREAMD_TEST_DATA=folder")
    command = [sys.executable, str(HERE / "quality.py"), "budget", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode in (0, 1), done.stderr  # 1: so small a run may miss a promise
    for what in (*INPUTS, *CHANGES, "Elec2", "nyc_taxi", "census", "train_telemetry"):
        assert what.replace("daily ", "") in done.stdout.replace("daily ", ""), what
