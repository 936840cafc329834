"""`streamd calibrate`: what it prints of a healthy past, what it refuses to promise, and the file that it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from envelopes import T0

from streamd.cli import verbs
from streamd.cli.exit_codes import ExitCode
from streamd.config_loading import load

pytestmark = pytest.mark.slow

HOUR_MS = 3_600_000
DAYS = 12
ROWS_AN_HOUR = 60
SETTINGS = """
detectors: {autoencoder: null, ks: {window_rows: 120, columns: [amount], effect_threshold: 0.9}}
reference: {first_rows: 1000}
"""


@pytest.fixture
def past(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = 24 * DAYS * ROWS_AN_HOUR
    hours = np.arange(rows) / ROWS_AN_HOUR
    columns = {
        "amount": rng.normal(size=rows),
        "load": rng.normal(size=rows) + 0.4 * np.sin(2 * np.pi * hours / 24),
        "country": pa.array(rng.choice(["DE", "FR"], rows)).dictionary_encode(),
        "at": pa.array((T0 + hours * HOUR_MS).astype("int64"), pa.timestamp("ms")),
    }
    path = tmp_path / "past.parquet"
    pq.write_table(pa.table(columns), path)
    (tmp_path / "streamd.yaml").write_text(SETTINGS)
    return path


def run(past: Path, *more: str) -> int:
    config = str(past.parent / "streamd.yaml")
    return verbs.run(["calibrate", str(past), "-c", config, "--rows", str(ROWS_AN_HOUR), *more])


def test_a_healthy_past_is_told_in_80_columns_and_promises_no_more_than_its_length(
    past: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(past, "--time", "at") == ExitCode.OK
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    flat = " ".join(told.split())
    assert "past: 288 batches over 12.0 days" in flat
    assert "No promise of `1 per 30d` can rest on 12.0 days" in flat
    assert "1 per 4.0 days" in flat
    assert "load repeats itself every 24h" in flat
    assert "ks (ks_2samp): effect_threshold = 0.9 is too loose" in flat


def test_what_is_proposed_is_a_file_that_run_accepts(past: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = past.parent / "overrides.yaml"
    assert run(past, "--time", "at", "--json", "--out", str(out)) == ExitCode.OK
    (found,) = json.loads(capsys.readouterr().out)
    values = {advice["detector"]: advice["value"] for advice in found["advice"]}
    settings = load(out, {}).config.for_stream("past")
    ks = settings.detectors["ks"]
    assert ks.effect_threshold == values["ks"] < 0.5  # type: ignore[attr-defined]
    assert settings.reference.season == "24h"
    assert {judge["detector"] for judge in found["judges"]} >= {"ks", "chi2", "zscore", "quality"}
    assert verbs.run(["config", "show", "-c", str(out)]) == ExitCode.OK


def test_a_season_longer_than_the_past_is_a_sentence(past: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (past.parent / "streamd.yaml").write_text("detectors: {autoencoder: null}\nreference: {season: 7d}")
    assert run(past, "--time", "at") == ExitCode.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "The season of 7d is too long for this past" in told
    assert "the past has 12.0 days" in told


def test_without_times_no_season_is_looked_for_and_it_says_so(past: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(past, "--exclude", "at") == ExitCode.OK
    assert "Without --time there is no telling" in " ".join(capsys.readouterr().out.split())


def test_a_past_of_nothing_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs.run(["calibrate", str(tmp_path / "none.parquet")]) == ExitCode.NO_INPUT
    assert "there is no file" in capsys.readouterr().err
    assert "STREAMD_CONFIG" not in os.environ


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Logits alone, from a model that is surer by day than by night, in two files: `past` and `before`."""
    rng = np.random.default_rng(0)
    hours = np.arange(24 * (DAYS + 4) * ROWS_AN_HOUR) // ROWS_AN_HOUR
    logits = (2.5 + 2.0 * np.sin(2 * np.pi * hours / 24)) * rng.normal(size=(2, len(hours)))
    at = pa.array((T0 + hours * HOUR_MS).astype("int64"), pa.timestamp("ms"))
    table = pa.table({"no": logits[0], "yes": logits[1], "at": at})
    cut = 24 * 4 * ROWS_AN_HOUR
    pq.write_table(table.slice(0, cut), tmp_path / "before.parquet")
    pq.write_table(table.slice(cut), tmp_path / "past.parquet")
    return tmp_path / "past.parquet"


def test_a_season_of_predictions_alone_is_noticed_and_with_it_all_is_calm(
    predicted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, more = predicted.parent / "streamd.yaml", ("--time", "at", "--logits", "no,yes")
    which = "detectors: {autoencoder: null, entropy: {judge: {window_rows: 60}}, ks: {window_rows: 60}}\n"
    config.write_text(which)
    assert run(predicted, *more, "--json") == ExitCode.OK
    (found,) = json.loads(capsys.readouterr().out)
    assert found["season"]["length"] == "24h"
    assert found["season"]["column"] == "the predictions' entropy"
    assert sum(judge["loud"] for judge in found["judges"]) > 0
    assert run(predicted, *more) == ExitCode.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "the predictions' entropy repeats itself every 24h (correlation" in told
    assert "`reference: {season: 24h}` compares like with like." in told
    config.write_text(which + "reference: {season: 24h}")
    for reference in ((), ("--reference", str(predicted.parent / "before.parquet"))):
        assert run(predicted, *more, *reference, "--json") == ExitCode.OK
        (found,) = json.loads(capsys.readouterr().out)
        assert found["season"] is None
        assert {judge["detector"] for judge in found["judges"]} >= {"entropy", "ks"}
        assert sum(judge["judgements"] for judge in found["judges"] if judge["detector"] == "ks") > 100
        assert sum(judge["loud"] for judge in found["judges"]) == 0
