"""Nothing is lost, nothing is told twice, and the state is that of a process that never stopped: a seeded selection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import HOW_TO_GET_KAFKA, kafka_launcher
from chaos.driver import Payloads
from chaos.oracle import Order, Told, compare
from chaos.scenarios import selection
from chaos.site import Where
from needs import unavailable

SEED = os.environ.get("STREAMD_TEST_SEED", "1")
BROKERS = {"kafka": pytest.mark.kafka, "tansu": pytest.mark.broker}


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("scenario", "where"), [pytest.param(each.name, each.where, marks=BROKERS[each.where]) for each in selection()]
)
def test_every_alert_is_told_once_and_the_state_is_that_of_a_process_that_never_stopped(
    scenario: str, where: Where
) -> None:
    """In a process of its own: the clients that look on leave sockets and threads behind when a broker is killed."""
    if where == "kafka" and kafka_launcher() is None:
        unavailable(HOW_TO_GET_KAFKA)
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--selection", "--only", scenario]
    played = subprocess.run([*command, "--seed", SEED], capture_output=True, text=True, check=False)
    print(played.stdout)
    assert played.returncode == 0, played.stdout + played.stderr


def told(*values: bytes, key: bytes = b"k") -> list[Told]:
    return [Told("alerts", key, value, (), None) for value in values]


EXPECTED: Order = {("alerts", b"k"): told(b"a", b"b", b"c")}


def test_the_comparison_finds_what_is_lost_told_twice_foreign_or_out_of_order() -> None:
    assert compare(EXPECTED, told(b"a", b"b", b"c")).problem(exactly_once=True) == ""
    assert compare(EXPECTED, told(b"a", b"c")).lost == told(b"b")
    assert compare(EXPECTED, told(b"a", b"b", b"b", b"c")).twice == told(b"b")
    assert compare(EXPECTED, told(b"a", b"b", b"c", b"d")).foreign == told(b"d")
    assert compare(EXPECTED, told(b"a", b"c", b"b")).disordered == [("alerts", b"k")]
    assert compare(EXPECTED, told(b"a", b"c", b"b", b"c")).disordered == [("alerts", b"k")]
    assert compare(EXPECTED, told(b"a", b"b", b"c", key=b"other")).lost == told(b"a", b"b", b"c")


def test_where_at_least_once_is_promised_what_comes_again_is_no_problem_and_all_else_is() -> None:
    assert compare(EXPECTED, told(b"a", b"b", b"a", b"b", b"c")).problem(exactly_once=False) == ""
    assert compare(EXPECTED, told(b"a", b"b", b"b", b"c")).problem(exactly_once=True)
    assert compare(EXPECTED, told(b"a", b"a", b"c")).problem(exactly_once=False)
    assert compare(EXPECTED, told(b"a", b"b", b"c", b"d")).problem(exactly_once=False)


def test_payloads_are_a_function_of_the_seed() -> None:
    one, again, other = ([Payloads(seed, bad_share=0.1).record(n) for n in range(3100)] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert len({record.value for record in one}) > 3090  # resets alone are equal
