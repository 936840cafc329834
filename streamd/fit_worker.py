"""Training on a thread of its own: one partition waits for it, everything else flows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

from streamd.detectors.base import DetectorConfig, Reference
from streamd.engine import FitJob, PartitionEngine

Fit = Callable[[DetectorConfig, Reference], bytes]
"""Trains a detector, a pure function. Raises ValueError with a sentence where the data does not allow it."""

Result = tuple[PartitionEngine, bytes | None, str, float]
"""Whose, the weights or None, the problem, seconds."""


class FitWorker:
    """Trains one detector at a time."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._jobs: queue.SimpleQueue[tuple[PartitionEngine, FitJob]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, engine: PartitionEngine, job: FitJob) -> None:
        """Train `job` when its turn comes; the result is for `engine`."""
        if self._thread is None:
            # A daemon thread: a training must not hold a process that is told to go.
            self._thread = threading.Thread(target=self._run, name="fit", daemon=True)
            self._thread.start()
        self._jobs.put((engine, job))

    def results(self) -> Iterator[Result]:
        """What has been trained since the last call. An error that is our bug is raised here."""
        while not self._results.empty():
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def _run(self) -> None:
        while True:
            engine, job = self._jobs.get()
            started = time.monotonic()
            weights, problem = None, ""
            try:
                weights = self._fit(job.config, job.reference)
            except ValueError as error:
                problem = str(error)
            except BaseException as error:
                self._results.put(error)
                continue
            self._results.put((engine, weights, problem, time.monotonic() - started))
