"""Workers are kept running, stopped and told to reload; small scripts stand in for them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from streamd.cli.exit_codes import ExitCode
from streamd.fleet import _FINAL_CODES, Backoff, Fleet, environment_of_workers
from streamd.observe.fleet_admin import FleetWorker
from streamd.observe.health import Health, State

UP = "import sys, signal; print('http://127.0.0.1:1', flush=True)\n"
GOOD = UP + "sys.stdin.read()"


def test_the_wait_before_a_start_doubles_up_to_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.seconds_after(5.0) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_minute_of_health_makes_the_wait_short_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.seconds_after(0.0)
    assert [backoff.seconds_after(ran) for ran in (59.9, 60.0, 1.0, 3600.0)] == [32, 1, 2, 1]


def test_the_codes_that_no_restart_mends_are_those_of_the_command_line() -> None:
    assert _FINAL_CODES == (ExitCode.USAGE, ExitCode.CONFIG)
    assert ExitCode.INTERNAL not in _FINAL_CODES  # a stuck pump: the watchdog wants the restart


def test_a_worker_has_one_thread_and_an_admin_for_its_parent_alone_unless_somebody_chose_otherwise() -> None:
    given = {"PATH": "/bin", "STREAMD_ADMIN__PORT": "9464", "STREAMD_ADMIN__HOST": "0.0.0.0", "OMP_NUM_THREADS": "4"}
    assert environment_of_workers(given) == {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "4",
        "NUMBA_NUM_THREADS": "1",
        "STREAMD_ADMIN__HOST": "127.0.0.1",
        "STREAMD_ADMIN__PORT": "0",
    }


@pytest.mark.slow
def test_the_parent_imports_nothing_that_only_workers_need() -> None:
    heavy = ("torch", "numba", "scipy", "sklearn", "river", "pyarrow", "kafka", "streamd.wiring")
    code = (
        f"import sys, streamd.fleet, streamd.config_loading\nprint([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class World:
    """A fleet of scripts: the number is the script's argument, its folder where it can leave things."""

    def __init__(self, script: str, folder: Path, workers: int = 2) -> None:
        self.workers = [FleetWorker(number) for number in range(workers)]
        self.health = Health()
        self.folder = folder
        environment = {**os.environ, "FOLDER": str(folder)}
        command = [sys.executable, "-S", "-c", script]
        backoff = partial(Backoff, first_seconds=0.01, most_seconds=0.05)
        self.fleet = Fleet(self.workers, command, environment, self.health, backoff)

    def run(self, play: Callable[[], Awaitable[None]]) -> int:
        """The exit code of a fleet to which `play` happens."""

        async def all_of_it() -> int:
            running = asyncio.create_task(self.fleet.run())
            await play()
            return await asyncio.wait_for(running, 30)

        return asyncio.run(all_of_it())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_up(self) -> None:
        await self.until(lambda: all(worker.url for worker in self.workers))


@pytest.mark.slow
def test_told_to_stop_all_end_and_the_code_is_0(tmp_path: Path) -> None:
    world = World(GOOD, tmp_path)

    async def play() -> None:
        await world.until_up()
        assert [worker.url for worker in world.workers] == ["http://127.0.0.1:1"] * 2
        world.fleet.stop()

    assert world.run(play) == 0
    assert world.health.report().state is State.DRAINING
    assert [(worker.url, worker.pid, worker.restarts) for worker in world.workers] == [(None, None, 0)] * 2


@pytest.mark.slow
def test_a_worker_that_does_not_end_well_gives_its_code(tmp_path: Path) -> None:
    world = World(GOOD + "\nsys.exit(70 * (sys.argv[1] == '1'))", tmp_path)

    async def play() -> None:
        await world.until_up()
        world.fleet.stop()

    assert world.run(play) == 70


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None], ids=str)
def test_a_worker_that_ends_by_itself_is_started_again_and_the_other_is_left_alone(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    """Killed, told by somebody else to go, or stuck (70)."""
    stuck = "import os; f = os.environ['FOLDER'] + '/once'\n"
    stuck += "if sys.argv[1] == '1' and not os.path.exists(f): open(f, 'w').close(); sys.exit(70)\n"
    world = World(UP + (stuck if number is None else "") + "sys.stdin.read()", tmp_path)

    async def play() -> None:
        await world.until_up()
        first = world.workers[0].pid
        if number is not None:
            assert world.workers[1].pid is not None
            os.kill(world.workers[1].pid, number)
        await world.until(lambda: world.workers[1].restarts == 1)
        await world.until_up()
        assert world.workers[0].pid == first
        world.fleet.stop()

    assert world.run(play) == 0
    assert [worker.restarts for worker in world.workers] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("code", _FINAL_CODES)
def test_what_no_restart_mends_ends_all_with_that_code(tmp_path: Path, code: int) -> None:
    world = World(UP + f"sys.exit({code}) if sys.argv[1] == '1' else sys.stdin.read()", tmp_path)

    async def play() -> None:
        pass

    assert world.run(play) == code
    assert [worker.restarts for worker in world.workers] == [0, 0]


@pytest.mark.slow
def test_a_worker_that_is_still_starting_is_not_waited_for(tmp_path: Path) -> None:
    world = World("import time; time.sleep(300)", tmp_path)

    async def play() -> None:
        await world.until(lambda: all(worker.pid for worker in world.workers))
        world.fleet.stop()

    assert world.run(play) == 0


@pytest.mark.slow
def test_a_stop_during_the_wait_for_a_restart_ends_the_wait(tmp_path: Path) -> None:
    waiting = 0

    class AnHour(Backoff):
        def seconds_after(self, ran_seconds: float) -> float:
            nonlocal waiting
            waiting += 1
            return 3600.0

    world = World("raise SystemExit(1)", tmp_path)
    world.fleet._backoff = AnHour

    async def play() -> None:
        await world.until(lambda: waiting == 2)
        world.fleet.stop()

    assert world.run(play) == 0


@pytest.mark.slow
def test_killed_workers_end_whatever_they_do(tmp_path: Path) -> None:
    world = World(UP + "import time; time.sleep(300)", tmp_path)

    async def play() -> None:
        await world.until_up()
        world.fleet.stop()
        world.fleet.kill()

    assert world.run(play) == 128 + signal.SIGKILL


@pytest.mark.slow
def test_a_reload_reaches_every_worker(tmp_path: Path) -> None:
    script = UP + "import os; line = sys.stdin.readline()\n"
    script += "open(os.environ['FOLDER'] + '/' + sys.argv[1], 'w').write(line)\nsys.stdin.read()"
    world = World(script, tmp_path)

    async def play() -> None:
        await world.until_up()
        world.fleet.reload()
        await world.until(lambda: all((tmp_path / n).exists() and (tmp_path / n).read_text() for n in "01"))
        world.fleet.stop()

    assert world.run(play) == 0
    assert [(tmp_path / n).read_text() for n in "01"] == ["reload\n"] * 2
