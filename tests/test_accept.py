"""A person says that what is now is normal, of a stream or of some of its columns; and takes it back."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from envelopes import Producer

from streamd.codec.limits import Limits
from streamd.detectors.base import ByColumn, DetectorConfig
from streamd.detectors.cardinality import CardinalityConfig
from streamd.detectors.chi2 import Chi2Config
from streamd.detectors.entropy import EntropyConfig
from streamd.detectors.iqr import IqrConfig
from streamd.detectors.ks import KsConfig
from streamd.detectors.quality import QualityConfig
from streamd.detectors.river import RiverConfig
from streamd.detectors.zscore import ZscoreConfig
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.errors import Reason
from streamd.kept import Kept
from streamd.model import Alert, BatchJudged, DeadLetter, Effect, Envelope, StreamChanged, Verdict
from streamd.policy import PolicySettings
from streamd.profiles import Profiles
from streamd.sinks.records import alert_record
from streamd.state import pack, unpack
from streamd.stream import EARLIER_MAX

ROWS = 200
STREAM = "fraud/7"


def detectors() -> dict[str, DetectorConfig]:
    return {
        "ks": KsConfig(window_rows=ROWS),
        "chi2": Chi2Config(window_rows=ROWS),
        "iqr": IqrConfig(window_rows=ROWS),
        "zscore": ZscoreConfig(min_batches=5),
        "cardinality": CardinalityConfig(),
        "quality": QualityConfig(),
        "entropy": EntropyConfig(),
        "river": RiverConfig(detector="PageHinkley", params={"threshold": 500.0}),
    }


def engine(which: dict[str, DetectorConfig] | None = None, first_rows: int | None = 600) -> PartitionEngine:
    stream = StreamSettings(
        detectors() if which is None else which,
        ReferenceSettings(first_rows=first_rows),
        PolicySettings(false_alarms=None, cooldown_seconds=0),
    )
    return PartitionEngine("streamd.features", 0, "features", Limits(), EngineSettings(), lambda _: stream, Profiles())


class World:
    """An engine and what was sent to it: batches of `amount`, `age`, `country` and probabilities."""

    def __init__(self, watch: PartitionEngine | None = None) -> None:
        self.watch = watch or engine()
        self.send = Producer()
        self.sent: list[Envelope] = []
        self.rng = np.random.default_rng(0)
        self.parts: dict[str, bytes] = {}

    def step(self, envelope: Envelope) -> list[Effect]:
        self.sent.append(envelope)
        effects = self.watch.step(envelope)
        self.parts |= {effect.name: effect.data for effect in effects if type(effect).__name__ == "Keep"}
        return effects

    def batch(self, shift: float = 0.0, age: float = 0.0, rows: int = ROWS, role: str | None = None) -> list[Effect]:
        sure = self.rng.uniform(0.6, 0.9, rows)
        features = {
            "amount": (self.rng.normal(size=rows) + shift).tolist(),
            "age": (self.rng.normal(size=rows) + age).tolist(),
            "country": self.rng.choice(["DE", "FR", "IT"], rows).tolist(),
        }
        return self.step(self.send.batch(features, role=role, probabilities=np.stack([sure, 1 - sure], 1).tolist()))

    def batches(self, count: int, **how: float) -> list[Effect]:
        return [effect for _ in range(count) for effect in self.batch(**how)]

    def say(self, role: str, stream: str = STREAM, **more: Any) -> list[Effect]:
        return self.step(self.send.record(orjson.dumps({"stream": stream, "role": role, "author": "ann", **more})))

    def accept(self, **more: Any) -> list[Effect]:
        return self.say("reset", reason="accepted as the new normal", **more)


def alerts(effects: list[Effect], status: str = "firing") -> list[Alert]:
    return [effect for effect in effects if isinstance(effect, Alert) and effect.status == status]


def verdicts(effects: list[Effect]) -> list[Verdict]:
    return [v for e in effects if isinstance(e, BatchJudged) for v in e.outcomes if isinstance(v, Verdict)]


def p_value(verdict: Verdict, place: int) -> float | None:
    """None for `iqr` too: the doubt about its reference's shares is divided among the columns, of which one is gone."""
    return None if verdict.p_values is None or verdict.detector == "iqr" else float(verdict.p_values[place])


def described(effects: list[Effect]) -> list[str]:
    return [effect.detail for effect in effects if isinstance(effect, StreamChanged)]


def refused(effects: list[Effect]) -> str:
    (letter,) = effects
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.stage) == (Reason.REFUSED, "process")
    return letter.error


def shifted() -> World:
    """A world whose `amount` has moved, and that has said so."""
    world = World()
    world.batch(rows=1000, role="reference")
    assert alerts(world.batches(6)) == []
    assert {alert.detector for alert in alerts(world.batches(2, shift=2.0))} >= {"ks", "zscore"}
    return world


def test_an_accepted_stream_ends_its_alerts_with_who_said_so_and_learns_what_comes() -> None:
    world = shifted()
    ended = alerts(world.accept(), "resolved")
    assert {f"{alert.detector} accepted as the new normal by ann" for alert in ended} == {
        alert.summary.removeprefix("fraud/7: ") for alert in ended
    }
    assert {alert.detector for alert in ended} >= {"ks", "zscore"}
    told = world.batches(8, shift=2.0)
    assert alerts(told) == []
    assert "600 rows from its own first rows" in described(told)
    assert any(a.features[0].name == "amount" for a in alerts(world.batch()) if a.detector == "ks")


def test_an_accepted_column_alone_begins_anew() -> None:
    world = shifted()
    assert {a.detector for a in alerts(world.accept(columns=["amount"]), "resolved")} >= {"ks", "zscore"}
    meanwhile = world.batches(2, shift=2.0)
    assert alerts(meanwhile) == []
    assert all("amount" not in verdict.columns for verdict in verdicts(meanwhile))
    (told,) = described(world.batch(shift=2.0))
    assert told == "1000 rows from what it was, with accepted columns"
    after = world.batches(8, shift=2.0)
    assert alerts(after) == []
    assert {"ks", "iqr", "zscore", "quality", "river"} <= {v.detector for v in verdicts(after) if "amount" in v.columns}
    found = alerts(world.batch())
    assert "amount" in {feature.name for alert in found if alert.detector == "ks" for feature in alert.features}


def test_what_was_seen_of_the_other_columns_goes_on_bit_for_bit() -> None:
    """The same batches without any accept are the oracle: `age` and `country` are judged alike at each of them."""
    one, other = World(), World()
    for world in (one, other):
        world.batch(rows=1000, role="reference")
        world.batch(rows=90)  # so that windows are half full
    for _ in range(5):
        one.batch(rows=130)
        other.batch(rows=130)
    one.accept(columns=["amount"])
    other.send.offset += 1
    for _ in range(12):
        seen = [
            {
                (v.detector, v.test, name): (v.statistics[i], v.window, p_value(v, i))
                for v in verdicts(world.batch(rows=130))
                for i, name in enumerate(v.columns)
                if name != "amount" and v.detector != "quality"
            }
            for world in (one, other)
        ]
        assert seen[0] == seen[1]
        assert seen[0]


def test_an_alert_that_names_another_column_too_stays_open() -> None:
    world = World(engine({"ks": KsConfig(window_rows=ROWS)}))
    world.batch(rows=1000, role="reference")
    assert len(alerts(world.batch(shift=2.0, age=2.0))) == 1
    assert alerts(world.accept(columns=["amount"]), "resolved") == []
    assert [a.summary.split(" drifted")[0] for a in alerts(world.batches(2, shift=2.0, age=2.0))] == ["fraud/7: age"]


def test_undo_puts_the_old_reference_back_in_force() -> None:
    world = shifted()
    world.accept(columns=["amount"])
    world.batches(4, shift=2.0)
    told = world.say("undo")
    assert described(told) == ["1000 rows from reference batches, put back by ann"]
    assert "ks" in {alert.detector for alert in alerts(world.batch(shift=2.0))}
    ended = alerts(world.say("undo"), "resolved")
    assert ended == []


def test_undo_works_after_a_whole_accept_at_once_and_once_the_new_one_is_learned() -> None:
    for batches in (0, 1, 5):
        world = shifted()
        world.accept()
        world.batches(batches, shift=2.0)
        assert described(world.say("undo"))[-1] == "1000 rows from reference batches, put back by ann"
        assert "ks" in {alert.detector for alert in alerts(world.batches(2, shift=2.0))}


def test_so_many_references_can_be_gone_back_to_and_no_more() -> None:
    world = World()
    for shift in range(EARLIER_MAX + 3):
        world.batch(rows=100, role="reference", shift=float(shift))
    for _ in range(EARLIER_MAX):
        assert described(world.say("undo"))
    assert refused(world.say("undo")) == "nothing to undo: no earlier reference of 'fraud/7' is known"


def test_what_cannot_be_meant_is_a_dead_letter_that_says_why() -> None:
    world = World()
    assert "there is no stream 'fraud/8' here" in refused(world.accept(stream="fraud/8"))
    assert "there is no stream 'fraud/8' here" in refused(world.say("undo", stream="fraud/8"))
    world.batch()
    assert "did you mean 'fraud/7'?" in refused(world.accept(stream="fraud/8"))
    assert "it has none yet" in refused(world.accept(columns=["amount"]))
    assert "nothing to undo" in refused(world.say("undo"))
    world.batch(rows=1000, role="reference")
    assert "has no feature 'amuont'; did you mean 'amount'?" in refused(world.accept(columns=["age", "amuont"]))
    assert alerts(world.batches(3, shift=2.0)) != []  # nothing was forgotten


@pytest.mark.parametrize("columns", [None, ["amount"], ["amount", "age", "country"]])
def test_a_restart_anywhere_changes_nothing(columns: list[str] | None) -> None:
    """Restored from its own snapshot before every record, an engine says the same, byte for byte."""
    steady = shifted()
    steady.accept(**({"columns": columns} if columns else {}))
    steady.batches(6, shift=2.0)
    steady.say("undo")
    steady.batches(2, shift=2.0)
    once, again, parts = engine(), engine(), {}
    for envelope in steady.sent:
        saved = unpack(pack(again.snapshot()))
        names = again.kept().names()
        again = engine()
        assert again.restore(saved, Kept.unpacked({name: parts[name] for name in names})) == []
        said = once.step(envelope), again.step(envelope)
        parts |= {effect.name: effect.data for effect in said[1] if type(effect).__name__ == "Keep"}
        told = [[alert_record(a, "t", "g").value for a in each if isinstance(a, Alert)] for each in said]
        assert told[0] == told[1]
        assert described(said[0]) == described(said[1])
    assert pack(once.snapshot()) == pack(again.snapshot())


def test_all_detectors_that_judge_columns_one_by_one_take_over() -> None:
    world = shifted()
    held = world.watch._streams[STREAM].detectors
    assert [name for name, detector in held.items() if not isinstance(detector, ByColumn)] == []
