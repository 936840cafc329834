"""Histograms on demand: asked for by whoever looks at a stream, answered by the pump between two polls.

Reference and window live in the detectors, which belong to the pump's thread; keeping a copy for 10,000 streams, or
a lock around them, would cost all of the time what is wanted rarely. So a question waits here, the pump answers one a
turn at most, ten a second at most, and what nobody asks for any more is forgotten. One answer counts the bins of one
column: about 0.1 ms for a window of 1,000 rows. While the pump waits for its broker there are no new answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from streamd.detectors.histogram import Histogram
from streamd.engine import PartitionEngine

log = structlog.get_logger("streamd.live")

_QUESTIONS_MAX = 16  # as many streams are looked at in detail at once; the one asked longest ago gives way
_FORGOTTEN_SECONDS = 5.0  # after the last time that somebody asked
_PAUSE_SECONDS = 0.1  # between two answers


class HasEngine(Protocol):
    """A seat, as far as it matters here."""

    live: bool
    engine: PartitionEngine


@dataclass(frozen=True, slots=True)
class Question:
    """How does the first of these columns that can be shown look now?

    Two are equal when they are about one stream: while its worst column changes, the last answer still stands.
    """

    topic: str
    partition: int
    stream: str
    columns: tuple[str, ...] = field(compare=False)


@dataclass(slots=True)
class _Asked:
    at: float  # last
    answered_at: float = 0.0
    answer: Histogram | None = None


class Looks:
    """The open questions and their latest answers. `ask` on any thread, `answer` on the pump's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[Question, _Asked] = {}
        self._not_before = 0.0

    def ask(self, question: Question) -> Histogram | None:
        """Keep asking this; the latest answer, None while there is none."""
        with self._lock:
            asked = self._asked.pop(question, None) or _Asked(0.0)
            asked.at = self._clock()
            self._asked[question] = asked  # last again
            if len(self._asked) > _QUESTIONS_MAX:
                del self._asked[next(iter(self._asked))]
            return asked.answer

    def answer(self, seats: Mapping[Any, HasEngine]) -> None:
        """Answer the question that has waited longest, where it is time for one. `seats` by (topic, partition)."""
        if not self._asked:  # nearly always
            return
        now = self._clock()
        if now < self._not_before:
            return
        self._not_before = now + _PAUSE_SECONDS
        with self._lock:
            self._asked = {q: asked for q, asked in self._asked.items() if now - asked.at < _FORGOTTEN_SECONDS}
            if not self._asked:
                return
            question, asked = min(self._asked.items(), key=lambda item: item[1].answered_at)
        seat = seats.get((question.topic, question.partition))
        asked.answered_at = now
        asked.answer = _histogram(seat.engine, question) if seat is not None and seat.live else None


def _histogram(engine: PartitionEngine, question: Question) -> Histogram | None:
    try:
        return engine.histogram(question.stream, question.columns)
    except Exception as error:  # a picture changes nothing: it must not stop the work that it shows
        log.error("a histogram could not be drawn", stream=question.stream, exc_info=error)
        return None
