"""Nothing is lost, nothing is told twice, and the state is that of a process that never stopped: a seeded selection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import HOW_TO_GET_KAFKA, RealKafka, kafka_launcher
from chaos.driver import Payloads
from chaos.oracle import Order, Told, compare
from chaos.scenarios import Scenario, run, selection
from chaos.world import kafka_behind
from needs import unavailable
from proxy import Proxy

SEED = int(os.environ.get("STREAMD_TEST_SEED", "1"))


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealKafka, Proxy]]:
    launcher = kafka_launcher()
    if launcher is None:
        unavailable(HOW_TO_GET_KAFKA)
    proxy = Proxy()
    broker = kafka_behind(proxy, launcher, tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker, proxy
    broker.kill()
    proxy.close()


@pytest.mark.chaos
@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(420)
# kafka-python leaves a socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("scenario", list(selection()), ids=lambda scenario: scenario.name)
def test_every_alert_is_told_once_and_the_state_is_that_of_a_process_that_never_stopped(
    behind_proxy: tuple[RealKafka, Proxy], scenario: Scenario, tmp_path: Path
) -> None:
    outcome = run(scenario, *behind_proxy, SEED, tmp_path)
    print(outcome, outcome.faults, outcome.figures)
    assert outcome.ok, str(outcome)
    assert (outcome.lost, outcome.twice, outcome.state_equal) == (0, 0, True)
    assert outcome.told > 100
    assert sum(outcome.faults.values()) >= len(scenario.faults)


def told(*values: bytes, key: bytes = b"k") -> list[Told]:
    return [Told("alerts", key, value, (), None) for value in values]


EXPECTED: Order = {("alerts", b"k"): told(b"a", b"b", b"c")}


def test_the_comparison_finds_what_is_lost_told_twice_foreign_or_out_of_order() -> None:
    assert str(compare(EXPECTED, told(b"a", b"b", b"c"))) == ""
    assert compare(EXPECTED, told(b"a", b"c")).lost == told(b"b")
    assert compare(EXPECTED, told(b"a", b"b", b"b", b"c")).twice == told(b"b")
    assert compare(EXPECTED, told(b"a", b"b", b"c", b"d")).foreign == told(b"d")
    assert compare(EXPECTED, told(b"a", b"c", b"b")).disordered == [("alerts", b"k")]
    assert compare(EXPECTED, told(b"a", b"b", b"c", key=b"other")).lost == told(b"a", b"b", b"c")


def test_payloads_are_a_function_of_the_seed() -> None:
    one, again, other = ([Payloads(seed, bad_share=0.1).record(n) for n in range(3100)] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert len({record.value for record in one}) > 3090  # resets alone are equal
