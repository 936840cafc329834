"""The profile: a bundle that the daemon loads, and by which it tells a drift from a quiet day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from screenings import screening

from streamd.codec.encode import encode_features
from streamd.config import Config
from streamd.fitting.folder import read, write
from streamd.model import Alert, Envelope
from streamd.screening import screen
from streamd.screening.profile import features, profile
from streamd.transport.base import Partition
from streamd.wiring import engine_factory

TOPIC = "streamd.features"
T0 = 1_700_000_000_000


def frame(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "at": pd.date_range("2026-01-01", periods=rows, freq="min"),
            "amount": generator.normal(100.0 + shift, 10.0, rows),
            "country": generator.choice(["DE", "FR"], rows),
            "churned": generator.integers(0, 2, rows),
        }
    )


def alerts(folder: Path, data: pd.DataFrame) -> list[Alert]:
    """What the daemon's engine says of the data, with the bundle as its reference."""
    config = Config.model_validate(
        {"detectors": {"autoencoder": None}, "streams": [{"match": "churn/*", "reference": {"bundle": str(folder)}}]}
    )
    engine = engine_factory(config)(Partition(TOPIC, 0), 0)
    found: list[Alert] = []
    for offset in range(8):
        batch = data.iloc[offset * 500 : (offset + 1) * 500][["amount", "country"]]
        value, headers = encode_features("churn/1", batch, ts_ms=T0 + offset * 60_000)
        effects = engine.step(Envelope(TOPIC, 0, offset, T0 + offset * 60_000, b"churn/1", value, tuple(headers)))
        found += [effect for effect in effects if isinstance(effect, Alert)]
    return found


def test_the_daemon_takes_the_profile_as_its_reference(tmp_path: Path) -> None:
    found = screen(frame(6_000, 0), label="churned", time="at")
    write(tmp_path / "out", profile(found, {"churned", "at"}))
    assert alerts(tmp_path / "out", frame(4_000, 1)) == []
    drifted = alerts(tmp_path / "out", frame(4_000, 1, shift=15.0))
    assert {feature.name for alert in drifted for feature in alert.features} == {"amount"}


def test_it_holds_what_a_served_model_is_sent_and_no_scorer(tmp_path: Path) -> None:
    found = screen(frame(3_000, 0), label="churned", time="at")
    write(tmp_path / "out", profile(found, {"churned"}))
    bundle = read(tmp_path / "out")
    assert bundle.weights is None
    assert list(bundle.reference.numeric) == ["amount"]
    assert list(bundle.reference.categorical) == ["country"]
    assert bundle.description["columns"]["numeric"] == ["amount"]
    assert bundle.description["rows"]["there"] == 3_000


def test_times_and_what_is_neither_number_nor_category_are_no_features() -> None:
    assert features(screening(), ()) == ("amount", "age", "country")
    assert features(screening(), ("age",)) == ("amount", "country")


def test_the_bundle_says_what_was_found_but_not_what_is_only_worth_knowing() -> None:
    told = profile(screening()).description["findings"]
    assert len(told) == 3
    assert told[0].startswith("'age' alone predicts 'label'")
