"""The watchdog: a stuck pump ends the process with its stacks; one that turns is left alone."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import time
from streamd.observe.health import Health
from streamd.watchdog import Watchdog
health = Health()
told_to_stop = False
watchdog = Watchdog(health, lambda: told_to_stop, 0.3, {exit_seconds}, leave_seconds=0.5)
health.beat()
watchdog.start()
def stuck_in_a_poll():
    time.sleep(3)
{body}
"""


def run(body: str, exit_seconds: float) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(body=body, exit_seconds=exit_seconds)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


def test_a_stuck_pump_ends_the_process_with_70_and_every_stack() -> None:
    ended = run("stuck_in_a_poll()", exit_seconds=1.0)
    assert ended.returncode == 70
    assert "stuck_in_a_poll" in ended.stderr
    assert "the pump is stuck" in ended.stdout + ended.stderr


def test_a_pump_that_turns_is_left_alone() -> None:
    body = "for _ in range(20):\n    health.beat()\n    time.sleep(0.1)"
    assert run(body, exit_seconds=1.0).returncode == 0


def test_a_pump_that_has_ended_is_left_alone() -> None:
    assert run("watchdog.stop()\nstuck_in_a_poll()", exit_seconds=1.0).returncode == 0


def test_a_process_that_was_told_to_stop_and_hangs_in_a_call_of_the_broker_ends_with_0() -> None:
    ended = run("told_to_stop = True\nstuck_in_a_poll()\nprint('came back')", exit_seconds=60.0)
    assert ended.returncode == 0
    assert "stopped without the broker's answer" in ended.stdout
    assert "came back" not in ended.stdout


def test_a_process_that_leaves_in_time_is_not_hurried() -> None:
    ended = run("told_to_stop = True\nwatchdog.stop()\nstuck_in_a_poll()\nprint('came back')", exit_seconds=60.0)
    assert (ended.returncode, ended.stdout) == (0, "came back\n")
