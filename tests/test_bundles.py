from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import bundle, rows

from streamd.codec.encode import encode_features
from streamd.config import Config
from streamd.engine import PartitionEngine
from streamd.errors import ConfigError
from streamd.fitting.folder import BundleFolder, write
from streamd.fitting.learning import fit
from streamd.fitting.registry import SCORERS
from streamd.model import Alert, BatchJudged, Effect, Envelope, Keep, StreamChanged, Verdict
from streamd.scorers.fitted import to_bytes
from streamd.state import pack, unpack
from streamd.table import Table
from streamd.transport.base import Partition
from streamd.wiring import engine_factory, warm_up

TOPIC = "streamd.features"
T0 = 1_700_000_000_000


def config(folder: Path, **more: object) -> Config:
    return Config.model_validate({"streams": [{"match": "fraud/*", "reference": {"bundle": str(folder)}, **more}]})


def engine(config: Config) -> PartitionEngine:
    return engine_factory(config)(Partition(TOPIC, 0), 0)


def record(offset: int, features: dict[str, np.ndarray], **more: object) -> Envelope:
    time = T0 + 3_600_000 * offset
    value, headers = encode_features("fraud/7", features, ts_ms=time, **more)  # type: ignore[arg-type]
    return Envelope(TOPIC, 0, offset, time, b"fraud/7", value, tuple(headers))


def verdicts(effects: list[Effect], detector: str) -> list[Verdict]:
    outcomes = [outcome for effect in effects if isinstance(effect, BatchJudged) for outcome in effect.outcomes]
    return [each for each in outcomes if isinstance(each, Verdict) and each.detector == detector]


def test_a_stream_is_judged_by_its_bundle_from_the_first_record_on(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b")))
    effects = watched.step(record(0, rows(1000, 1)))
    assert [e.detail for e in effects if isinstance(e, StreamChanged) and e.what == "reference"] == [
        "2000 rows from its bundle"
    ]
    (verdict,) = verdicts(effects, "scorer")
    assert verdict.finding.startswith("no drift over 1000 rows")
    assert len(verdict.rows) == 5
    assert not verdicts(effects, "autoencoder")
    assert watched.fit_wanted is None
    assert not [effect for effect in effects if isinstance(effect, Keep)]  # it is on disk


def test_an_alert_names_the_rows_the_features_and_the_models_confidence(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b")))
    effects = watched.step(record(0, rows(1000, 1, shift=4.0), probabilities=np.tile([0.9, 0.1], (1000, 1))))
    (alert,) = [effect for effect in effects if isinstance(effect, Alert) and effect.detector == "scorer"]
    assert "anomaly score rose (KS D=" in alert.summary
    assert alert.model_sha256 is not None
    for row in alert.rows:
        assert row.confidence == pytest.approx(0.9)
        assert row.contributions is not None
        assert set(row.contributions) == set(row.features) <= {"age", "income"}
        assert row.features["income"] is not None


def test_the_sentence_holds_the_confidence_on_strange_rows_against_the_rest(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b")))
    strange = np.arange(1000) % 2 == 0
    mixed = {name: np.where(strange, rows(1000, 1, 6.0)[name], rows(1000, 2)[name]) for name in ("age", "income")}
    sure = np.where(strange, 0.55, 0.99)
    (verdict,) = verdicts(watched.step(record(0, mixed, probabilities=np.column_stack([sure, 1 - sure]))), "scorer")
    assert "rows over the row threshold, on which the model's confidence is 0.5" in verdict.finding
    assert "(else 0.9" in verdict.finding


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_restart_anywhere_changes_nothing(tmp_path: Path, cut: int) -> None:
    settings = config(bundle(tmp_path / "b"))
    batches = [record(offset, rows(700, offset, shift=offset / 2)) for offset in range(5)]
    whole, stopped = engine(settings), engine(settings)
    told = [effect for each in batches for effect in whole.step(each)]
    again = [effect for each in batches[:cut] for effect in stopped.step(each)]
    anew = engine(settings)
    assert anew.restore(unpack(pack(stopped.snapshot())), stopped.kept()) == []
    again += [effect for each in batches[cut:] for effect in anew.step(each)]
    assert pack(anew.snapshot()) == pack(whole.snapshot())
    alerts = [effect for effect in told if isinstance(effect, Alert)]
    assert alerts
    assert [effect for effect in again if isinstance(effect, Alert)] == alerts


@pytest.mark.parametrize(("seed", "reference_seed"), [(1, 100), (0, 101)], ids=["weights", "reference"])
def test_another_bundle_under_the_same_name_begins_anew(tmp_path: Path, seed: int, reference_seed: int) -> None:
    settings = config(bundle(tmp_path / "b"))
    watched = engine(settings)
    watched.step(record(0, rows(700, 1)))
    saved, kept = unpack(pack(watched.snapshot())), watched.kept()
    changed = engine(config(bundle(tmp_path / "b", seed=seed, reference_seed=reference_seed)))
    changed.restore(saved, kept)
    assert not verdicts(changed.step(record(1, rows(700, 2))), "scorer")  # 700 rows of the window, not 1,400
    assert verdicts(changed.step(record(2, rows(700, 3))), "scorer")


def test_a_bundle_of_a_profile_alone_still_trains_the_autoencoder(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b", scored=False)))
    effects = watched.step(record(0, rows(1000, 1)))
    assert verdicts(effects, "ks")
    assert not verdicts(effects, "scorer")
    assert watched.fit_wanted is not None
    assert watched.fit_wanted.detector == "autoencoder"


def test_reference_batches_replace_the_bundle_s_rows_and_its_scorer_goes_on(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b")))
    effects = watched.step(record(0, rows(2000, 1, shift=4.0), role="reference"))
    assert "2000 rows from reference batches" in str(effects)
    effects = watched.step(record(1, rows(1000, 2, shift=4.0)))
    (ks,) = verdicts(effects, "ks")
    assert ks.finding.startswith("no drift")
    (scorer,) = verdicts(effects, "scorer")
    assert scorer.finding.startswith("anomaly score rose")


def test_a_batch_of_predictions_alone_has_no_score(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b")))
    value, headers = encode_features("fraud/7", probabilities=np.tile([0.9, 0.1], (1000, 1)), ts_ms=T0)
    effects = watched.step(Envelope(TOPIC, 0, 0, T0, b"fraud/7", value, tuple(headers)))
    assert not verdicts(effects, "scorer")


def test_a_batch_of_other_columns_is_a_finding_about_quality_and_no_crash(tmp_path: Path) -> None:
    watched = engine(config(bundle(tmp_path / "b")))
    effects = watched.step(record(0, {"income": np.full(1000, 7.0), "shoe_size": np.full(1000, 42.0)}))
    named = {finding.name for effect in effects if isinstance(effect, Alert) for finding in effect.features}
    assert "age" in named
    assert verdicts(effects, "scorer")


def test_what_cannot_be_used_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        engine(config(tmp_path / "none"))
    damaged = bundle(tmp_path / "damaged") / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="is not what was written"):
        engine(config(tmp_path / "damaged"))
    with pytest.raises(ConfigError, match="scorer: a detector of type scorer runs the scorer of a bundle"):
        engine(Config.model_validate({"detectors": {"scorer": {}}}))
    with pytest.raises(ConfigError, match=r"and .* has none"):
        engine(config(bundle(tmp_path / "profile", scored=False), detectors={"forest": {"type": "scorer"}}))


def test_a_bundle_s_network_runs_on_one_thread_where_no_other_is_trained(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        warm_up(config(bundle(tmp_path / "b"), detectors={"autoencoder": None}))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is asked for is here")
def test_a_device_that_is_not_there_stops_the_start_and_not_the_first_record(tmp_path: Path) -> None:
    table = Table(400, rows(400, 0))
    found = fit(SCORERS["autoencoder"].model_validate({"epochs_max": 1}), table)
    write(tmp_path / "b", BundleFolder({}, to_bytes(found.fitted), table))
    with pytest.raises(ConfigError, match=r"reference\.bundle: .*: .*(cuda|CUDA)"):
        engine(config(tmp_path / "b", detectors={"scorer": {"device": "cuda"}}))
