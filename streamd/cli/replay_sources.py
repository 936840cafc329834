"""What `streamd replay` reads: a recording, a topic or a table of data, as records of a topic."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import orjson

from streamd.cli.batches import Batch, Columns, DataFile
from streamd.cli.exit_codes import ExitCode
from streamd.codec.encode import encode_features
from streamd.config import Config
from streamd.dataset import FORMATS, DataFileError, NotReadableError
from streamd.errors import ConfigError, StreamdError, TransientError
from streamd.model import Alert, DeadLetter, Envelope
from streamd.transport.base import Partition
from streamd.transport.kafka_range import Place, read_range
from streamd.transport.recording import is_recording, read_recording

_PART_ROWS = 1000  # of a reference in one record, as the client sends it; more where the batches have more


class BadInputError(StreamdError):
    """What was named cannot be replayed; `code` is how the verb ends."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Source(Protocol):
    """Records that can be read more than once, and how one finds again what an alert is about."""

    @property
    def rows(self) -> int | None:
        """Of data; None: nobody knows before it is read."""

    @property
    def dated(self) -> bool:
        """Whether its times mean anything."""

    def envelopes(self) -> Iterator[Envelope]:
        """The records from the first to the last. Raises BadInputError or TransientError."""

    def place(self, alert: Alert) -> str:
        """Where the alert's window is."""

    def line(self, alert: Alert, value: bytes) -> bytes:
        """The alert, whose value on the topic would be `value`, as a line of JSON."""

    def refused(self, letter: DeadLetter) -> None:
        """Raises BadInputError when there is no use in going on without this record."""


class Records:
    """Records that are ones already: the alerts are those that the daemon published, byte for byte."""

    dated = True
    rows: int | None = None

    def __init__(self, read: Callable[[], Iterator[Envelope]]) -> None:
        self._read = read

    def envelopes(self) -> Iterator[Envelope]:
        return self._read()

    def place(self, alert: Alert) -> str:
        window = alert.window
        last = f"–{window.last_offset}" if window.last_offset != window.first_offset else ""
        return f"{alert.topic}/{alert.partition}/{window.first_offset}{last}"

    def line(self, alert: Alert, value: bytes) -> bytes:
        return value

    def refused(self, letter: DeadLetter) -> None:
        """One bad record among others."""


def recording(path: Path, start: Place | None, end: Place | None) -> Records:
    """A recording. Raises BadInputError when it has no records at all."""

    def read() -> Iterator[Envelope]:
        try:
            yield from _between(read_recording(path), start, end)
        except ValueError as error:
            raise BadInputError(ExitCode.DATA, str(error)) from error

    try:
        if next(read_recording(path), None) is None:
            raise BadInputError(ExitCode.DATA, f"{path} is a recording of no records")
    except ValueError as error:
        raise BadInputError(ExitCode.DATA, str(error)) from error
    return Records(read)


def topic(config: Config, name: str, start: Place | None, end: Place | None) -> Records:
    """What is in a topic now, without a group."""

    def read() -> Iterator[Envelope]:
        try:
            yield from read_range(config.kafka, name, start, end)
        except ConfigError as error:
            if "no topic" not in str(error):
                raise
            raise BadInputError(ExitCode.NO_INPUT, f"there is neither a file nor a topic {name}") from error
        except TransientError as error:
            raise TransientError(f"there is no file {name}, so it was taken for a topic; {error}") from error

    return Records(read)


def is_topic(name: str) -> bool:
    """Whether `name` stands for a topic. Raises BadInputError for a file that is not there or cannot be read."""
    path = Path(name)
    if path.exists():
        return False
    if "/" in name or path.suffix.lower() in FORMATS:
        raise BadInputError(ExitCode.NO_INPUT, f"there is no file {name}")
    return True


def is_table(path: Path) -> bool:
    """Whether the file is a table rather than a recording. Raises BadInputError when it is neither."""
    try:
        if is_recording(path):
            return False
        empty = path.stat().st_size == 0
    except OSError as error:
        raise BadInputError(ExitCode.NO_INPUT, f"{path}: {error.strerror or error}") from error
    if empty:
        raise BadInputError(ExitCode.DATA, f"{path} is empty")
    if path.suffix.lower() not in FORMATS:
        raise BadInputError(
            ExitCode.DATA,
            f"{path} is neither a recording (of `streamd record`) nor a table: {', '.join(FORMATS)}",
        )
    return True


def _between(envelopes: Iterator[Envelope], start: Place | None, end: Place | None) -> Iterator[Envelope]:
    """What `read_range` would have read: from the first record at or after `start` to the first at or after `end`."""
    started: set[Partition] = set()
    ended: set[Partition] = set()
    for envelope in envelopes:
        partition = Partition(envelope.topic, envelope.partition)
        if partition not in started and (start is None or _reached(envelope, start)):
            started.add(partition)
        if end is not None and _reached(envelope, end):
            ended.add(partition)
        if partition in started and partition not in ended:
            yield envelope


def _reached(envelope: Envelope, place: Place) -> bool:
    if isinstance(place, datetime.datetime):
        return envelope.timestamp_ms >= int(place.timestamp() * 1000)
    return envelope.offset >= place


# --- Tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is cut into records."""

    stream: str
    columns: Columns
    reference: Path | None
    batch_rows: int
    seconds_apart: float


class TableSource:
    """A table as `streamd send` would send it to an empty topic: first the reference, then the batches.

    Raises:
        BadInputError: a file is not there, is empty, cannot be read, or lacks a column.
    """

    def __init__(self, path: Path, options: TableOptions, topic: str) -> None:
        self._path = path
        self._options = options
        self._topic = topic
        self._data = _open(path, options.columns)
        self._rows = _count(path, self._data)
        self.rows: int | None = self._rows
        self.dated = options.columns.time is not None
        self.left_out: tuple[str, ...] = ()
        self._part_rows = max(options.batch_rows, _PART_ROWS)
        self._reference: DataFile | None = None
        self._parts = 0
        if options.reference is not None:
            self._reference = self._open_reference(options.reference)
            _count(options.reference, self._reference)
            self._parts = self._reference_parts()[0]

    def _open_reference(self, path: Path) -> DataFile:
        columns = self._options.columns
        same = Columns(tuple(self._data.features), (), columns.logits, columns.probabilities)
        reference = _open(path, same)
        if columns.time in reference.names:
            reference = _open(path, replace(same, time=columns.time))
        known = {*self._data.names, *columns.exclude}
        self.left_out = tuple(name for name in reference.names if name not in known)
        return reference

    def _reference_parts(self) -> tuple[int, Iterator[Batch]]:
        if self._reference is None:
            return 0, iter(())
        try:
            return self._reference.parts(self._part_rows)
        except (DataFileError, ValueError) as error:
            raise BadInputError(ExitCode.DATA, str(error)) from error

    def envelopes(self) -> Iterator[Envelope]:
        try:
            yield from self._records()
        except (DataFileError, ValueError, TypeError) as error:
            raise BadInputError(ExitCode.DATA, str(error)) from error

    def _records(self) -> Iterator[Envelope]:
        batches = self._data.batches(self._options.batch_rows)
        first = next(batches)
        time_ms = max(first.ts or 0, 0)
        for part, batch in enumerate(self._reference_parts()[1], start=1):
            yield self._record(part - 1, time_ms, batch, None, (part, self._parts))
        for number, batch in enumerate(itertools.chain([first], batches)):
            if self.dated:
                time_ms = time_ms if batch.ts is None else batch.ts
            else:
                time_ms = int(number * self._options.seconds_apart * 1000)
            row = number * self._options.batch_rows
            ids = batch.ids or [str(i) for i in range(row, row + batch.rows)]
            yield self._record(self._parts + number, time_ms, batch, ids, None)

    def _record(
        self, offset: int, time_ms: int, batch: Batch, ids: list[str] | None, part: tuple[int, int] | None
    ) -> Envelope:
        value, headers = encode_features(
            self._options.stream,
            batch.features,
            logits=batch.logits,
            probabilities=batch.probabilities,
            ids=ids,
            # A reference whose rows have no times happens when the first batch does.
            ts_ms=batch.ts if part is not None else time_ms if self.dated else None,
            role=None if part is None else "reference",
            part=part,
            format="arrow",
        )
        return Envelope(self._topic, 0, offset, time_ms, self._options.stream.encode(), value, tuple(headers))

    def range(self, alert: Alert) -> tuple[int, int]:
        """The first and the last row of the batches that the alert's window lies in, counted from 0."""
        rows, parts = self._options.batch_rows, self._parts
        first = max(alert.window.first_offset - parts, 0) * rows
        return first, min(max(alert.window.last_offset - parts + 1, 1) * rows, self._rows) - 1

    def place(self, alert: Alert) -> str:
        first, last = self.range(alert)
        return f"rows {first:,}–{last:,}"

    def line(self, alert: Alert, value: bytes) -> bytes:
        first, last = self.range(alert)
        return value[:-1] + b',"table_rows":' + orjson.dumps({"first": first, "last": last}) + b"}"

    def refused(self, letter: DeadLetter) -> None:
        if letter.envelope.offset < self._parts:
            raise BadInputError(ExitCode.DATA, f"{self._options.reference} cannot be the reference: {letter.error}")


def _open(path: Path, columns: Columns) -> DataFile:
    try:
        return DataFile(path, columns)
    except FileNotFoundError as error:
        raise BadInputError(ExitCode.NO_INPUT, f"there is no file {path}") from error
    except NotReadableError as error:
        raise BadInputError(ExitCode.NO_INPUT, str(error)) from error
    except DataFileError as error:
        raise BadInputError(ExitCode.DATA, str(error)) from error


def _count(path: Path, data: DataFile) -> int:
    try:
        rows = data.count()
    except DataFileError as error:
        raise BadInputError(ExitCode.DATA, str(error)) from error
    if rows == 0:
        raise BadInputError(ExitCode.DATA, f"{path} has no rows")
    return rows
