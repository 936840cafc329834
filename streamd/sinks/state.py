"""State ↔ records of the compacted state topic: parts, each in chunks, checked before they are believed. Pure.

    key      <owner>/<part>/<chunk>    streamd/streamd.features/3/snapshot/0/2
    headers  state-version 2 · state-offset 4711 · state-chunk 2/5 · state-sha256 of the whole part
    value    one chunk of the zstd frame; null: the chunk is gone

An owner is a group's partition. All of its records go to one partition of the state topic, whatever their key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import zstandard

from streamd.errors import ConfigError
from streamd.model import Envelope
from streamd.transport.base import Outgoing, Partition

FORMAT_VERSION = 4

CHUNK_BYTES = 900_000
"""Below 1 MB, Kafka's default limit of a record: the topic may have been made by somebody else."""

PART_BYTES_MAX = 2 * 1024**3
"""Of one part, decompressed: what a damaged or foreign record may make us allocate."""

_CHUNKS_MAX = 100_000  # what a foreign key may make us tombstone
_PROBLEMS_MAX = 50
_LEVEL = 1  # floats hardly shrink further at 3, and it takes twice as long
_WINDOW_BYTES_MAX = 8 * 1024 * 1024  # RFC 8878 (3.1.1.1.2): what every decoder grants
_DIGITS_MAX = 18  # of a number below 2**63

_VERSION, _OFFSET, _CHUNK, _SHA256 = "state-version", "state-offset", "state-chunk", "state-sha256"


class StateVersionError(ConfigError):
    """The state was written by another release of streamd, in a format that this one does not read."""


class StateTooLargeError(ConfigError):
    """A part is larger than what would be read back."""


@dataclass(frozen=True, slots=True)
class Part:
    """A named piece of state; `offset` is the input offset that it belongs to."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a state topic says about one owner.

    Attributes:
        parts: by name, each the last that was written whole at or below the committed offset.
        chunks: by name, how many chunk keys exist at most, whatever they hold: for `tombstones`.
        problems: a sentence for each thing that could not be used although it is newer than what is.
    """

    parts: dict[str, Part]
    chunks: dict[str, int]
    problems: list[str]


def owner_name(group_id: str, partition: Partition) -> str:
    """Who owns the state of a partition: `<group>/<topic>/<partition>`, so that no owner's keys begin like another's.

    >>> owner_name("team/a", Partition("streamd.features", 3))
    'team%2Fa/streamd.features/3'
    """
    return f"{quote(group_id, safe='')}/{partition.topic}/{partition.number}"


def part_records(owner: str, part: Part, topic: str, chunk_bytes: int = CHUNK_BYTES) -> list[Outgoing]:
    """A part as records, to be written in one transaction.

    A part that once had more chunks needs `tombstones` for the rest of them.

    Raises:
        StateTooLargeError: it is over PART_BYTES_MAX.
    """
    if len(part.data) > PART_BYTES_MAX:
        raise StateTooLargeError(
            f"the state of {owner} ({part.name}) has {len(part.data)} bytes, over {PART_BYTES_MAX}: give the input "
            "topic more partitions, or lower engine.streams_max or reference.rows_max"
        )
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(part.data)
    chunks = [frame[start : start + chunk_bytes] for start in range(0, len(frame), chunk_bytes)]
    common = (
        (_VERSION, b"%d" % FORMAT_VERSION),
        (_OFFSET, b"%d" % part.offset),
        (_SHA256, _sha256(owner, part.name, part.offset, chunks).encode()),
    )
    return [
        Outgoing(
            topic,
            _key(owner, part.name, index),
            chunk,
            (*common, (_CHUNK, b"%d/%d" % (index, len(chunks)))),
            placement=owner.encode(),
        )
        for index, chunk in enumerate(chunks)
    ]


def tombstones(
    owner: str, name: str, chunks: int, topic: str, start: int = 0, offset: int | None = None
) -> list[Outgoing]:
    """Records that remove the chunks `start` to `chunks` - 1 of a part.

    Args:
        owner, name, topic: as of its records.
        chunks: how many there may be, see `Assembled.chunks`.
        start: the first one to remove: as many as a new generation of the part has.
        offset: the input offset that is committed with them. A reader that finds less committed ignores them
            (some brokers show what was aborted); None: they always count.
    """
    headers = () if offset is None else ((_VERSION, b"%d" % FORMAT_VERSION), (_OFFSET, b"%d" % offset))
    return [
        Outgoing(topic, _key(owner, name, index), None, headers, placement=owner.encode())
        for index in range(start, chunks)
    ]


def assemble(records: Iterable[Envelope], owner: str, committed: int) -> Assembled:
    """What the records of a state partition, in their order, hold for the owner at its committed input offset.

    The topic is not trusted: records may be damaged, doubled, missing, another's, or from a transaction that was
    aborted; a compacted topic shows old chunks beside new ones. A part counts when all chunks of one generation
    are there and its checksum fits, which covers owner, name and offset too.

    Raises:
        StateVersionError: a record that nothing has replaced is of another format version.
    """
    gathering = _Gathering(owner, committed)
    for place, envelope in enumerate(records):
        gathering.take(place, envelope)
    return gathering.result()


@dataclass(frozen=True, slots=True)
class _Generation:
    """What the chunks of one writing of a part have in common."""

    offset: int
    chunks: int
    sha256: str


@dataclass(slots=True)
class _Chunk:
    place: int  # in the log
    data: bytes


class _Gathering:
    """Everything that was ever written, as far as the log still has it: the newest may turn out to be unusable."""

    def __init__(self, owner: str, committed: int) -> None:
        self._owner = owner
        self._prefix = f"{owner}/".encode()
        self._committed = committed
        self._names: dict[str, dict[_Generation, dict[int, _Chunk]]] = {}
        self._keys: dict[str, dict[int, int | None]] = {}  # part -> chunk -> format version of the last record there
        self._problems: dict[str, None] = {}  # an ordered set

    def take(self, place: int, envelope: Envelope) -> None:
        key = envelope.key or b""
        if not key.startswith(self._prefix):
            return  # owners share a partition
        name, _, last = key[len(self._prefix) :].decode("utf-8", "replace").rpartition("/")
        index = _number(last.encode())
        if not name or index is None or index >= _CHUNKS_MAX or key != _key(self._owner, name, index):
            self._problem(f"the key {key[:200]!r} is none of streamd's")
        elif envelope.value is None:
            self._remove(name, index, dict(envelope.headers))
        else:
            self._add(place, name, index, envelope.value, dict(envelope.headers))

    def _add(self, place: int, name: str, index: int, value: bytes, headers: Mapping[str, bytes | None]) -> None:
        version = _number(headers.get(_VERSION))
        self._keys.setdefault(name, {})[index] = version
        if version != FORMAT_VERSION:
            return  # what to say about it is known at the end: it may have been replaced
        offset = _number(headers.get(_OFFSET))
        number, _, count = (headers.get(_CHUNK) or b"").partition(b"/")
        chunks = _number(count)
        if offset is None or chunks is None or _number(number) != index or not index < chunks <= _CHUNKS_MAX:
            self._problem(f"chunk {index} of {name} has headers that make no sense")
            return
        generation = _Generation(offset, chunks, (headers.get(_SHA256) or b"").decode("ascii", "replace"))
        self._names.setdefault(name, {}).setdefault(generation, {})[index] = _Chunk(place, value)

    def _remove(self, name: str, index: int, headers: Mapping[str, bytes | None]) -> None:
        offset = _number(headers.get(_OFFSET))
        if offset is not None and offset > self._committed:
            return  # of a transaction that was not committed
        self._keys.get(name, {}).pop(index, None)
        for chunks in self._names.get(name, {}).values():
            chunks.pop(index, None)

    def result(self) -> Assembled:
        parts: dict[str, Part] = {}
        for name, keys in self._keys.items():
            self._check_versions(name, keys)
        for name, generations in self._names.items():
            whole_since = {g: min(c.place for c in chunks.values()) for g, chunks in generations.items() if chunks}
            for generation in sorted(whole_since, key=whole_since.__getitem__, reverse=True):
                data, problem = self._open(name, generation, generations[generation])
                if data is not None:
                    parts[name] = Part(name, generation.offset, data)
                    break
                self._problem(f"{name} of input offset {generation.offset} cannot be used: {problem}")
        chunks = {name: max(keys) + 1 for name, keys in self._keys.items() if keys}
        return Assembled(parts, chunks, list(self._problems))

    def _check_versions(self, name: str, keys: Mapping[int, int | None]) -> None:
        for index, version in keys.items():
            if version is None:
                self._problem(f"chunk {index} of {name} does not say which format version it has")
            elif version != FORMAT_VERSION:
                raise StateVersionError(
                    f"the state of {self._owner} ({name}) has format version {version}, and this release of streamd "
                    f"reads {FORMAT_VERSION}: run the release that wrote it, or begin anew with another kafka.group_id "
                    "or topics.state (references and all that was learned start from the records still in the input)"
                )

    def _open(self, name: str, generation: _Generation, chunks: Mapping[int, _Chunk]) -> tuple[bytes | None, str]:
        """The data, or None and why."""
        if generation.offset > self._committed:
            return None, f"the group has committed {self._committed} only"
        if len(chunks) < generation.chunks:
            return None, f"{len(chunks)} of its {generation.chunks} chunks are there"
        ordered = [chunks[index].data for index in range(generation.chunks)]
        if _sha256(self._owner, name, generation.offset, ordered) != generation.sha256:
            return None, "its checksum does not fit"
        frame = b"".join(ordered)
        try:
            # Without a size, or with one over the limit, it is not what `part_records` writes.
            if not 0 <= zstandard.frame_content_size(frame) <= PART_BYTES_MAX:
                return None, f"it would be over {PART_BYTES_MAX} bytes"
            decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
            return decompressor.decompress(frame, allow_extra_data=False), ""
        except zstandard.ZstdError as error:
            return None, f"it does not decompress: {error}"

    def _problem(self, sentence: str) -> None:
        if len(self._problems) < _PROBLEMS_MAX:
            self._problems[sentence] = None


def _key(owner: str, name: str, index: int) -> bytes:
    return f"{owner}/{name}/{index}".encode()


def _sha256(owner: str, name: str, offset: int, chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256(f"{owner}\0{name}\0{offset}\0".encode())
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _number(digits: bytes | None) -> int | None:
    """A whole number as it is written here; None for anything else."""
    if digits is None or not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return None
    return int(digits)
