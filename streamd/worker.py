"""Slow work on a thread of its own (training, restoring): one partition waits for it, everything else flows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Runs jobs one after another. What they return is taken by the thread that submitted them, when it likes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._submitted = self._finished = 0  # each is written by one thread alone

    @property
    def busy(self) -> bool:
        """Something that was submitted is not finished."""
        return self._submitted > self._finished

    def submit(self, job: Callable[[], T]) -> None:
        """Run `job` when its turn comes."""
        if self._thread is None:
            # A daemon thread: a training must not hold a process that is told to go.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._submitted += 1
        self._jobs.put(job)

    def results(self) -> Iterator[T]:
        """What is finished and was not taken yet. An error that no job handled is our bug: it is raised here."""
        while not self._results.empty():
            result, error = self._results.get()
            if error is not None:
                raise error
            yield result  # type: ignore[misc]  # None is there only with an error, or where T admits it

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._results.put((job(), None))
            except BaseException as error:
                self._results.put((None, error))
            self._finished += 1
