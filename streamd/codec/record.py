"""One record as the formats see it: its headers, and what they say when the payload is silent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from streamd.codec.limits import Limits
from streamd.codec.names import check_ahead, check_count, check_stream, parse_time
from streamd.errors import InvalidRecord, Reason
from streamd.model import Envelope
from streamd.table import Table

SCHEMA_VERSION = 1

_PART = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Content(NamedTuple):
    """What the payload of a feature batch says, whatever its format. None: it does not say."""

    table: Table
    ids: tuple[str, ...] | None = None
    stream: object = None
    ts: object = None
    role: object = None
    version: object = None


@dataclass(frozen=True, slots=True)
class Record:
    """An envelope with its headers by lower-case name (the last of a name wins, as in Kafka's own client).

    `subject` and `time` are those of the CloudEvent around the payload, if there is one.
    """

    envelope: Envelope
    limits: Limits
    headers: Mapping[str, bytes]
    subject: str | None = None
    time: str | None = None

    @classmethod
    def of(cls, envelope: Envelope, limits: Limits) -> Record:
        """Read the headers.

        Raises:
            InvalidRecord: TOO_MANY_HEADERS, BAD_UTF8, UNKNOWN_VERSION.
        """
        if not envelope.headers:
            return cls(envelope, limits, {})
        check_count(len(envelope.headers), "headers", limits.headers, Reason.TOO_MANY_HEADERS)
        headers = {name.lower(): value for name, value in envelope.headers if value is not None}
        record = cls(envelope, limits, headers)
        check_version(record.text("streamd-schema-version"), "the header streamd-schema-version")
        check_specversion(record.text("ce_specversion"))
        return replace(record, subject=record.text("ce_subject"), time=record.text("ce_time"))

    def text(self, name: str) -> str | None:
        """The header `name` as text, stripped; None where it is not there or is empty."""
        value = self.headers.get(name)
        if not value:
            return None
        try:
            return value.decode().strip() or None
        except UnicodeDecodeError:
            raise InvalidRecord(Reason.BAD_UTF8, f"the header {name} is not UTF-8") from None

    def stream(self, named: object, key: str = "stream") -> str:
        """The stream's name: the payload's (`named`, under `key`), else the record key, else the CloudEvent's subject.

        Raises:
            InvalidRecord: NO_STREAM, BAD_STREAM_NAME, BAD_SCHEMA, BAD_UTF8.
        """
        if named is not None:
            if not isinstance(named, str):
                raise InvalidRecord(Reason.BAD_SCHEMA, f"`{key}` is a {type(named).__name__}, it must be a string")
            return check_stream(named, self.limits)
        if self.envelope.key:
            try:
                return check_stream(self.envelope.key.decode(), self.limits)
            except UnicodeDecodeError:
                raise InvalidRecord(
                    Reason.BAD_UTF8, f"the record key is not UTF-8 and the payload has no `{key}`: send one"
                ) from None
        if self.subject is not None:
            return check_stream(self.subject, self.limits)
        raise InvalidRecord(
            Reason.NO_STREAM, f"nothing names the stream: put `{key}` into the payload, or key the record by it"
        )

    def event_time(self, ts: object) -> int:
        """Epoch milliseconds: the payload's `ts`, else the CloudEvent's time, else the record's own.

        Raises:
            InvalidRecord: BAD_TIME.
        """
        own = self.envelope.timestamp_ms
        if ts is not None:
            return check_ahead(parse_time(ts, "`ts`"), own, "`ts`", self.limits)
        if self.time is not None:
            return check_ahead(parse_time(self.time, "ce_time"), own, "ce_time", self.limits)
        if own < 0:
            raise InvalidRecord(Reason.BAD_TIME, "neither the payload nor the record has a time: send `ts`")
        return own

    def role(self, named: object) -> str | None:
        """The role, from the payload (`named`) or the header `streamd-role`; None for plain data.

        Raises:
            InvalidRecord: BAD_ROLE where they contradict each other, or it is no string.
        """
        header = self.text("streamd-role")
        if named is not None and not isinstance(named, str):
            raise InvalidRecord(Reason.BAD_ROLE, f"`role` is a {type(named).__name__}, it must be a string")
        if named is not None and header is not None and named != header:
            raise InvalidRecord(
                Reason.BAD_ROLE, f"the payload's role is {named[:40]!r}, the header's {header[:40]!r}: send one of them"
            )
        return header if named is None else named

    def part(self) -> tuple[int, int]:
        """Which part of how many, counted from 1: the header `streamd-part`, `1/1` without it.

        Raises:
            InvalidRecord: BAD_PART.
        """
        header = self.text("streamd-part")
        if header is None:
            return 1, 1
        match = _PART.fullmatch(header)
        part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= part <= parts <= self.limits.parts:
            raise InvalidRecord(
                Reason.BAD_PART,
                f"the header streamd-part is {header[:40]!r}, it must be i/n with 1 ≤ i ≤ n ≤ {self.limits.parts}",
            )
        return part, parts


def check_version(version: object, where: str) -> None:
    """Raise UNKNOWN_VERSION unless `version` is the schema's, or is not given."""
    if version is None or (version == SCHEMA_VERSION and version is not True) or version == str(SCHEMA_VERSION):
        return
    raise InvalidRecord(
        Reason.UNKNOWN_VERSION,
        f"{where} is {str(version)[:40]!r}, this release reads version {SCHEMA_VERSION}: upgrade streamd first",
    )


def check_specversion(version: object) -> None:
    """Raise UNKNOWN_VERSION unless `version`, of CloudEvents, is 1.x, or is not given."""
    if version is not None and not str(version).startswith("1."):
        raise InvalidRecord(
            Reason.UNKNOWN_VERSION, f"CloudEvents specversion is {str(version)[:40]!r}, only 1.0 is read here"
        )
