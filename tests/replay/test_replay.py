"""Records through the daemon's engines, without the daemon."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from envelopes import TOPIC, Producer
from hypothesis import given
from hypothesis import strategies as st

from streamd.config import Config
from streamd.detectors.base import DetectorConfig, Reference
from streamd.engine import DetectorCrashError
from streamd.model import Alert, DeadLetter, Effect, Envelope, Kind, Severity, Window
from streamd.replay import Both, FitOnce, Incident, Replay, Tally, compare, incidents
from streamd.transport.base import Partition
from streamd.wiring import engine_factory

CONFIG = Config.model_validate(
    {
        "detectors": {"ks": {"window_rows": 100}, "autoencoder": None, "entropy": None, "zscore": None},
        "policy": {"critical_after": 2, "resolve_after": 1},
    }
)


def drifting(batches: int = 12, rows: int = 100, partition: int = 0, streams: int = 1) -> list[Envelope]:
    """A reference each, calm batches, and drift in the fifth to the eighth."""
    producer = Producer(partition=partition)
    generator = np.random.default_rng(partition)
    names = [f"s/{partition}/{i}" for i in range(streams)]
    records = [producer.batch({"x": generator.normal(size=500)}, stream=name, role="reference") for name in names]
    for i in range(batches):
        shift = 2.0 * (4 <= i < 8)
        records += [producer.batch({"x": generator.normal(shift, size=rows)}, stream=name) for name in names]
    return records


def no_fit(config: DetectorConfig, reference: Reference) -> bytes:
    raise AssertionError("nothing is to be trained")


def replayed(records: list[Envelope], config: Config = CONFIG) -> list[Effect]:
    replay = Replay(engine_factory(config), no_fit, lambda: records)
    return [effect for record in records for effect in replay.step(record)]


def alerts(effects: list[Effect]) -> list[Alert]:
    return [effect for effect in effects if isinstance(effect, Alert)]


def test_the_order_between_partitions_changes_nothing() -> None:
    one, two = drifting(partition=0), drifting(partition=1)
    apart = alerts(replayed(one)) + alerts(replayed(two))
    mixed = alerts(replayed([record for pair in zip(one, two, strict=True) for record in pair]))
    assert len(apart) == 6
    assert sorted(mixed, key=lambda alert: alert.partition) == apart


# --- A detector that raises -----------------------------------------------------------------------


def raise_on(monkeypatch: pytest.MonkeyPatch, *offsets: int) -> None:
    """Make `quality`, the last detector, raise: the others have learned from the record by then."""
    from streamd.detectors.quality import QualityDetector

    update = QualityDetector.update

    def raising(self: Any, batch: Any) -> Any:
        if batch.offset in offsets:
            raise ZeroDivisionError("no rows")
        return update(self, batch)

    monkeypatch.setattr(QualityDetector, "update", raising)


def test_a_record_on_which_a_detector_raises_is_as_if_it_had_never_been(monkeypatch: pytest.MonkeyPatch) -> None:
    records = drifting(streams=2)
    raise_on(monkeypatch, 11, 12)  # the first of them is in the middle of the drift
    effects = replayed(records)
    letters = [effect for effect in effects if isinstance(effect, DeadLetter)]
    assert [(letter.envelope.offset, letter.reason) for letter in letters] == [(11, "crashed"), (12, "crashed")]
    crashes = [alert for alert in alerts(effects) if alert.test == "crash"]
    assert [(alert.stream, alert.severity) for alert in crashes] == [("s/0/1", 3), ("s/0/0", 3)]
    others = [record for record in records if record.offset not in (11, 12)]
    monkeypatch.undo()
    assert [a for a in alerts(effects) if a not in crashes] == alerts(replayed(others))


def test_a_detector_that_raises_again_and_again_ends_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    raise_on(monkeypatch, *range(100))
    with pytest.raises(DetectorCrashError, match="quality"):
        replayed(drifting())


# --- Training -------------------------------------------------------------------------------------


def trained(fit: Any, records: list[Envelope]) -> tuple[Tally, Tally]:
    config = Config.model_validate({"detectors": {"autoencoder": {"fit_rows_min": 40}}})
    tallies = Tally(), Tally()
    replays = [Replay(engine_factory(config), fit, lambda: records) for _ in tallies]
    for record, (tally, replay) in itertools.product(records, zip(tallies, replays, strict=True)):
        tally.count(replay.step(record))
    return tallies


def test_two_replays_that_share_their_training_train_once_for_each_reference() -> None:
    asked: list[str] = []

    def fit(config: DetectorConfig, reference: Reference) -> bytes:
        asked.append(reference.sha256)
        raise ValueError("there is too little of it")

    def counting(config: DetectorConfig, reference: Reference) -> bytes:
        from streamd.fitting import fit as really

        asked.append(reference.sha256)
        return really(config, reference)

    records = drifting(batches=1, streams=2)
    trained(FitOnce(counting), records)
    assert len(asked) == len(set(asked)) == 2
    asked.clear()
    first, second = trained(fit, records)
    assert len(asked) == 4
    assert first == second
    assert all("there is too little of it" in why for why in first.not_fitted.values())


# --- What it came to ------------------------------------------------------------------------------


def test_the_tally_counts_rows_alerts_and_dead_letters() -> None:
    records = drifting()
    bad = Producer()
    bad.offset = len(records)
    records.append(bad.record(b"hello"))
    tally = Tally()
    replay = Replay(engine_factory(CONFIG), no_fit, lambda: records)
    for record in records:
        tally.count(replay.step(record))
    assert (tally.records, tally.rows) == (14, 1200)
    assert tally.severities == {"warning": 1, "critical": 1, "resolved": 1}
    assert tally.detectors == {"ks": 3}
    assert tally.commands == {"rollback (shadow)": 1}
    assert tally.references == {"s/0/0": "500 rows from reference batches"}
    assert tally.dead_letters == {"not_json": 1}
    assert tally.first_dead_letters["not_json"].envelope is records[-1]


# --- Two configurations ---------------------------------------------------------------------------


def alert(first: int, last: int, *, resolved: bool = False, stream: str = "a", severity: int = 2) -> Alert:
    window = Window(first, last, 100)
    status = "resolved" if resolved else "firing"
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(Alert)}
    fields |= {"id": f"{stream}/{last}/{status}", "status": status, "severity": Severity(severity), "stream": stream}
    fields |= {"kind": Kind.FEATURES, "detector": "ks", "test": "ks_2samp", "window": window}
    return Alert(**fields)


def test_an_incident_is_from_the_first_alert_that_fires_to_the_one_that_resolves() -> None:
    one = [alert(1, 2), alert(3, 4, severity=3), alert(7, 8, resolved=True, severity=3)]
    other = alert(3, 4, stream="b")
    again = alert(9, 10)
    found = incidents([one[0], other, *one[1:], again])
    assert [incident.alerts for incident in found] == [one, [other], [again]]
    assert [incident.end for incident in found] == [8, float("inf"), float("inf")]
    assert [incident.severity for incident in found] == [3, 2, 2]


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=6)


def side(lengths: list[tuple[int, int]]) -> list[Incident]:
    """Incidents that do not overlap each other: gap and length of each."""
    made, at = [], 0
    for gap, length in lengths:
        first = at + gap + 1
        at = first + length
        made.append(Incident([alert(first, first), alert(at, at, resolved=True)]))
    return made


@given(spans, spans)
def test_incidents_of_two_sides_are_together_when_a_chain_of_overlaps_joins_them(
    new: list[tuple[int, int]], old: list[tuple[int, int]]
) -> None:
    sides = side(new), side(old)
    every = [(i, found) for i, incidents_ in enumerate(sides) for found in incidents_]
    # Brute force: join whatever overlaps until nothing more can be joined.
    groups = [{k} for k in range(len(every))]

    def touch(a: set[int], b: set[int]) -> bool:
        return any(
            every[i][1].first.window.first_offset <= every[k][1].end
            and every[k][1].first.window.first_offset <= every[i][1].end
            for i in a
            for k in b
        )

    def pairs() -> Iterator[tuple[set[int], set[int]]]:
        yield from ((a, b) for a, b in itertools.combinations(groups, 2) if touch(a, b))

    while pair := next(pairs(), None):
        groups = [group for group in groups if group not in pair] + [pair[0] | pair[1]]

    def ids(found: Any) -> frozenset[str]:
        return frozenset(incident.first.id for incident in found)

    expected = {tuple(ids(every[k][1] for k in group if every[k][0] == i) for i in (0, 1)) for group in groups}
    told = [[a for incident in incidents_ for a in incident.alerts] for incidents_ in sides]
    groups_found = compare(*told)
    assert {(ids(group.new), ids(group.old)) for group in groups_found} == expected
    firsts = [group.first.first.window.first_offset for group in groups_found]
    assert firsts == sorted(firsts)


def test_incidents_of_different_streams_are_never_together() -> None:
    groups = compare([alert(1, 5)], [alert(1, 5, stream="b")])
    assert groups == [Both((Incident([alert(1, 5)]),), ()), Both((), (Incident([alert(1, 5, stream="b")]),))]


def test_a_lower_threshold_shows_as_incidents_that_only_it_has() -> None:
    records = drifting()
    strict = CONFIG.model_copy(update={"detectors": {"ks": CONFIG.detectors["ks"]}})
    deaf = Config.model_validate({"detectors": {"ks": None, "quality": None, "chi2": None, "autoencoder": None}})
    (group,) = compare(alerts(replayed(records, strict)), alerts(replayed(records, deaf)))
    assert (len(group.new), len(group.old)) == (1, 0)
    assert group.first.severity is Severity.CRITICAL


def test_the_engine_begins_at_the_first_record_whatever_its_offset() -> None:
    records = [dataclasses.replace(record, offset=record.offset + 1000) for record in drifting()]
    made: list[tuple[Partition, int]] = []

    def new_engine(partition: Partition, offset: int) -> Any:
        made.append((partition, offset))
        return engine_factory(CONFIG)(partition, offset)

    replay = Replay(new_engine, no_fit, lambda: records)
    found = alerts([effect for record in records for effect in replay.step(record)])
    assert made == [(Partition(TOPIC, 0), 1000)]
    unshifted = alerts(replayed(drifting()))
    assert [a.window.first_offset - 1000 for a in found] == [a.window.first_offset for a in unshifted]
