"""The list: what is played, on how many members, over how many records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

from chaos import faults, soak
from chaos.driver import Payloads
from chaos.site import Site, Where
from chaos.world import NO_DATA, QUICK, Outcome, World
from proxy import Action

Fault = Callable[[World], None]

EAGER: Mapping[str, str] = {"STREAMD_KAFKA__ASSIGNOR": "eager"}
BULK: Mapping[str, str] = {"STREAMD_KAFKA__MAX_POLL_RECORDS": "200", "STREAMD_ENGINE__SNAPSHOT_RECORDS": "500"}
TRAINING: Mapping[str, str] = {
    # One small network for each stream that sends references.
    "STREAMD_DETECTORS__AUTOENCODER": "{judge: {window_rows: 50}, steps_max: 200, fit_rows_min: 50}",
}
PATIENT: Mapping[str, str] = {
    # The group waits longer than the network is away: who asks what became of a delivery is still a member.
    "STREAMD_KAFKA__SESSION_TIMEOUT_MS": "20000",
    "STREAMD_KAFKA__MAX_POLL_INTERVAL_MS": "30000",
}
OBEY: Mapping[str, str] = {
    # Commands that should be obeyed, and nobody answers: ticks tell that too.
    "STREAMD_POLICY__MODE": "enforce",
    "STREAMD_POLICY__ACKNOWLEDGE_SECONDS": "2",
}
AT_LEAST_ONCE: Mapping[str, str] = {
    # Tansu never ends the transaction of a process that was killed, and all readers wait for it: so there are none.
    "STREAMD_KAFKA__DELIVERY": "at_least_once",
    # A tick that comes again comes at another time: another text under the same id.
    NO_DATA: "null",
}


@dataclass(frozen=True)
class Scenario:
    """What is played.

    Attributes:
        where: on which broker.
        patience: how much longer anything may take than on a quiet machine.
        faults: in their order.
        records: sent at least; more where the faults take longer.
        check_metrics: their sums must be the oracle's: only where no process loses its counters.
    """

    name: str
    faults: tuple[Fault, ...]
    records: int = 3000
    per_second: float = 300.0
    members: int = 1
    bad_share: float = 0.01
    environment: Mapping[str, str] = field(default_factory=dict)
    check_metrics: bool = False
    where: Where = "kafka"
    patience: float = 1.0


_TOLD_MIN = 100


def run(scenario: Scenario, site: Site, seed: int, parent: Path | None = None) -> Outcome:
    """Play it; what it came to. What the product did wrong is among the problems, never raised."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{scenario.name.replace(' ', '-')}-{seed}-", dir=parent))
    world = World(site, folder, scenario.name, seed, scenario.environment, scenario.patience)
    try:
        payloads = Payloads(seed, bad_share=scenario.bad_share, per_second=scenario.per_second)
        world.begin(payloads, scenario.records, scenario.per_second, scenario.members)
        for fault in scenario.faults:
            fault(world)
        outcome = world.end(check_metrics=scenario.check_metrics)
        if outcome.told < _TOLD_MIN:
            world.problem(f"only {outcome.told} records should have come out: that proves nothing")
        if sum(outcome.faults.values()) < len(scenario.faults):
            world.problem(f"only {dict(outcome.faults)} were played")
        return outcome
    finally:
        site.proxy.disarm()
        world.close()


def _cut(point: str, action: Action) -> Fault:
    return partial(faults.cut, point=point, action=action)


def selection() -> Iterator[Scenario]:
    """Every kind of fault at least once, in minutes on two cores: part of `make test`, beside which others run."""
    return (replace(each, records=2000, per_second=200, patience=2.5) for each in _selection())


def _selection() -> Iterator[Scenario]:
    yield Scenario(
        "processes",
        (faults.kill, faults.zombie, faults.terminate, faults.join_during_restore, faults.kill),
        members=2,
        environment=QUICK,
    )
    yield Scenario("joins", (faults.join,) * 2, environment=QUICK, check_metrics=True)
    play = (faults.join_and_leave, faults.kill)
    yield Scenario("eager", play, members=2, environment={**QUICK, **EAGER, **OBEY})
    yield Scenario(
        "network",
        (
            partial(faults.lost_answer, outage_seconds=6),
            faults.unheard_commit,
            _cut("EndTxn response", "reset"),
            _cut("EndTxn request", "black_hole"),
            _cut("TxnOffsetCommit", "delay"),
            _cut("InitProducerId", "reset"),
            _cut("after send", "reset"),
            faults.flip,
            faults.flip_state,
            faults.reset,
            partial(faults.black_hole, seconds=3),
            partial(faults.slow, delay_seconds=0.1, seconds=3),
        ),
        environment=QUICK,
    )
    crashes = (partial(faults.broker_crash, down_seconds=1), partial(faults.crash_of_open_transaction, down_seconds=1))
    yield Scenario("broker", crashes, environment=QUICK)
    yield _tansu("tansu", (faults.kill, faults.kill))


def everything() -> Iterator[Scenario]:
    """`make chaos`."""
    yield Scenario(
        "10 kills in 100,000", (faults.kill,) * 10, records=100_000, per_second=900, members=2, environment=BULK
    )
    yield Scenario("20 rebalances, cooperative", (faults.join_and_leave,) * 10, members=2)
    yield Scenario("20 rebalances, eager", (faults.join_and_leave,) * 10, members=2, environment=EAGER)
    yield Scenario("joins alone", (faults.join,) * 3, check_metrics=True)
    yield Scenario("5 zombies", (faults.zombie,) * 5, members=2)
    yield Scenario("5 joins during restore", (faults.join_during_restore,) * 5, members=2)
    yield Scenario("drains", (faults.terminate,) * 20, members=2)
    for action in get_args(Action):
        cuts = tuple(_cut(point, action) for point in faults.CUT_POINTS)
        yield Scenario(f"8 cut points, {action}", cuts, members=1)
        yield Scenario(f"8 cut points, {action}, half the deadlines", cuts, members=2, environment=QUICK)
    # Longer than a transaction may take, and within the session; and longer than both.
    answers = (partial(faults.lost_answer, outage_seconds=6),) * 6
    yield Scenario("answers lost", answers, members=1, environment={**QUICK, **PATIENT})
    # With much to tell in each transaction: what is made visible twice is seen.
    telling = {**QUICK, "STREAMD_KAFKA__MAX_POLL_RECORDS": "200"}
    yield Scenario("commits unheard", (faults.unheard_commit,) * 10, bad_share=0.1, environment=telling)
    yield Scenario(
        "answers and membership lost",
        (partial(faults.lost_answer, outage_seconds=12),) * 3,
        members=2,
        environment=QUICK,
    )
    crashes = (partial(faults.broker_crash, down_seconds=10), partial(faults.broker_crash, down_seconds=60))
    yield Scenario("2 broker restarts", crashes, members=2, per_second=100)
    crashes = (partial(faults.crash_of_open_transaction, down_seconds=3),) * 5
    name = "broker, open transaction"
    yield Scenario(name, crashes, per_second=150, bad_share=0.1, environment=telling)
    yield Scenario("10,000 bad of 100,000", (), records=100_000, per_second=900, bad_share=0.1, environment=BULK)
    yield Scenario("20 flipped CRCs", (faults.flip,) * 18 + (faults.flip_state,) * 2)
    yield Scenario("output black-holed", (partial(faults.black_hole_output, seconds=60),), environment=BULK)
    network = (
        faults.reset,
        partial(faults.refuse, seconds=10),
        partial(faults.black_hole, seconds=20),
        partial(faults.slow, delay_seconds=0.2, seconds=10),
    )
    yield Scenario("network at large", network, members=2)
    obeyed = (faults.kill, faults.terminate) * 5
    yield Scenario("commands unanswered", obeyed, members=2, environment={**QUICK, **OBEY})
    yield Scenario("trainings", (faults.kill, faults.join_and_leave, faults.kill), members=2, environment=TRAINING)
    yield _tansu("tansu, kills", (faults.kill,) * 10)
    # No drains and no guests: members that leave can put its group into a rebalance that never ends.


def _tansu(name: str, play: tuple[Fault, ...]) -> Scenario:
    """On the embedded broker, as far as it goes: it takes offsets of those who have lost their partitions."""
    return Scenario(name, play, per_second=150, members=2, environment=AT_LEAST_ONCE, where="tansu")


def long(hours: float, *, calm: bool) -> Scenario:
    """`make chaos HOURS=…`: at an hour, 200 kills in 1,000,000 records; `calm`: no fault at all."""
    seconds = hours * 3600
    play = partial(soak.calm if calm else soak.soak, seconds=seconds)
    records = int(280 * seconds)
    return Scenario(play.func.__name__, (play,), records=records, per_second=280, members=3, environment=BULK)
