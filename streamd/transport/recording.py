"""Records in a file: an Arrow IPC stream (zstd) that any Arrow reader opens.

Columns: topic, partition, offset, timestamp_ms, key, value, headers (a list of name and value) and crc32 (zlib's,
of key, value and headers). The schema's metadata says `streamd.recording: 1`. Arrow itself has no checksums and takes
a file that ends between two batches for a whole one; the crc and the end-of-stream mark make both show.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamd.model import Envelope

_VERSION = b"1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_COMPRESSION: str | None = "zstd"
_BATCH_RECORDS = 1024
_BATCH_BYTES = 8_000_000  # a batch is held in memory whole, on both sides

_SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())])), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
    ],
    metadata={"streamd.recording": _VERSION},
)


def write_recording(path: str | Path, envelopes: Iterable[Envelope]) -> int:
    """Write the records to `path`; returns how many. The file appears when it is whole, and not before.

    KeyboardInterrupt while reading `envelopes` ends the recording, which is then as whole as any.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    written = 0
    options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
    with partial.open("wb") as file, pa.ipc.new_stream(file, _SCHEMA, options=options) as writer:
        for batch in _batches(envelopes):
            writer.write_batch(pa.RecordBatch.from_pylist([_row(envelope) for envelope in batch], schema=_SCHEMA))
            written += len(batch)
    partial.replace(path)
    return written


def is_recording(path: str | Path) -> bool:
    """Whether the file begins as a recording does, whole or not. Raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        try:
            with pa.ipc.open_stream(file) as reader:
                return b"streamd.recording" in (reader.schema.metadata or {})
        except pa.ArrowException:
            return False


def read_recording(path: str | Path) -> Iterator[Envelope]:
    """The records of a file, in its order.

    Raises ValueError that names the file and the place when it is no recording, is cut short or is damaged.
    """
    path = Path(path)
    seen = 0
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            whole = file.tell() >= len(_END_OF_STREAM)
            if whole:
                file.seek(-len(_END_OF_STREAM), 2)
                whole = file.read() == _END_OF_STREAM
            file.seek(0)
            with pa.ipc.open_stream(file) as reader:
                version = (reader.schema.metadata or {}).get(b"streamd.recording")
                if version != _VERSION:
                    raise ValueError(f"{path}: not a recording of version 1 (streamd.recording is {version!r})")
                for batch in reader:
                    for row in batch.to_pylist():
                        yield _envelope(row, path, seen)
                        seen += 1
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise ValueError(f"{path}: cannot be read after record {seen}: {error}") from error
    if not whole:
        raise ValueError(f"{path}: cut short after record {seen}: the end mark is missing")


def _batches(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Group the records so that a batch stays small in number and in bytes."""
    batch: list[Envelope] = []
    size = 0
    try:
        for envelope in envelopes:
            batch.append(envelope)
            size += len(envelope.key or b"") + len(envelope.value or b"")
            if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except KeyboardInterrupt:
        pass
    if batch:
        yield batch


def _crc32(envelope: Envelope) -> int:
    """Of what cannot be guessed; a null counts differently from no bytes."""
    crc = 0
    for part in (envelope.key, envelope.value, *(value for _, value in envelope.headers)):
        crc = zlib.crc32(b"\x00" if part is None else b"\x01" + part, crc)
    for name, _ in envelope.headers:
        crc = zlib.crc32(name.encode(), crc)
    return crc


def _row(envelope: Envelope) -> dict[str, Any]:
    return {
        "topic": envelope.topic,
        "partition": envelope.partition,
        "offset": envelope.offset,
        "timestamp_ms": envelope.timestamp_ms,
        "key": envelope.key,
        "value": envelope.value,
        "headers": [{"name": name, "value": value} for name, value in envelope.headers],
        "crc32": _crc32(envelope),
    }


def _envelope(row: dict[str, Any], path: Path, index: int) -> Envelope:
    envelope = Envelope(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        timestamp_ms=row["timestamp_ms"],
        key=row["key"],
        value=row["value"],
        headers=tuple((header["name"], header["value"]) for header in row["headers"]),
    )
    if _crc32(envelope) != row["crc32"]:
        place = f"{envelope.topic}/{envelope.partition}/{envelope.offset}"
        raise ValueError(f"{path}: record {index} ({place}) is damaged: its checksum does not fit")
    return envelope
