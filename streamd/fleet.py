"""Several workers under one parent: started, started again when they end, told to stop and to reload together.

parent ──stdin──▶ worker    "reload"; closed: stop             The parent holds no partition and imports no torch.
       ◀─stdout── worker    where its admin HTTP is            Who works on what is for Kafka's consumer group.
       ──HTTP───▶ worker    when somebody asks the parent
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from streamd import __version__
from streamd.config import Config
from streamd.observe import logs
from streamd.observe.admin import AdminServer
from streamd.observe.fleet_admin import FleetWorker, create_fleet_app
from streamd.observe.health import Health, State
from streamd.parent_line import RELOAD

log = structlog.get_logger("streamd.fleet")

_FINAL_CODES = (os.EX_USAGE, os.EX_CONFIG)
"""What no restart mends: the command line, the configuration, or what of the broker does not fit it."""

_BEAT_SECONDS = 1.0


class Backoff:
    """How long to wait before a start: 1 s, then twice as long each time, up to a minute.

    Without jitter: workers of one machine are few, and when is what a person reads in the log.

    Args:
        first_seconds, most_seconds: the bounds.
        healthy_seconds: who ran for so long begins with `first_seconds` again.
    """

    def __init__(self, first_seconds: float = 1.0, most_seconds: float = 60.0, healthy_seconds: float = 60.0) -> None:
        self._first = self._next = first_seconds
        self._most = most_seconds
        self._healthy = healthy_seconds

    def seconds_after(self, ran_seconds: float) -> float:
        """The wait after a process that ran for so long."""
        if ran_seconds >= self._healthy:
            self._next = self._first
        wait, self._next = self._next, min(2 * self._next, self._most)
        return wait


class Fleet:
    """Keeps workers running until it is told to stop.

    Args:
        workers: what is known of each, kept up to date here.
        command: starts a worker; its number is appended.
        environment: of the workers.
        health: of this process.
        backoff: makes each worker's own.
    """

    def __init__(
        self,
        workers: Sequence[FleetWorker],
        command: Sequence[str],
        environment: Mapping[str, str],
        health: Health,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._workers = workers
        self._command = command
        self._environment = environment
        self._health = health
        self._backoff = backoff
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._final_code: int | None = None

    async def run(self) -> int:
        """Start all, and return when all have ended after `stop`: 0, or how the first that did not end well ended."""
        beat = asyncio.create_task(self._beat())
        codes = await asyncio.gather(*(self._keep(worker, self._backoff()) for worker in self._workers))
        beat.cancel()
        if self._final_code is not None:
            return self._final_code
        return next((code for code in codes if code), 0)

    def stop(self) -> None:
        """Let every worker finish what it has and leave the group. For the loop's own thread."""
        self._stopping.set()
        self._health.set(State.DRAINING, "the process was told to stop")
        for worker in self._workers:
            process = self._processes.get(worker.number)
            if process is None:
                continue
            assert process.stdin is not None
            process.stdin.close()
            if worker.url is None:  # it is still starting, and would finish that first
                _signal(process, signal.SIGTERM)

    def kill(self) -> None:
        """End every worker at once. What was not committed is done again by whoever comes next."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)

    def reload(self) -> None:
        """Let every worker read the configuration again."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write(RELOAD)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    async def _beat(self) -> None:
        while True:
            self._health.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    async def _keep(self, worker: FleetWorker, backoff: Backoff) -> int:
        """Run one worker, again and again, until `stop`; how its last process ended."""
        while True:
            began = time.monotonic()
            code = await self._process(worker)
            if self.stopping:
                return code
            if code in _FINAL_CODES:
                log.error("a worker cannot start, and no restart would mend it: stopping", worker=worker.number)
                self._final_code = code
                self.stop()
                return code
            wait = backoff.seconds_after(time.monotonic() - began)
            log.error("a worker ended; it will be started again", worker=worker.number, exit_code=code, seconds=wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            if self.stopping:
                return 0  # nobody was there to be stopped
            worker.restarts += 1

    async def _process(self, worker: FleetWorker) -> int:
        """One life of a worker: its exit code, as a shell gives it."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(worker.number),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            process_group=0,  # Ctrl-C in a terminal is for the parent, which tells the workers
        )
        self._processes[worker.number] = process
        worker.pid = process.pid
        if self.stopping:  # told while it was being made
            self.stop()
        assert process.stdout is not None
        async for line in process.stdout:
            worker.url = line.decode().strip()
        code = await process.wait()
        ready, worker.url, worker.pid = worker.url is not None, None, None
        del self._processes[worker.number]
        if code == -signal.SIGTERM and not ready:
            return 0  # told to stop before it had begun
        return 128 - code if code < 0 else code


def run(config: Config, arguments: Sequence[str]) -> int:
    """Run `config.workers` workers until SIGTERM or SIGINT; the exit code.

    Args:
        config: of this process: the workers read their own.
        arguments: of `streamd run`, for the workers.

    Raises:
        ConfigError: the admin's address cannot be listened on.
    """
    logs.configure(config.log, secrets=config.secrets())
    health = Health()
    workers = [FleetWorker(number) for number in range(config.workers)]
    app = create_fleet_app(workers, health, lambda: config.model_dump(mode="json"), __version__)
    admin = AdminServer(app, config.admin.host, config.admin.port)
    admin.start()
    log.info("streamd starts its workers", version=__version__, workers=len(workers), address=admin.url)
    try:
        code = asyncio.run(_run(Fleet(workers, _command(arguments), environment_of_workers(os.environ), health)))
    finally:
        admin.stop()
    log.info("stopped", exit_code=code)
    return code


async def _run(fleet: Fleet) -> int:
    """The fleet under this process's signals: the first SIGTERM or SIGINT drains, the second ends all at once."""
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if fleet.stopping:
            fleet.kill()
            os._exit(128 + number)
        fleet.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, fleet.reload)
    return await fleet.run()


def environment_of_workers(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with what is different for a worker.

    Its admin HTTP is for the parent alone. One thread each for linear algebra (OpenMP, BLAS, Arrow) and numba, unless
    somebody chose otherwise: N workers with a thread a core would stand in each other's way.
    """
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return {**threads, **environment, "STREAMD_ADMIN__HOST": "127.0.0.1", "STREAMD_ADMIN__PORT": "0"}


def _command(arguments: Sequence[str]) -> list[str]:
    # `-m` puts the working directory in front of all modules, which the script `streamd` does not: -P says not to.
    unsafe = {"", os.getcwd()} & set(sys.path)
    return [sys.executable, *([] if unsafe else ["-P"]), "-m", "streamd", "run", *arguments, "--worker"]


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
