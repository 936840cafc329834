"""What can go wrong, sorted by what to do about it.

=================  ==============================================================
ConfigError        the operator's: stop before any I/O, exit 78
InvalidRecord      the producer's: dead-letter the record, count it, go on
TransientError     the network's: back off, try again
anything else      ours: commit nothing, stop, say where
=================  ==============================================================
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class StreamdError(Exception):
    """The base of every error that streamd raises on purpose."""


class ConfigError(StreamdError):
    """The configuration cannot be used.

    Args:
        problems: one line each, `file:line:column key: problem; did you mean …`.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TransientError(StreamdError):
    """Something outside is unwell for now: wait and try again."""


class Reason(StrEnum):
    """Why a record could not be used. A metric's label, so the list is fixed and its words never change."""

    EMPTY = "empty"  # null or zero bytes
    NO_STREAM = "no_stream"  # neither payload, nor key, nor ce_subject names the stream
    BAD_STREAM_NAME = "bad_stream_name"  # empty, over the limit, control characters
    UNKNOWN_CONTENT_TYPE = "unknown_content_type"
    BAD_ENCODING = "bad_encoding"  # content-encoding unknown, or gzip/zstd that does not decompress
    BAD_UTF8 = "bad_utf8"
    NOT_JSON = "not_json"
    BAD_ARROW = "bad_arrow"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"  # decoded bytes over the limit (a gzip bomb too)
    TOO_MANY_ROWS = "too_many_rows"
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_HEADERS = "too_many_headers"
    NAME_TOO_LONG = "name_too_long"  # a column, metric, tensor or row id
    DUPLICATE_NAME = "duplicate_name"
    BAD_SCHEMA = "bad_schema"  # a key is missing or is of the wrong type
    BAD_SHAPE = "bad_shape"  # arrays or predictions whose shape does not fit the rows
    UNEQUAL_LENGTHS = "unequal_lengths"
    UNSUPPORTED_TYPE = "unsupported_type"  # an Arrow or V2 type that has no meaning here
    MIXED_TYPES = "mixed_types"  # numbers and strings in one column
    BAD_TIME = "bad_time"  # a ts that is no time, outside 2000-2100, or far ahead of the record's own
    BAD_ROLE = "bad_role"
    BAD_PART = "bad_part"
    UNKNOWN_VERSION = "unknown_version"  # a schema version that this release does not read
    CRASHED = "crashed"  # a detector raised twice on this record
    REFUSED = "refused"  # a person's accept or undo that means nothing: no such stream or column, nothing to undo

    @property
    def stage(self) -> Literal["decode", "validate", "process"]:
        """How far the record came: `decode` its bytes say nothing, `validate` what they say does not fit."""
        if self in (Reason.CRASHED, Reason.REFUSED):
            return "process"
        return "decode" if self in _BEFORE_MEANING else "validate"


_BEFORE_MEANING = frozenset(
    {
        Reason.EMPTY,
        Reason.UNKNOWN_CONTENT_TYPE,
        Reason.BAD_ENCODING,
        Reason.BAD_UTF8,
        Reason.NOT_JSON,
        Reason.BAD_ARROW,
        Reason.TOO_DEEP,
        Reason.TOO_LARGE,
        Reason.TOO_MANY_HEADERS,
    }
)


class InvalidRecord(StreamdError):  # noqa: N818 - it is a record, found invalid; the name is the contract's
    """A record that cannot be used, whoever is to blame for it.

    Args:
        reason: the fixed word that becomes the metric's label.
        detail: one sentence for people: what, where, what to do.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
